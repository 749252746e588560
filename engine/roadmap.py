"""A way along the roadmap: what a phase needs of the inventory, where the hosts are, and no way back by mistake."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roadbed.deploys.context import ROADMAP, HostFacts

from .errors import InventoryError, Refused, RoadbedError
from .inventory import Inventory
from .parallel import each

if TYPE_CHECKING:
    from .converge import Run

RECORD = "/var/lib/roadbed/phase"


def named(phase: str) -> str:
    """``phase``, if there is one of that name. Raises InventoryError."""
    if phase not in ROADMAP:
        raise InventoryError(f"phase: there is no {phase}. Phases: {', '.join(ROADMAP)}")
    return phase


def require(inventory: Inventory, phase: str) -> None:
    """Raises InventoryError, with all that is missing, when ``inventory`` has not the hosts that ``phase`` needs."""
    if ROADMAP.index(phase) < ROADMAP.index("phase2"):
        return
    if problems := list(_missing(inventory, phase)):
        raise InventoryError("\n".join(problems))


def _missing(inventory: Inventory, phase: str) -> Iterator[str]:
    caches, databases = inventory.with_role("cache"), inventory.with_role("database")
    if not caches and not inventory.redis.external:
        yield f"hosts: {phase} needs a host with the role cache. Add the role to one, or set redis/external: true"
    if len(databases) > 1 and not inventory.postgres.external:
        yield f"hosts: {', '.join(databases)} have the role database, and one host has to keep it. Leave it on one"
    if databases and not inventory.postgres.external and not inventory.with_role("pooler"):
        yield f"hosts: {phase} needs a host with the role pooler in front of {databases[0]}. Add the role to one"


def recorded(facts: Iterable[HostFacts]) -> str | None:
    """The highest phase that any of these hosts was brought to; None before the first."""
    return max((one.phase for one in facts if one.phase in ROADMAP), key=ROADMAP.index, default=None)


def refuse_downgrade(phase: str, facts: Mapping[str, HostFacts], *, allowed: bool) -> None:
    """Raises Refused when hosts are at a later phase than ``phase``, unless that is ``allowed``.

    On the way down the app loses its shared cache and its database from one moment to the next.
    """
    before = recorded(facts.values())
    if allowed or before is None or ROADMAP.index(before) <= ROADMAP.index(phase):
        return
    hosts = ", ".join(name for name, one in facts.items() if one.phase == before)
    raise Refused(
        f"{hosts}: at {before}, and {phase} would take away what it brought. Run provision {before}, "
        "or say --allow-downgrade"
    )


@dataclass(frozen=True)
class RecordStep:
    """The last step of a converge: every host on which all went well knows the phase it is at."""

    phase: str
    name: str = "phase"
    roles: tuple[str, ...] = ("*",)
    needs: tuple[str, ...] = ()

    def run(self, run: "Run", hosts: list[str]) -> dict[str, RoadbedError]:
        """Writes the record where it differs; returns the errors of the hosts that could not be written to."""
        title, stale = f"Record {self.phase}", [host for host in hosts if run.fleet.facts[host].phase != self.phase]
        for host in hosts:
            if host not in stale:
                run.report.operation(host, self.name, title, "unchanged")

        def write(host: str) -> None:
            if not run.dry_run:
                run.fleet.session(host).write(RECORD, f"{self.phase}\n".encode())
            run.report.operation(host, self.name, title, "changed")

        return {host: error for host, error in each(stale, write).items() if isinstance(error, RoadbedError)}
