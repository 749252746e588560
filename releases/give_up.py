"""The ways out of a rollout that fails: what was started is stopped, and what served before goes on serving."""

from collections.abc import Callable, Mapping

from roadbed.deploys.app import AppSettings
from roadbed.engine.errors import OperationFailed, RoadbedError
from roadbed.engine.session import Session

from . import instances
from .gate import journal
from .host_state import HostState, serves
from .one_at_a_time import OneAtATime
from .plan import Plan
from .protocols import Fleet
from .stages import Stopped
from .switch import Switch


class GiveUp:
    """Both methods return the Stopped to raise, with what serves now and where the release can be looked at.

    ``retire(session, host, instances)`` stops instances that are out of the routing. ``turning`` are turns, whose old
    instances come back when the new ones are gone.
    """

    def __init__(
        self,
        fleet: Fleet,
        app: AppSettings,
        plan: Plan,
        states: Mapping[str, HostState],
        retire: Callable[[Session, str, tuple[str, ...]], None],
        turning: OneAtATime | None = None,
    ) -> None:
        self.fleet, self.app, self.plan, self.states, self.retire = fleet, app, plan, states, retire
        self.turning = turning

    def before_switch(self, stopped: Stopped) -> Stopped:
        """An instance is not healthy, or nginx does not reach it. What served before was not touched."""
        plan = self.plan

        def undo(session: Session, host: str) -> None:
            if self.turning and (names := self.turning.came(host)):
                self.retire(session, host, names)
            instances.stop(session, self.app, plan.start[host])
            if plan.switch:
                instances.disable(session, self.app, plan.start[host])
            self._mark(session, host)

        if self.turning and (left := self.turning.lead_back()):
            return self._because(stopped.errors, f"{', '.join(left)} may still send visitors to it, so it runs on")
        self.fleet.each(plan.start, undo)
        return self._because(
            self._restored(stopped.errors), serving(self.states) if plan.switch else "the other instances go on serving"
        )

    def after_switch(self, switch: Switch, stopped: Stopped) -> Stopped:
        """nginx does not serve the release: the traffic goes back first, and only then its instances are stopped."""
        plan, evidence = self.plan, self._journals()
        errors: dict[str, RoadbedError] = {
            host: OperationFailed(f"{error}{evidence}") for host, error in stopped.errors.items()
        }
        if not switch.undoable:
            return self._because(errors, f"the traffic was at {plan.release} already, and stays there")
        try:
            switch.undo()
        except Stopped as again:
            return self._because(errors | again.errors, "the traffic could not be led back everywhere: run again")

        def undo(session: Session, host: str) -> None:
            self.retire(session, host, plan.instances[host])
            instances.disable(session, self.app, plan.instances[host])
            self._mark(session, host)

        self.fleet.each(plan.instances, undo)
        return self._because(self._restored(errors), f"the traffic was led back: {serving(self.states)}")

    def _restored(self, errors: Mapping[str, RoadbedError]) -> dict[str, RoadbedError]:
        """``errors``, and those of old instances that did not come back after their turn."""
        more = self.turning.restore() if self.turning else {}
        texts = {host: f"{errors[host]}\n" if host in errors else "" for host in more}
        found = {host: OperationFailed(f"{texts[host]}{host}: {said}") for host, said in more.items()}
        return dict(errors) | found

    def _mark(self, session: Session, host: str) -> None:
        """A release that serves is not a failed one: it was only to be started anew, with other settings."""
        if self.plan.switch and serves(self.states) != self.plan.release:
            instances.mark(session, self.app, self.plan.release, "failed")

    def _journals(self) -> str:
        """The last lines of the first instance on each app host."""

        def read(session: Session, host: str) -> str:
            return journal(session, self.app.unit(self.plan.slot, 0))

        found = self.fleet.each(self.plan.instances, read)
        texts = {host: text for host, text in found.items() if isinstance(text, str) and text}
        lines = [f"  {line}" for host, text in texts.items() for line in (f"journal on {host}:", *text.splitlines())]
        return "".join(f"\n{line}" for line in lines)

    def _because(self, errors: Mapping[str, RoadbedError], now: str) -> Stopped:
        kept_at = f"{self.app.root}/releases/{self.plan.release}"
        texts = {host: f"{error}\n{host}: {now}. The release is kept in {kept_at}" for host, error in errors.items()}
        return Stopped({host: OperationFailed(text) for host, text in texts.items()})


def serving(states: Mapping[str, HostState]) -> str:
    """What served when these states were read."""
    before = serves(states)
    return f"{before} goes on serving" if before else "nothing was switched to it"
