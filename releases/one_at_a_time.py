"""A rollout whose instances take turns (``turns.py``): hosts lack the memory for old and new side by side.

Visitors are divided by the number of instances, old and new, so that none has more to do than the others. An instance
that goes is first taken out of the routing of every nginx (``drain.py``). Where there is not even the memory for one
more, one instance is missing during each turn. No release is kept for open pages: there is no room for it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from roadbed.deploys.canary import public_link
from roadbed.deploys.environment import instance_addresses
from roadbed.engine.errors import OperationFailed, Refused, RoadbedError
from roadbed.engine.session import Session

from . import instances, share
from .canary import between
from .drain import Drain
from .gate import gate, port_of
from .host_state import HostState, released
from .plan import Plan, Units
from .protocols import Fleet
from .scripts import script
from .share import InSlot
from .stages import Stopped
from .start import Start
from .surge import Surge
from .turns import Pools, Turn, Turns, active, percent


@dataclass
class OneAtATime:
    """The turns of one rollout to ``plan``.

    ``states`` are the hosts before it, ``pools`` the app hosts of each web host, and ``inspect`` looks at a host anew.
    ``retire(session, host, instances)`` stops instances that nginx sends nothing to any more.
    """

    turns: Turns
    plan: Plan
    states: Mapping[str, HostState]
    pools: Pools
    fleet: Fleet
    start: Start
    inspect: Callable[[Session, str], HostState]
    retire: Callable[[Session, str, tuple[str, ...]], None]
    _went: list[Turn] = field(default_factory=list)
    _came: list[Turn] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app, self.stages = self.start.app, self.start.stages
        self.tight = {turn.host for turn in (*self.turns.before, *self.turns.after)}
        self.web = tuple(web for web, hosts in self.pools.items() if self.tight & set(hosts))
        self._waiting = list(self.turns.before)

    @property
    def others(self) -> Plan:
        """The plan without what turns do: hosts with enough memory start all at once, and stop after the switch."""
        plan, tight = self.plan, self.tight
        retire = {host: tuple(n for n in names if n not in self.turns.of(host)) for host, names in plan.retire.items()}
        return replace(
            plan,
            start={host: names for host, names in plan.start.items() if host not in tight},
            enable={host: names for host, names in plan.enable.items() if host not in tight},
            retire={host: names for host, names in retire.items() if names},
        )

    def check(self) -> None:
        """Whether instances can be taken out of the routing at all, before anything is done. Raises Stopped."""
        for host in self.tight:
            try:
                Drain(self.fleet, self.start.contexts, host, self._askers(host)).check()
            except RoadbedError as error:
                self.stages.fail({host: error}, f"Start release {self.plan.release}")

    def begin(self) -> None:
        """Takes turns until every nginx can be asked for the new release; no visitor gets it. Raises Stopped."""
        while not all(percent(self._new, self._old, hosts) for hosts in self.pools.values()):
            self._turn(self._waiting.pop(0))

    def go_on(self) -> None:
        """Takes the turns that are left before the switch, and gives the new instances their part of the visitors.

        Raises Stopped. The share is for the caller to take back, once the flags are switched. Ctrl-C and a kill leave
        it as it is: it suits the instances that run.
        """
        self._give_share()
        while self._waiting:
            self._turn(self._waiting.pop(0))
            self._give_share()

    def finish(self) -> dict[str, RoadbedError]:
        """Takes the turns after the switch. The release serves by then, so a failure ends nothing: returns the errors
        of hosts that have one instance less now."""
        errors: dict[str, RoadbedError] = {}
        for turn in self.turns.after:
            try:
                if turn.old:
                    self.stages.ask([turn.host], self._title(turn), self._retiring(turn.old))
                self._start(turn, "")
            except Stopped as stopped:
                text = f"{self.plan.release} serves, without {turn.new}. Run again"
                errors |= {host: OperationFailed(f"{error}\n{text}") for host, error in stopped.errors.items()}
        return errors

    def lead_back(self) -> list[str]:
        """Sends all visitors to the old instances; returns the web hosts on which that failed."""
        answers = self.fleet.each(self.web, lambda session, _: share.clear_share(session, self.app))
        time.sleep(share.SETTLE)
        return [host for host, answer in answers.items() if isinstance(answer, RoadbedError)]

    def restore(self) -> dict[str, str]:
        """Starts the old instances again, once the new ones are gone; host -> what did not come back.

        They start with the environment that the host has now. One that is not healthy with it is stopped again: it
        would get requests, because its slot serves.
        """
        release = released(self.states, str(self.plan.before)) or ""
        gone = {host: [turn.old for turn in self._went if turn.old and turn.host == host] for host in self.tight}

        def start(session: Session, host: str) -> str:
            instances.start(session, self.app, gone[host])
            addresses = instance_addresses(self.start.contexts[host], host)
            verdict = gate(session, self.app, release, addresses, gone[host])
            sick = [one.instance.rpartition("@")[2] for one in verdict.unhealthy]
            if sick:
                instances.stop(session, self.app, sick)
            return "\n".join(map(str, verdict.unhealthy))

        answers = self.fleet.each([host for host, names in gone.items() if names], start)
        return {host: str(said) for host, said in answers.items() if str(said)}

    def came(self, host: str) -> tuple[str, ...]:
        """The new instances of a host that were started and healthy: visitors may be at them."""
        return tuple(turn.new for turn in self._came if turn.host == host)

    def _retiring(self, name: str) -> Callable[[Session, str], None]:
        return lambda session, host: self.retire(session, host, (name,))

    @property
    def _new(self) -> Units:
        """The new instances that run: those of hosts that have enough memory, and those that had their turn."""
        mine = active(self.plan.slot, self.states, self.tight)
        found = {host: mine.get(host, names) for host, names in self.plan.instances.items()}
        return {host: (*names, *self.came(host)) for host, names in found.items()}

    @property
    def _old(self) -> Units:
        """The old instances that run."""
        found = active(str(self.plan.before), self.states, self.plan.instances)
        gone = {(turn.host, turn.old) for turn in self._went}
        return {host: tuple(name for name in names if (host, name) not in gone) for host, names in found.items()}

    def _title(self, turn: Turn) -> str:
        return f"Start {turn.new} in place of {turn.old}" if turn.old else f"Start {turn.new}"

    def _turn(self, turn: Turn) -> None:
        """First the new one comes, if there is the memory for one more; else the old one goes first."""
        title = self._title(turn)
        state = self.stages.ask([turn.host], title, self.inspect)[turn.host]
        available = None if state.available_kb is None else state.available_kb // 1024
        surge = Surge(1, self.start.contexts[turn.host].sizing().memory_mb, available)
        if surge.fits:
            self._start(turn, str(surge))
            self._stop(turn, title)
        elif turn.old:
            self._stop(turn, title)
            self._start(turn, f"{surge}: {turn.old} was stopped first")
        else:
            self.stages.fail({turn.host: OperationFailed(f"{turn.host}: {surge}")}, title)

    def _start(self, turn: Turn, detail: str) -> None:
        """It starts at boot from now on. No nginx sends to it before it is healthy, whatever share its slot has."""

        def begin(session: Session, host: str) -> str:
            try:
                said = self.start.begin(session, host, (turn.new,))
            except OperationFailed:
                instances.stop(session, self.app, (turn.new,))
                raise
            instances.enable(session, self.app, (turn.new,))
            return "\n".join(filter(None, [detail, said]))

        with self._out_of_routing(turn.host, turn.new, self._title(turn)):
            self.stages.stage([turn.host], self._title(turn), begin)
        self._came.append(turn)

    def _stop(self, turn: Turn, title: str) -> None:
        """Out of the routing, and only when nothing is under way any more SIGTERM."""
        if turn.old is None:
            return
        names = (turn.old,)
        with self._out_of_routing(turn.host, turn.old, title) as out:
            out.wait(self.app.drain, lambda left: self.stages.doing(turn.host, f"{names[0]}: {left} connections left"))
            self._went.append(turn)
            self.stages.ask([turn.host], title, lambda session, _: instances.stop(session, self.app, names))

    @contextmanager
    def _out_of_routing(self, host: str, name: str, title: str) -> Iterator[Drain]:
        """Every nginx passes over one instance meanwhile. Raises Stopped; Refused when the lock is lost."""
        port = port_of(self.app, name)
        out = Drain(self.fleet, self.start.contexts, host, self._askers(host), ports=(port, port))
        try:
            out.begin()
            yield out
        except Refused:
            raise
        except RoadbedError as error:
            self.stages.fail({host: error}, title)
        finally:
            with suppress(RoadbedError):  # it ends by itself
                out.end()

    def _askers(self, host: str) -> list[str]:
        return [web for web, hosts in self.pools.items() if host in hosts]

    def _give_share(self) -> None:
        """Each web host sends its visitors to old and new by their numbers."""
        mine = InSlot(self.plan.slot, self.plan.release, self.start.artefact.manifest.deployment_id)
        change = between(mine, self.states, self.web, self.plan.start)
        if change is None:
            return
        both, title = (change.old, change.new), "Divide the visitors between old and new instances"
        shares = {web: percent(self._new, self._old, self.pools[web]) for web in self.web}

        def give(session: Session, web: str) -> None:
            session.run(script("publish", root=self.app.root, id=mine.release, link=public_link(mine.slot)))
            share.set_share(session, self.app, mine.slot, shares[web], both)

        self.stages.ask(self.web, title, give)
