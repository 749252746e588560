"""Hooks of a release: commands of the user's own, before and after a build and a switch, and when something failed.

One rule for all: they run on the control machine, with the user's own environment and a few variables that say
what goes on (``Facts``). The two of a build run in the copy of the project that is built, the others in the project's
own folder, or in the inventory's when the release is a file. None of them is part of a release: another hook builds
nothing anew.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from roadbed.deploys.hooks import Hook
from roadbed.engine.inventory import Inventory
from roadbed.engine.owner import owner

from . import cache
from .hook_process import HookFailed, perform
from .job import Job

REASON = 4000
"""Characters of ROADBED_REASON: enough for a message to a chat, and far from what an environment may hold."""


@dataclass(frozen=True)
class Facts:
    """What a hook is told, each as ROADBED_<NAME>; what is not known yet is empty.

    ``hosts`` are names, with blanks between them. ``action`` is build, deploy, rollback or the name of a phase.
    """

    stack: str
    domain: str
    owner: str
    action: str
    release: str = ""
    previous_release: str = ""
    commit: str = ""
    phase: str = ""
    hosts: str = ""
    reason: str = ""

    def variables(self, hook: Hook) -> dict[str, str]:
        """As environment variables."""
        values = {f"ROADBED_{name.upper()}": value for name, value in asdict(self).items()}
        return {**values, "ROADBED_HOOK": hook}


class Hooks:
    """The hooks of one stack."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def command(self, hook: Hook) -> str | None:
        """The command line of a hook, if there is one."""
        command: str | None = getattr(self._inventory.app.hooks, hook)
        return command

    def facts(self, action: str, **more: str) -> Facts:
        """What is known of every stack, and ``more``."""
        return Facts(self._inventory.name, self._inventory.app.domain, owner(), action, **more)

    def folder(self, job: Job | None) -> Path:
        """Where hooks run that are not those of a build: in the project, or beside the inventory."""
        source = job.project.path if job else self._inventory.source
        return source if source.is_dir() else self._inventory.path.parent

    def perform(
        self,
        hook: Hook,
        facts: Facts,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        line: Callable[[str], None] = lambda text: None,
    ) -> str:
        """Runs a hook that there is and returns its last lines; ``env`` wins over the user's own. Raises HookFailed.

        ``line`` is told the last line from time to time. The log is named by hook and stack.
        """
        app, command = self._inventory.app, self.command(hook)
        assert command is not None
        try:
            return perform(
                command,
                folder=folder,
                env={**os.environ, **(env or {}), **facts.variables(hook)},
                log=cache.build_folder(app.name) / f"{hook}.{self._inventory.name}.log",
                seconds=app.hooks.seconds(hook),
                line=line,
            )
        except OSError as error:
            raise HookFailed(f"could not be run: {error.strerror or error}") from None


def reason(error: object) -> str:
    """An error as ROADBED_REASON: the same text that is shown, as far as it is short."""
    text = str(error).replace("\0", "")
    return text if len(text) <= REASON else text[: REASON - 4] + "\n..."
