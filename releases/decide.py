"""What a rollout has to do: from the states of the hosts to a plan. Pure, so that every crash can be tested.

The slots mean the same on every host: a web host that is told "slot b" sends to slot b of all
app hosts. So one slot is chosen for the whole fleet.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from roadbed.deploys.app import SLOTS

from .host_state import HostState

Units = Mapping[str, tuple[str, ...]]
"""Host -> instances, such as ``{"app-1": ("b-0", "b-1")}``."""


@dataclass(frozen=True)
class Plan:
    """The work of a rollout, in the order of the fields. Empty fields: that is as it should be already.

    ``stop_first`` are instances that an interrupted rollout left; ``retire`` those of the release
    that served until now. ``publish`` are web hosts whose files, ``switch`` whose flags differ.
    """

    release: str
    slot: str
    upload: tuple[str, ...]
    stop_first: Units
    link: tuple[str, ...]
    start: Units
    enable: Units
    publish: tuple[str, ...]
    switch: tuple[str, ...]
    retire: Units
    disable: Units
    current: tuple[str, ...]
    pay: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Whether the release runs everywhere as it should."""
        work = (self.upload, self.stop_first, self.link, self.start, self.enable, self.publish, self.switch)
        return not any((*work, self.retire, self.disable, self.current, self.pay))


def decide(
    release: str,
    digests: Mapping[str, str],
    states: Mapping[str, HostState],
    replicas: Mapping[str, int],
    web: tuple[str, ...],
) -> Plan:
    """The plan that brings ``release`` to service.

    ``states`` and ``digests`` (of the files a host should have) cover every app and web host,
    ``replicas`` is the number of instances of each app host, ``web`` names the web hosts. The
    release stays in the slot that serves it already, unless an environment or unit changed (debt)
    or a host runs more instances than it should; otherwise it is started anew in a slot that
    serves nothing.
    """
    apps = {host: states[host] for host in replicas}
    live = {slot for host in web if (slot := states[host].serving())}
    stays = [slot for slot in sorted(live) if _serves(slot, release, apps, replicas)]
    slot = stays[0] if stays else _free_slot(live, apps)
    wanted = {host: _instances(slot, number) for host, number in replicas.items()}
    idle = set(SLOTS) - live
    leftover = {host: {name for name in state.running() if name[0] in idle} for host, state in apps.items()}
    stop_first = {host: names if not stays else names - set(wanted[host]) for host, names in leftover.items()}
    active = {
        host: {name for name, condition in state.instances.items() if condition == "active"} if stays else set()
        for host, state in apps.items()
    }
    return Plan(
        release=release,
        slot=slot,
        upload=tuple(host for host, state in states.items() if _lacks(state, release, digests[host])),
        stop_first=_units(stop_first),
        link=tuple(host for host, state in apps.items() if state.slots.get(slot) != release),
        start=_units({host: set(names) - active[host] for host, names in wanted.items()}),
        enable=_units({host: set(names) - apps[host].enabled for host, names in wanted.items()}),
        publish=tuple(host for host in web if (states[host].static, states[host].public) != (release, release)),
        switch=tuple(host for host in web if _active_flags(states[host]) != {f"active.{slot}"}),
        retire=_units({host: apps[host].running() - set(wanted[host]) - stop_first[host] for host in apps}),
        disable=_units({host: set(apps[host].enabled) - set(wanted[host]) for host in apps}),
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


def _free_slot(live: set[str], apps: Mapping[str, HostState]) -> str:
    """A slot that serves nothing, an empty one first."""
    busy = {name[0] for state in apps.values() for name in state.running()}
    return min((slot for slot in SLOTS if slot not in live), key=lambda slot: (slot in busy, slot))


def _instances(slot: str, number: int) -> tuple[str, ...]:
    return tuple(f"{slot}-{count}" for count in range(number))


def _lacks(state: HostState, release: str, digest: str) -> bool:
    here = state.releases.get(release)
    return here is None or here.digest != digest


def _active_flags(state: HostState) -> set[str]:
    return {flag for flag in state.flags if flag.startswith("active.")}


def _units(chosen: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {host: tuple(sorted(names, key=_order)) for host, names in chosen.items() if names}


def _order(name: str) -> tuple[str, int]:
    slot, _, number = name.partition("-")
    return slot, int(number)
