"""The hooks of a build: before_build, after_build, and on_failure when it stopped."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from roadbed.deploys.hooks import Hook
from roadbed.engine.errors import RoadbedError
from roadbed.engine.inventory import Inventory

from . import next_build
from .command import BuildFailed
from .hook_process import HookFailed
from .hooks import Facts, Hooks, reason
from .job import Job


class BuildHooks:
    """The hooks around a build. Those of the build itself see what it sees, and the user's own environment."""

    def __init__(self, inventory: Inventory, job: Job) -> None:
        self._hooks, self._job, self._release = Hooks(inventory), job, ""

    def around(self, release: str) -> AbstractContextManager[None]:
        """A block that builds ``release``: before_build first, after_build last.

        Raises BuildFailed when one of the two fails.
        """
        self._release = release
        return self._around()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Runs on_failure when the build inside fails, which is raised on; a hook that fails is told and no more."""
        try:
            yield
        except RoadbedError as error:
            self._tell(error)
            raise

    @contextmanager
    def _around(self) -> Iterator[None]:
        self._gate("before_build")
        yield
        self._gate("after_build")

    def _gate(self, hook: Hook) -> None:
        if (command := self._hooks.command(hook)) is None:
            return
        self._job.say(f"Running {hook}: {command}")
        env = next_build.with_programs(self._job, {})
        try:
            said = self._hooks.perform(hook, self._facts(), self._job.folder, env=env)
        except HookFailed as failed:
            raise BuildFailed(f"app/hooks/{hook}: `{command}` {failed.with_outcome('no host was touched')}") from None
        for text in said.splitlines():
            self._job.say(f"  {hook}: {text}")

    def _tell(self, error: RoadbedError) -> None:
        if (command := self._hooks.command("on_failure")) is None:
            return
        self._job.say(f"Running on_failure: {command}")
        try:
            self._hooks.perform("on_failure", self._facts(reason(error)), self._hooks.folder(self._job))
        except HookFailed as failed:
            self._job.say(f"warning: app/hooks/on_failure: `{command}` {failed}")

    def _facts(self, why: str = "") -> Facts:
        commit = self._job.git(self._job.project.root).commit or ""
        return self._hooks.facts("build", release=self._release, commit=commit, reason=why)
