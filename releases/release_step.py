"""The release step of a converge and of `provision deploy` and `rollback`; ``rollout.py`` does its work."""

from dataclasses import dataclass

from roadbed.deploys.context import ROADMAP
from roadbed.engine.errors import OperationFailed, RoadbedError

from .artefact import Artefact
from .canary import Canary
from .protocols import Run
from .rollout import Rollout
from .rollout_hooks import RolloutHooks
from .scope import incomplete
from .stages import Stages, Stopped


@dataclass(frozen=True)
class ReleaseStep:
    """The step between the components app and nginx.

    ``action`` is what hooks and the history are told: deploy, rollback, or the phase that a converge brings the hosts
    to. With a ``canary`` visitors get the new release by and by. ``keep_old``: the release that served until now is
    kept for open pages, as ``app.skew`` has it; not when it has to go at once, because it does harm, say.
    """

    artefact: Artefact
    action: str = "deploy"
    canary: Canary | None = None
    keep_old: bool = True
    name: str = "release"
    roles: tuple[str, ...] = ("app", "web")
    needs: tuple[str, ...] = ("node", "app")

    def run(self, run: Run, hosts: list[str]) -> dict[str, RoadbedError]:
        """Brings the release to service; returns the errors of the hosts on which it is not."""
        stages = Stages(run, self.name)
        hooks = RolloutHooks(self.artefact, run, hosts, stages, self.action)
        together = ROADMAP.index(run.phase) >= ROADMAP.index("phase3")
        if reason := incomplete(run.fleet.inventory, self.roles, hosts, run.hosts_in_play, together=together):
            lacking: dict[str, RoadbedError] = {host: OperationFailed(f"{host}: {reason}") for host in hosts}
            hooks.failed(lacking)
            return lacking
        try:
            rollout = Rollout(self.artefact, run, hosts, stages, hooks, self.canary, keep_old=self.keep_old)
            rollout.perform()
        except Stopped as stopped:
            hooks.failed(stopped.errors)
            because = f"the rollout of {self.artefact.release} stopped because of {next(iter(stopped.errors))}"
            return {host: OperationFailed(f"{host}: {because}") for host in hosts} | stopped.errors
        return {}
