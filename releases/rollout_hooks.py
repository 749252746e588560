"""The hooks of a rollout: before_switch, after_switch, and on_failure when it stopped."""

import time
from collections.abc import Mapping

from roadbed.deploys.hooks import Hook
from roadbed.engine.errors import OperationFailed, RoadbedError

from .artefact import Artefact
from .hook_process import HookFailed
from .hooks import Facts, Hooks, reason
from .host_state import HostState
from .plan import Plan
from .protocols import Run
from .stages import Stages


class RolloutHooks:
    """The hooks around a rollout to ``hosts``. ``action`` is the command: deploy, rollback; empty for a phase.

    They run here, in the main thread, so that Ctrl-C ends them; the report shows them under the first of the hosts.
    """

    def __init__(self, artefact: Artefact, run: Run, hosts: list[str], stages: Stages, action: str = "") -> None:
        self._artefact, self._run, self._hosts, self._stages = artefact, run, hosts, stages
        self._hooks, self.action = Hooks(run.fleet.inventory), action or run.phase
        self._states: Mapping[str, HostState] = {}

    def know(self, states: Mapping[str, HostState]) -> None:
        """What the hosts have, before anything is done."""
        self._states = states

    def before_switch(self, plan: Plan) -> None:
        """When the new instances are healthy, before any request goes to them. Raises Stopped when it fails."""
        hook: Hook = "before_switch"
        if plan.switch and (command := self._hooks.command(hook)):
            self._stages.here(self._hosts[0], f"Run {hook} here: {command}", lambda: self._gate(hook, command))

    def after_switch(self, plan: Plan) -> None:
        """When the release is current; a run that finishes what an interrupted one has switched tells it too."""
        if plan.switch or (plan.current and plan.release not in self._current()):
            self._tell("after_switch")

    def failed(self, errors: Mapping[str, RoadbedError]) -> None:
        """When the rollout stopped because of ``errors``, by host. Nothing in a dry run."""
        if not self._run.dry_run:
            self._tell("on_failure", "\n".join(dict.fromkeys(str(error) for error in errors.values())))

    def _gate(self, hook: Hook, command: str) -> str:
        try:
            return self._perform(hook)
        except HookFailed as failed:
            release = self._artefact.release
            raise OperationFailed(
                f"app/hooks/{hook}: `{command}` {failed.with_outcome(f'no request went to {release}')}"
            ) from None

    def _tell(self, hook: Hook, why: str = "") -> None:
        if (command := self._hooks.command(hook)) is None:
            return
        began, host, title = time.monotonic(), self._hosts[0], f"Run {hook} here: {command}"
        try:
            said = self._perform(hook, why)
        except HookFailed as failed:
            said = f"warning: app/hooks/{hook}: `{command}` {failed}"
        self._stages.tell([host], title, "changed", time.monotonic() - began, said)

    def _perform(self, hook: Hook, why: str = "") -> str:
        host, folder = self._hosts[0], self._hooks.folder(self._artefact.job)
        self._stages.doing(host, f"Running {hook} here")
        return self._hooks.perform(
            hook, self._facts(why), folder, line=lambda text: self._stages.doing(host, f"{hook}: {text}")
        )

    def _facts(self, why: str) -> Facts:
        return self._hooks.facts(
            self.action,
            release=self._artefact.release,
            previous_release=next(iter(self._current()), ""),
            commit=self._artefact.manifest.commit or "",
            phase=self._run.phase,
            hosts=" ".join(self._hosts),
            reason=reason(why),
        )

    def _current(self) -> list[str]:
        """The releases that were current, the first of them that of the first host which had one."""
        return list(dict.fromkeys(state.current for state in self._states.values() if state.current))
