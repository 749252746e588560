"""The switch of a rollout: the flags by which every nginx of the stack chooses a slot, and the way back."""

import time
from collections.abc import Mapping
from secrets import token_hex

from roadbed.deploys.app import AppSettings
from roadbed.engine.errors import OperationFailed
from roadbed.engine.session import Session

from . import instances
from .host_state import HostState, released, serves
from .plan import Plan
from .scripts import script
from .stages import Stages
from .through_nginx import verify

SETTLE = 1.0
"""Seconds between two steps of a switch: every nginx worker has seen the flags, routed requests have arrived."""


class Switch:
    """The flags of one rollout on all web hosts. Adding always comes before removing: at no moment is there none."""

    def __init__(
        self, app: AppSettings, plan: Plan, states: Mapping[str, HostState], web: tuple[str, ...], stages: Stages
    ) -> None:
        self.app, self.plan, self.states, self.web, self.stages = app, plan, states, web, stages
        self.title = f"Switch traffic to slot {plan.slot}"
        self.judged = [host for host in plan.switch if states[host].nginx]
        """The web hosts whose nginx can be asked: it runs, and knows the app as the inventory has it."""

    def rehearse(self) -> None:
        """Has each nginx ask for the new release before any visitor is led there. Raises Stopped when one cannot.

        The questions name a release that nobody else names, and a flag leads that name to the new slot. An nginx that
        does not serve the release of before either is no judge: a later step of the run may mend it.
        """
        hosts, name = list(self.judged), f"rehearsal-{token_hex(8)}"
        flag, title = f"old.{name}.{self.plan.slot}", "Ask nginx for the new release, ahead of the visitors"

        def ask(session: Session, host: str) -> None:
            try:
                verify(session, self.app, self.plan.release, self.states[host], named=name)
            except OperationFailed:
                if self._serves_before(session, host):
                    raise
                self.judged.remove(host)

        try:
            self.stages.ask(hosts, title, lambda session, _: instances.add_old_flag(session, self.app, flag))
            self.stages.ask(hosts, title, ask)
        finally:
            self.stages.ask(hosts, title, lambda session, _: instances.remove_old_flags(session, self.app, [flag]))

    def _serves_before(self, session: Session, host: str) -> bool:
        state = self.states[host]
        try:
            verify(session, self.app, serves(self.states) or "", state)
        except OperationFailed:
            return False
        return True

    def perform(self) -> None:
        """Leads open pages to the release they are of, and then everybody else to the new one."""
        plan, started = self.plan, time.monotonic()
        if keep := plan.keep:
            self.stages.ask(plan.flag, self.title, lambda s, _: instances.add_old_flag(s, self.app, keep.flag))
        if plan.switch:
            self._to(plan.slot, plan.switch)
            self.stages.tell(plan.switch, self.title, "changed", time.monotonic() - started)

    def verify(self) -> None:
        """Raises Stopped when nginx on a web host does not serve the new release."""
        self.stages.ask(
            self.judged,
            "Ask nginx for the new release",
            lambda session, host: verify(session, self.app, self.plan.release, self.states[host]),
        )

    @property
    def undoable(self) -> bool:
        """Whether all traffic can go back where it was: to the slot of before, or nowhere before the first release."""
        return self.plan.before is not None or not any(self.states[host].serving() for host in self.web)

    def undo(self) -> None:
        """Puts the flags and the files of nginx back as they were before. Raises Stopped."""
        self._to(self.plan.before, self.web)
        if (keep := self.plan.keep) and self.plan.flag:
            self.stages.ask(self.web, self.title, lambda s, _: instances.remove_old_flags(s, self.app, [keep.flag]))

        def files(session: Session, host: str) -> None:
            before = released(self.states, self.plan.before) if self.plan.before else None
            if before and before in self.states[host].releases:
                session.run(script("publish", root=self.app.root, id=before))

        self.stages.ask(self.web, self.title, files)
        self.stages.ask(self.states, self.title, lambda session, _: instances.end_switch(session, self.app))

    def let_go(self) -> None:
        """Open pages of older releases belong to the new one from now on; then their instances may be stopped."""
        remove_old(self.app, self.plan.unflag, self.stages)

    def _to(self, slot: str | None, hosts: tuple[str, ...]) -> None:
        if slot is not None:
            self.stages.ask(hosts, self.title, lambda session, _: instances.add_flag(session, self.app, slot))
            time.sleep(SETTLE)
        self.stages.ask(hosts, self.title, lambda session, _: instances.remove_flags(session, self.app, slot or "none"))
        time.sleep(SETTLE)


def remove_old(app: AppSettings, flags: Mapping[str, tuple[str, ...]], stages: Stages) -> None:
    """Takes flags of kept releases from web hosts, and waits until the requests that followed them have arrived."""
    if flags:
        title = "Let go of open pages of older releases"
        stages.ask(flags, title, lambda session, host: instances.remove_old_flags(session, app, flags[host]))
        time.sleep(SETTLE)
