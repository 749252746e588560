"""A rollout whose instances take turns (``turns.py``): hosts lack the memory for old and new side by side.

Visitors are divided by the number of instances, old and new, so that none has more to do than the others. An instance
that goes is first taken out of the routing of every nginx (``drain.py``). Where there is not even the memory for one
more, one instance is missing during each turn. No release is kept for open pages: there is no room for it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from roadbed.deploys.canary import public_link
from roadbed.engine.errors import OperationFailed, RoadbedError
from roadbed.engine.session import Session

from . import instances, share
from .canary import between
from .drain import Drain
from .gate import port_of
from .host_state import HostState
from .plan import Plan, Units
from .protocols import Fleet
from .scripts import script
from .share import InSlot
from .start import Start
from .surge import Surge
from .turns import Pools, Turn, Turns, percent, running


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

    def begin(self) -> None:
        """Takes turns until every nginx can be asked for the new release; no visitor gets it. Raises Stopped."""
        while not all(percent(self._new, self._old, hosts) for hosts in self.pools.values()):
            self._turn(self._waiting.pop(0))

    def go_on(self) -> None:
        """Takes the turns that are left before the switch, and gives the new instances their part of the visitors.

        Raises Stopped. The share is for the caller to take back, once the flags are switched.
        """
        try:
            self._give_share()
            while self._waiting:
                self._turn(self._waiting.pop(0))
                self._give_share()
        except KeyboardInterrupt:
            self.lead_back()
            raise

    def finish(self) -> None:
        """Takes the turns after the switch. Raises Stopped: then the release serves, and a host has one less."""
        for turn in self.turns.after:
            if turn.old:
                self.stages.ask([turn.host], self._title(turn), self._retiring(turn.old))
            self._start(turn, "")
        plan = {host: names for host, names in self.plan.enable.items() if host in self.tight}
        title = f"Start release {self.plan.release} at boot"
        self.stages.ask(plan, title, lambda session, host: instances.enable(session, self.app, plan[host]))

    def lead_back(self) -> list[str]:
        """Sends all visitors to the old instances; returns the web hosts on which that failed."""
        answers = self.fleet.each(self.web, lambda session, _: share.clear_share(session, self.app))
        time.sleep(share.SETTLE)
        return [host for host, answer in answers.items() if isinstance(answer, RoadbedError)]

    def restore(self) -> None:
        """Starts the old instances again, once the new ones are gone. One that does not come up is for the next run."""
        gone = {host: [t.old for t in self._went if t.old and t.host == host] for host in self.tight}
        hosts = [host for host, names in gone.items() if names]
        self.fleet.each(hosts, lambda session, host: instances.start(session, self.app, gone[host]))

    def _retiring(self, name: str) -> Callable[[Session, str], None]:
        return lambda session, host: self.retire(session, host, (name,))

    @property
    def _new(self) -> Units:
        """The new instances that run: those of hosts that have enough memory, and those that had their turn."""
        found = {host: names for host, names in self.plan.instances.items() if host not in self.tight}
        for turn in self._came:
            found[turn.host] = (*found.get(turn.host, ()), turn.new)
        return found

    @property
    def _old(self) -> Units:
        """The old instances that run."""
        found = running(str(self.plan.before), self.states, self.plan.instances)
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
        def begin(session: Session, host: str) -> str:
            return "\n".join(filter(None, [detail, self.start.begin(session, host, (turn.new,))]))

        self.stages.stage([turn.host], self._title(turn), begin)
        self._came.append(turn)

    def _stop(self, turn: Turn, title: str) -> None:
        """Out of the routing, and only when nothing is under way any more SIGTERM."""
        if turn.old is None:
            return
        names, port = (turn.old,), port_of(self.app, turn.old)
        askers = [web for web, hosts in self.pools.items() if turn.host in hosts]
        out = Drain(self.fleet, self.start.contexts, turn.host, askers, ports=(port, port))
        try:
            out.begin()
            out.wait(self.app.drain, lambda left: self.stages.doing(turn.host, f"{turn.old}: {left} connections left"))
            self._went.append(turn)
            self.stages.ask([turn.host], title, lambda session, _: instances.stop(session, self.app, names))
        except RoadbedError as error:
            self.stages.fail({turn.host: error}, title)
        finally:
            out.end()

    def _give_share(self) -> None:
        """Each web host sends its visitors to old and new by their numbers."""
        change = between(self._in_slot, self.states, self.web, self.plan.start)
        if change is None:
            return
        both, title = (change.old, change.new), "Divide the visitors between old and new instances"
        shares = {web: percent(self._new, self._old, self.pools[web]) for web in self.web}

        def give(session: Session, web: str) -> None:
            new = change.new
            session.run(script("publish", root=self.app.root, id=new.release, link=public_link(new.slot)))
            share.set_share(session, self.app, new.slot, shares[web], both)

        self.stages.ask(self.web, title, give)

    @property
    def _in_slot(self) -> InSlot:
        return InSlot(self.plan.slot, self.plan.release, self.start.artefact.manifest.deployment_id)
