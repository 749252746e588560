"""A stack as it is at this moment: what each host runs, and what an interrupted run has left there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from roadbed.deploys.app import SLOTS, AppSettings
from roadbed.engine.holder import Holder, holder_on
from roadbed.engine.inventory import Inventory
from roadbed.engine.session import Session

from .host_state import HostState, inspect
from .scripts import script

LIVE, SKEW, IDLE, SENDS = "live", "kept for skew", "serves nothing", "requests go there"


@dataclass(frozen=True)
class HostStatus:
    """One host. ``pending`` are restarts that are owed, ``partial`` releases that were not uploaded to their end."""

    state: HostState = field(default_factory=HostState)
    pending: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    holder: Holder | None = None
    phase: str = ""


@dataclass(frozen=True)
class Slot:
    """A slot on a host. ``counts``: state of systemd -> number of instances; ``use``: what the slot is to the stack."""

    slot: str
    release: str | None
    counts: Mapping[str, int]
    use: str


def look(session: Session, app: AppSettings, phase: str) -> HostStatus:
    """Asks a host, changing nothing and taking no lock. Raises HostUnreachable."""
    facts: dict[str, list[str]] = {"pending": [], "partial": []}
    for line in session.run(script("left", root=app.root)).out.splitlines():
        word, _, value = line.partition(" ")
        facts[word].append(value)
    left = {name: tuple(values) for name, values in facts.items()}
    return HostStatus(inspect(session, app), holder=holder_on(session, app.name), phase=phase, **left)


def serving(stack: Inventory, hosts: Mapping[str, HostStatus]) -> dict[str, str]:
    """Web host -> the slot that its nginx sends requests to."""
    web = [name for name in stack.with_role("web") if name in hosts]
    return {name: slot for name in web if (slot := hosts[name].state.serving())}


def slots(stack: Inventory, hosts: Mapping[str, HostStatus], name: str) -> list[Slot]:
    """The slots of a host that matter: those with instances, and those that a web host sends requests to."""
    state, live, kept = hosts[name].state, set(serving(stack, hosts).values()), _kept(hosts)
    mine = state.serving() if "web" in stack.roles_of(name) else None
    found = []
    for slot in SLOTS:
        states = [condition for instance, condition in state.instances.items() if instance.startswith(f"{slot}-")]
        counts = {condition: states.count(condition) for condition in states if condition != "inactive"}
        if counts:
            use = LIVE if slot in live else SKEW if slot in kept else IDLE
            found.append(Slot(slot, state.slots.get(slot), counts, use))
        elif slot == mine:
            found.append(Slot(slot, state.static, {}, SENDS))
    return found


def leftovers(stack: Inventory, hosts: Mapping[str, HostStatus]) -> Iterator[tuple[str, str]]:
    """(host, what) of all that an interrupted run has left, and the next rollout cleans up."""
    chosen = serving(stack, hosts)
    if len(set(chosen.values())) > 1:
        for name, slot in chosen.items():
            yield name, f"sends requests to slot {slot}, and other web hosts to another one"
    all_web = all(name in hosts for name in stack.with_role("web"))
    for name, status in hosts.items():
        flags = [slot for slot in SLOTS if f"active.{slot}" in status.state.flags]
        if len(flags) > 1:
            yield name, f"has flags of the slots {', '.join(flags)}; requests go to {status.state.serving()}"
        for one in slots(stack, hosts, name) if all_web else ():
            if one.use == IDLE and (running := _running(status.state, one.slot)):
                yield name, f"{', '.join(running)} of release {one.release} run in a slot that serves nothing"
        for release in status.partial:
            yield name, f"has a part of release {release}"


def as_json(stack: Inventory, hosts: Mapping[str, HostStatus], name: str) -> dict[str, Any]:
    """Plain data of one host for ``--json``."""
    status = hosts[name]
    instances = {
        instance: {"state": condition, "release": status.state.slots.get(instance[0])}
        for instance, condition in status.state.instances.items()
    }
    return {
        "reachable": True,
        "phase": status.phase or None,
        "release": status.state.current or status.state.static,
        "slot": status.state.serving() if "web" in stack.roles_of(name) else None,
        "flags": sorted(status.state.flags),
        "instances": instances,
        "slots": {slot.slot: {"release": slot.release, "use": slot.use} for slot in slots(stack, hosts, name)},
        "free_bytes": status.state.free_kb * 1024,
        "pending": list(status.pending),
        "left": [what for host, what in leftovers(stack, hosts) if host == name],
        "lock": status.holder.as_json() if status.holder else None,
    }


def _kept(hosts: Mapping[str, HostStatus]) -> set[str]:
    """Slots to which requests of old pages go: flags ``old.<release>.<slot>``."""
    flags = {flag for status in hosts.values() for flag in status.state.flags}
    return {flag.rpartition(".")[2] for flag in flags if flag.startswith("old.")}


def _running(state: HostState, slot: str) -> list[str]:
    return sorted(name for name in state.running() if name.startswith(f"{slot}-"))
