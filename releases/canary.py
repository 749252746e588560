"""The canary: a new release gets a growing share of the visitors, for as long as it does as well as the old one.

It stands between the health gate and the switch. The share is set by flag files (``share.py``), what visitors get is
counted from the access logs (``traffic.py``), and compared with what those of the old release get in the same time
(``verdict.py``). A release that does worse is taken out of the routing before its instances are stopped.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from roadbed.deploys.canary import public_link
from roadbed.engine.errors import OperationFailed, RoadbedError
from roadbed.engine.session import Session

from . import instances, share
from .evidence import Evidence, journals
from .host_state import HostState
from .protocols import Fleet
from .scripts import script
from .stages import Stages, Stopped
from .traffic import Counted, Traffic, count
from .verdict import LEAST_REQUESTS, told, worse

LOOK_SECONDS = 10.0
"""Between two looks at the logs: a release that fails is taken back long before its step ends."""
LOG_SECONDS = 1.5
"""After which a request that has ended stands in the log: nginx writes it within 1 s (flush=1s)."""


@dataclass(frozen=True)
class Canary:
    """Shares in percent, rising to 100, and the seconds for which each is watched."""

    steps: tuple[int, ...]
    watch: float


@dataclass(frozen=True)
class Change:
    """What a canary is about: the web hosts, both releases, and the new one's instances by app host."""

    web: tuple[str, ...]
    old: share.InSlot
    new: share.InSlot
    units: Mapping[str, tuple[str, ...]]


def between(
    new: share.InSlot, states: Mapping[str, HostState], web: tuple[str, ...], units: Mapping[str, tuple[str, ...]]
) -> Change | None:
    """The change from the release that serves on all ``web`` hosts to ``new``; None where no single one does."""
    live = {states[host].serving() for host in web}
    slot = next(iter(live)) if len(live) == 1 else None
    release = next((state.slots[slot] for state in states.values() if slot in state.slots), None) if slot else None
    if slot is None or release is None or slot == new.slot:
        return None
    known = [state.releases[release] for state in states.values() if release in state.releases]
    named = next((here.deployment for here in known if here.deployment), None)
    return Change(web, share.InSlot(slot, release, named), new, units)


Retire = Callable[[Session, str, tuple[str, ...]], None]
"""``retire(session, host, instances)`` stops instances that nginx sends nothing to any more."""


def perform(canary: Canary, stages: Stages, fleet: Fleet, change: Change, retire: Retire) -> None:
    """Goes through the steps of ``canary``, and ends with all visitors at the new release, by the share alone.

    The active flag is for the caller to switch, who then takes the share back (``share.take_back``). Raises Stopped
    when the new release does worse or a host fails: by then nobody is sent to it any more, its instances are stopped
    and it is marked as failed. Ctrl-C takes the share back too; what a killed run leaves, the next one clears.
    """
    watched = _Watched(stages, fleet, change, retire)
    try:
        watched.prepare()
        for percent in canary.steps:
            watched.step(percent, canary.watch)
    except KeyboardInterrupt:
        watched.clear()
        watched.evidence.end("stopped", "Ctrl-C")
        raise
    except Stopped as stopped:
        raise watched.give_up(stopped.errors) from None
    watched.evidence.end("passed")


class _Watched:
    """A canary at work."""

    def __init__(self, stages: Stages, fleet: Fleet, change: Change, retire: Retire) -> None:
        self.stages, self.fleet, self.change, self.app = stages, fleet, change, fleet.inventory.app
        self.retire = retire
        self.evidence = Evidence(fleet.inventory.name, change.new.release, change.old.release, change.new.slot)
        self.marks: dict[str, tuple[str, int]] = {}
        self.before = Traffic()
        """What the old release's visitors got until now: for steps in which it has hardly any."""

    def prepare(self) -> None:
        """The files of the new release lie where nginx looks for them, beside those of the old one."""
        self.stages.stage(self.change.web, f"Give nginx the files of {self.change.new.release} too", self._publish)
        self.before = self._count()[0]

    def _publish(self, session: Session, _: str) -> None:
        new = self.change.new
        session.run(script("publish", root=self.app.root, id=new.release, link=public_link(new.slot)))

    def step(self, percent: int, seconds: float) -> None:
        """Sets the share and watches it. Raises Stopped, with the reason for each web host, when it does worse."""
        change, began = self.change, time.monotonic()
        old_one, new_one = change.old, change.new
        title = f"Send {percent} % of the visitors to {new_one.release}"
        self.stages.ask(
            change.web,
            title,
            lambda session, _: share.set_share(session, self.app, new_one.slot, percent, (old_one, new_one)),
        )
        old, new, reason, ended = Traffic(), Traffic(), "", False
        self.evidence.step(percent, seconds)
        while not (reason or ended):
            left = began + seconds - time.monotonic()
            ended = left <= LOOK_SECONDS
            time.sleep(max(0.0, left) + LOG_SECONDS if ended else LOOK_SECONDS)
            more_old, more_new = self._count()
            old, new = old + more_old, new + more_new
            enough = old if old.requests >= LEAST_REQUESTS else self.before + old
            reason = worse(enough, new)
            self.evidence.figures(enough, new, reason)
            for host in change.web:
                self.stages.doing(host, f"{percent} % of the visitors to {new_one.release}: {told(new)}")
        self.before = self.before + old
        if reason:
            text = f"{new_one.release} at {percent} % of the visitors: {reason}"
            error = {host: OperationFailed(f"{host}: {text}") for host in change.web}
            self.stages.tell(change.web, title, "failed", time.monotonic() - began, text)
            raise Stopped(dict(error))
        few = "" if new.requests >= LEAST_REQUESTS else f"\ntoo few to compare times: {LEAST_REQUESTS} are needed"
        detail = f"new: {told(new)}\nold: {told(enough)}{few}"
        self.stages.tell(change.web[:1], title, "changed", time.monotonic() - began, detail)
        self.stages.tell(change.web[1:], title, "changed", time.monotonic() - began)

    def _count(self) -> tuple[Traffic, Traffic]:
        """What the visitors of both releases got since the last time, on all web hosts. Raises Stopped."""

        def one(session: Session, host: str) -> Counted:
            return count(session, self.app, releases, change.new.slot, self.marks.get(host))

        change = self.change
        releases = {one.slot: one.release for one in (change.old, change.new)}
        old, new = Traffic(), Traffic()
        for host, counted in self.stages.ask(change.web, "Read the access log", one).items():
            since, self.marks[host] = self.marks.get(host), counted.mark
            old += counted.by_slot.get(change.old.slot, Traffic())
            new += counted.by_slot.get(change.new.slot, Traffic())
            if since:
                self.evidence.lines(host, counted.lines, counted.skipped)
        return old, new

    def clear(self) -> list[str]:
        """Takes the share back everywhere; returns the web hosts on which that failed."""
        answers = self.fleet.each(self.change.web, lambda session, _: share.clear_share(session, self.app))
        return [host for host, answer in answers.items() if isinstance(answer, RoadbedError)]

    def give_up(self, errors: Mapping[str, RoadbedError]) -> Stopped:
        """Takes the share back, and only where that worked everywhere stops the instances; says what is kept where."""
        change, left = self.change, self.clear()
        logged = self.fleet.each(change.units, lambda session, host: journals(session, self.app, change.units[host]))
        self.evidence.journals({host: text for host, text in logged.items() if not isinstance(text, RoadbedError)})
        if left:
            state = f"{', '.join(left)} may still send visitors to {change.new.release}, so it runs on. Deploy again"
        else:
            time.sleep(share.SETTLE)
            self.fleet.each(change.units, lambda session, host: self._stop(session, host, change.units[host]))
            state = f"{change.old.release} serves all visitors; {change.new.release} is stopped and marked failed"
        path = self.evidence.end("aborted", "\n".join(map(str, errors.values())))
        shown = "".join(f"\n  {line}" for line in self.evidence.shown())
        first, *others = errors
        said = {first: type(errors[first])(f"{errors[first]}\n{state}. Kept in {path}{shown}")}
        return Stopped(said | {host: errors[host] for host in others})

    def _stop(self, session: Session, host: str, names: tuple[str, ...]) -> None:
        instances.disable(session, self.app, names)
        with suppress(OperationFailed):  # what waits at a sick instance is lost with it
            self.retire(session, host, names)
        instances.stop(session, self.app, names)
        instances.mark(session, self.app, self.change.new.release, "failed")
