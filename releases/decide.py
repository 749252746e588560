"""What a rollout has to do: from the states of the hosts to a plan. Pure, so that every crash can be tested.

The slots mean the same on every host: a web host that is told "slot b" sends to slot b of all
app hosts. So one slot is chosen for the whole fleet.
"""

from collections.abc import Mapping

from roadbed.deploys.app import SLOTS
from roadbed.engine.errors import OperationFailed

from .host_state import HostState
from .kept import choose, old_flags, rank, slot_of
from .plan import Plan


def decide(
    release: str,
    digests: Mapping[str, str],
    states: Mapping[str, HostState],
    replicas: Mapping[str, int],
    web: tuple[str, ...],
    *,
    deployment: str | None = None,
    skew: bool = True,
    make_room: bool = False,
) -> Plan:
    """The plan that brings ``release``, whose pages name it ``deployment``, to service.

    ``states`` and ``digests`` (of the files a host should have) cover every app and web host,
    ``replicas`` is the number of instances of each app host, ``web`` names the web hosts. The
    release stays in the slot that serves it already, unless an environment or unit changed (debt)
    or a host runs more instances than it should; otherwise it is started anew in a slot that
    serves nothing.

    ``skew``: the release that served until now is kept for open pages. One that was kept before goes after the switch,
    or with ``make_room`` before anything is started. Raises OperationFailed when no slot is free.
    """
    apps = {host: states[host] for host in replicas}
    fronts = {host: states[host] for host in web}
    live = {slot for state in fronts.values() if (slot := state.serving())}
    stays = [slot for slot in sorted(live) if _serves(slot, release, apps, replicas)]
    slot = stays[0] if stays else _free_slot(live, apps, fronts)
    keep = choose(release, deployment, slot, live, apps, fronts, only_live=make_room) if skew else None
    wanted = {host: set(_instances(slot, number)) for host, number in replicas.items()}
    spared = {host: names | ({keep.instance} if keep else set()) for host, names in wanted.items()}

    idle = set(SLOTS) - live
    late: set[str] = set() if stays or make_room else {one for one in idle - {slot} if rank(one, apps, fronts)}
    early = idle - late
    stop_first = {
        host: {name for name in state.running() - ({keep.instance} if keep else set()) if name[0] in early}
        for host, state in apps.items()
    }
    flags = {host: old_flags(state) - ({keep.flag} if keep else set()) for host, state in fronts.items()}
    soon = {host: {flag for flag in found if slot_of(flag) in early} for host, found in flags.items()}
    notes = {host: set(state.kept) - ({keep.slot} if keep else set()) for host, state in apps.items()}
    active = {
        host: {name for name, condition in state.instances.items() if condition == "active"} if stays else set()
        for host, state in apps.items()
    }
    keepers = [host for host, state in apps.items() if keep and keep.instance in state.running()]
    replaced = keep is not None and keep.slot in live
    return Plan(
        release=release,
        slot=slot,
        keep=keep,
        before=next(iter(sorted(live - {slot})), None),
        instances=_units(wanted),
        unflag_first=_words(soon),
        unnote_first=_words({host: found & (early | {slot}) for host, found in notes.items()}),
        upload=tuple(host for host, state in states.items() if _lacks(state, release, digests[host])),
        stop_first=_units(stop_first),
        link=tuple(host for host, state in apps.items() if state.slots.get(slot) != release),
        start=_units({host: names - active[host] for host, names in wanted.items()}),
        enable=_units({host: names - apps[host].enabled for host, names in wanted.items()}),
        publish=tuple(host for host in web if (states[host].static, states[host].public) != (release, release)),
        flag=web if replaced else (),
        switch=tuple(host for host in web if _active_flags(states[host]) != {f"active.{slot}"}),
        unflag=_words({host: found - soon[host] for host, found in flags.items()}),
        note=tuple(host for host in keepers if keep and (replaced or keep.slot not in apps[host].kept)),
        retire=_units({host: apps[host].running() - spared[host] - stop_first[host] for host in apps}),
        unnote=_words({host: found - early - {slot} for host, found in notes.items()}),
        disable=_units({host: set(apps[host].enabled) - spared[host] for host in apps}),
        current=tuple(host for host, state in states.items() if state.current != release),
        pay=tuple(host for host, state in apps.items() if state.debt),
    )


def _serves(slot: str, release: str, apps: Mapping[str, HostState], replicas: Mapping[str, int]) -> bool:
    """Whether ``release`` can stay in a slot that gets requests: there, at most some instances are missing."""
    for host, state in apps.items():
        running = {name for name in state.running() if name[0] == slot}
        surplus = running - set(_instances(slot, replicas[host]))
        other_release = running and state.slots.get(slot) != release
        if state.debt or surplus or other_release:
            return False
    return any(state.slots.get(slot) == release for state in apps.values())


def _free_slot(live: set[str], apps: Mapping[str, HostState], web: Mapping[str, HostState]) -> str:
    """A slot that serves nothing: an empty one first, then one with the least to keep."""
    busy = {name[0] for state in apps.values() for name in state.running()}
    free = [slot for slot in SLOTS if slot not in live]
    if not free:
        serving = ", ".join(f"{host}: {state.serving()}" for host, state in web.items())
        raise OperationFailed(
            f"the web hosts send requests to all three slots ({serving}), because several rollouts were interrupted. "
            "Roll out again the release that most of them serve; then there is a free slot"
        )
    return min(free, key=lambda slot: (rank(slot, apps, web), slot in busy, slot))


def _instances(slot: str, number: int) -> tuple[str, ...]:
    return tuple(f"{slot}-{count}" for count in range(number))


def _lacks(state: HostState, release: str, digest: str) -> bool:
    here = state.releases.get(release)
    return here is None or here.digest != digest


def _active_flags(state: HostState) -> set[str]:
    return {flag for flag in state.flags if flag.startswith("active.")}


def _units(chosen: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {host: tuple(sorted(names, key=_order)) for host, names in chosen.items() if names}


def _words(chosen: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {host: tuple(sorted(names)) for host, names in chosen.items() if names}


def _order(name: str) -> tuple[str, int]:
    slot, _, number = name.partition("-")
    return slot, int(number)
