"""What patching has to do on each host: which packages, a reboot or not, who does its work meanwhile. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from roadbed.deploys.context import Context
from roadbed.engine.errors import OperationFailed, Refused

from .host_state import HostState
from .standins import KERNEL, Meanwhile, askers_of, in_order, meanwhile, stand_ins

Reboot = Literal["auto", "always", "never"]
REBOOTS: tuple[str, ...] = get_args(Reboot)


@dataclass(frozen=True)
class Pending:
    """What a host says before it is patched. ``required``: something that is installed wants a reboot; ``left``: an
    earlier run did not finish with it; ``busy``: the upgrade of that run is still under way."""

    boot: str
    kernel: str
    packages: tuple[str, ...] = ()
    required: bool = False
    left: bool = False
    busy: bool = False


def parse(host: str, lines: Iterable[str]) -> Pending:
    """What the lines of ``host/pending.sh`` tell. Raises OperationFailed when they tell too little."""
    facts: dict[str, list[str]] = {}
    for line in lines:
        word, _, value = line.partition(" ")
        facts.setdefault(word, []).append(value)
    if "boot" not in facts or "kernel" not in facts:
        raise OperationFailed(f"{host}: did not tell what is to be upgraded")
    there = {name: name in facts for name in ("required", "left", "busy")}
    return Pending(facts["boot"][0], facts["kernel"][0], tuple(sorted(set(facts.get("package", [])))), **there)


def counted(packages: Collection[str]) -> str:
    """``1 package``, ``12 packages``."""
    return f"{len(packages)} package{'' if len(packages) == 1 else 's'}"


@dataclass(frozen=True)
class Work:
    """One host's part. ``reboot`` is what is to be expected: after the upgrade the host is asked again."""

    host: str
    pending: Pending
    reboot: bool
    askers: tuple[str, ...]
    """Web hosts that send to others meanwhile; the host is taken out of their routing."""
    meanwhile: Meanwhile

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.pending.packages or self.reboot or self.pending.left or self.pending.busy)

    def __str__(self) -> str:
        parts = [counted(self.pending.packages)] if self.pending.packages else []
        parts += ["reboot"] if self.reboot else []
        parts += ["goes on with what an earlier run began"] if self.pending.left or self.pending.busy else []
        return f"{self.host}: {', '.join(parts) or 'nothing to do'}"


def plan(
    contexts: Mapping[str, Context], pending: Mapping[str, Pending], states: Mapping[str, HostState], reboot: Reboot
) -> list[Work]:
    """The work on the hosts of ``pending``, in order; ``states`` are those of all app hosts.

    Raises OperationFailed when a host that would have to stand in runs no instance.
    """
    found = []
    for host in in_order(contexts, list(pending)):
        mine = pending[host]
        kernel = any(name.startswith(KERNEL) for name in mine.packages)
        again = reboot == "always" or (reboot == "auto" and (mine.required or kernel))
        so = meanwhile(contexts, host, mine.packages, reboot=again)
        askers = tuple(askers_of(contexts, host)) if "app" in contexts[host].inventory.roles_of(host) else ()
        work = Work(host, mine, again, askers, so)
        if work.needed and askers:
            _refuse_idle(host, {other: states[other] for other in stand_ins(contexts, host)})
        found.append(work)
    return found


def refuse_downtime(works: Iterable[Work], *, accepted: bool, inventory: str) -> None:
    """Raises Refused, with the sums, when nobody does the work of a host while it is patched, unless ``accepted``."""
    works = [work for work in works if work.needed]
    if accepted or not (alone := [work for work in works if work.meanwhile.lost]):
        return
    reasons = [f"{work.host}: {sentence}" for work in alone for sentence in work.meanwhile.lost]
    rest = " ".join(f"--host {work.host}" for work in works if not work.meanwhile.lost)
    way = f"The others by themselves: provision patch -i {inventory} {rest}. " if rest else ""
    raise Refused(
        "\n".join(reasons)
        + f"\n{way}All the same: --accept-downtime; or without reboots: --reboot never. Nothing was changed"
    )


def _refuse_idle(host: str, others: Mapping[str, HostState]) -> None:
    idle = [other for other, state in others.items() if "active" not in state.instances.values()]
    if idle:
        raise OperationFailed(
            f"{host}: {', '.join(idle)} would have to stand in and runs no instance of the app. Repair it first: "
            "run the phase again that the hosts are at"
        )
