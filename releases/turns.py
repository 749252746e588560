"""Turns: instances that replace one another one at a time, where memory does not do for old and new side by side. Pure.

A turn takes one old instance of a host out and starts a new one. Most turns are before the switch. So that every
nginx has an old instance until then, some are after it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from .host_state import HostState
from .plan import Plan, Units


@dataclass(frozen=True)
class Turn:
    """``old`` (``a-1``) goes and ``new`` (``b-0``) comes, on ``host``. Without ``old``: it does not run."""

    host: str
    old: str | None
    new: str


@dataclass(frozen=True)
class Turns:
    """The turns ``before`` and ``after`` the switch, in their order."""

    before: tuple[Turn, ...]
    after: tuple[Turn, ...]

    def of(self, host: str) -> frozenset[str]:
        """The old instances of ``host`` that a turn takes out."""
        return frozenset(turn.old for turn in (*self.before, *self.after) if turn.host == host and turn.old)


Pools = Mapping[str, tuple[str, ...]]
"""Web host -> the app hosts that its nginx sends requests to."""


def divide(plan: Plan, states: Mapping[str, HostState], tight: Iterable[str], pools: Pools) -> Turns | None:
    """The turns of the hosts whose memory is ``tight``; None where there would be a moment without an instance.

    That is so before the first release, when instances are only missing, and when an nginx has one instance alone.
    """
    before = plan.before
    if before is None or not plan.switch:
        return None
    serving = {host: set(names) for host, names in active(before, states, states).items()}
    rounds = zip_longest(*(_turns(host, before, states[host], plan.start[host]) for host in tight))
    turns = [turn for one in rounds for turn in one if turn]
    tight, after = frozenset(tight), list[Turn]()
    for hosts in pools.values():
        mine = [turn for turn in turns if turn.host in hosts]
        if not mine or any(serving.get(host) and host not in tight for host in hosts) or any(t in after for t in mine):
            continue
        after.append(next((turn for turn in reversed(mine) if turn.old in serving[turn.host]), mine[-1]))
    first = [turn for turn in turns if turn not in after]
    there = {host for host, names in active(plan.slot, states, states).items() if names}
    for hosts in pools.values():
        new = {turn.host for turn in first} | (plan.start.keys() - tight) | there
        if any(turn.host in hosts for turn in turns) and not new & set(hosts):
            return None
    return Turns(tuple(first), tuple(after))


def percent(new: Units, old: Units, hosts: Iterable[str]) -> int:
    """The share of the visitors, 1-99, for the ``new`` instances of a web host that sends to ``hosts``; 0: none is
    there. It is their part of all that run, so each instance, old or new, has as much to do as any other."""
    hosts = tuple(hosts)
    came, stayed = (sum(len(units.get(host, ())) for host in hosts) for units in (new, old))
    return min(99, max(1, 100 * came // (came + stayed))) if came else 0


def active(slot: str, states: Mapping[str, HostState], hosts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The instances in ``slot`` that are up, by host: not those that are starting, or starting over and over."""
    return {host: tuple(name for name in _in_slot(slot, states[host]) if _up(states[host], name)) for host in hosts}


def _turns(host: str, before: str, state: HostState, new: tuple[str, ...]) -> list[Turn]:
    """An old instance that is not up goes first, and then the one with the highest number."""
    old = sorted(_in_slot(before, state), key=lambda name: not _up(state, name))
    missing = [None] * (len(new) - len(old))
    return [Turn(host, goes, comes) for goes, comes in zip([*missing, *reversed(old)], new, strict=False)]


def _up(state: HostState, name: str) -> bool:
    return state.instances[name] == "active"


def _in_slot(slot: str, state: HostState) -> list[str]:
    return sorted((name for name in state.running() if name[0] == slot), key=lambda name: int(name[2:]))
