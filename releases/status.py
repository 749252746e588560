"""A stack as it is at this moment: what each host runs, and what an interrupted run has left there."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from roadbed.deploys import canary, maintenance
from roadbed.deploys.app import SLOTS, AppSettings
from roadbed.engine.holder import Holder, holder_on
from roadbed.engine.inventory import Inventory
from roadbed.engine.session import Session

from .host_state import HostState, inspect
from .scripts import script

LIVE, SKEW, IDLE, SENDS = "live", "kept for skew", "idle", "sends there"
"""What a slot is to the stack: it serves; it answers the pages it made; nothing asks it; a web host without the app
sends requests there."""


@dataclass(frozen=True)
class HostStatus:
    """One host. ``pending`` are restarts that are owed, ``partial`` releases that were not uploaded to their end,
    ``down`` services that start at boot and do not run, each with its state."""

    state: HostState = field(default_factory=HostState)
    pending: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
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
    facts: dict[str, list[str]] = {"pending": [], "partial": [], "down": []}
    for line in session.run(script("left", root=app.root)).out.splitlines():
        word, _, value = line.partition(" ")
        facts[word].append(value)
    left = {name: tuple(values) for name, values in facts.items()}
    return HostStatus(inspect(session, app), holder=holder_on(session, app.name), phase=phase, **left)


def stopped(app: AppSettings, status: HostStatus) -> list[str]:
    """Services and instances of a host that should run and do not, each with its state."""
    there = {instance: status.state.instances.get(instance, "inactive") for instance in sorted(status.state.enabled)}
    return [*status.down, *(f"{app.name}@{name}.service {state}" for name, state in there.items() if state != "active")]


def serving(stack: Inventory, hosts: Mapping[str, HostStatus]) -> dict[str, str]:
    """Web host -> the slot that its nginx sends requests to."""
    web = [name for name in stack.with_role("web") if name in hosts]
    return {name: slot for name in web if (slot := hosts[name].state.serving())}


def slots(stack: Inventory, hosts: Mapping[str, HostStatus], name: str) -> list[Slot]:
    """The slots of a host that matter: those with instances, and those that a web host sends requests to."""
    state, uses = hosts[name].state, _uses(stack, hosts, name)
    mine = state.serving() if "web" in stack.roles_of(name) else None
    found = []
    for slot in SLOTS:
        states = [condition for instance, condition in state.instances.items() if instance.startswith(f"{slot}-")]
        counts = {condition: states.count(condition) for condition in states if condition != "inactive"}
        if counts:
            found.append(Slot(slot, state.slots.get(slot), counts, uses.get(slot, IDLE)))
        elif slot == mine:
            found.append(Slot(slot, state.static, {}, SENDS))
    return found


def shares(state: HostState) -> dict[str, int]:
    """Slot -> percent of the visitors that a web host sends there beside the one that serves (a canary)."""
    if canary.SWITCH not in state.flags:
        return {}
    words = [flag.split(".") for flag in sorted(state.flags)]
    return dict(Counter(word[2] for word in words if len(word) == 3 and word[0] == "canary" and word[1].isdigit()))


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
        for slot, percent in shares(status.state).items():
            yield name, f"sends {percent} % of the visitors to slot {slot}"
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
        "flags": sorted(flag for flag in status.state.flags if not flag.startswith("canary.")),
        "shares": shares(status.state),
        "maintenance": maintenance.FLAG in status.state.flags,
        "instances": instances,
        "slots": {slot.slot: {"release": slot.release, "use": slot.use} for slot in slots(stack, hosts, name)},
        "free_bytes": status.state.free_kb * 1024,
        "pending": list(status.pending),
        "down": stopped(stack.app, status),
        "left": [what for host, what in leftovers(stack, hosts) if host == name],
        "lock": status.holder.as_json() if status.holder else None,
    }


def _uses(stack: Inventory, hosts: Mapping[str, HostStatus], name: str) -> dict[str, str]:
    """What the slots of a host are used for; of the others nobody asks anything."""
    flags = {flag for status in hosts.values() for flag in status.state.flags}
    old = {flag.rpartition(".")[2] for flag in flags if flag.startswith("old.")} | hosts[name].state.kept
    share = {slot: percent for status in hosts.values() for slot, percent in shares(status.state).items()}
    return (
        dict.fromkeys(old, SKEW)
        | {slot: f"{percent} % of visitors" for slot, percent in share.items()}
        | dict.fromkeys(serving(stack, hosts).values(), LIVE)
    )


def _running(state: HostState, slot: str) -> list[str]:
    return sorted(name for name in state.running() if name.startswith(f"{slot}-"))
