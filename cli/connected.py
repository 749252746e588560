"""The way to the hosts of every command that changes them: connect, look at the phase, refuse what is unfit."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .locked import Locked, locked
from .style import say, seconds

if TYPE_CHECKING:
    from roadbed.deploys.context import Context
    from roadbed.deploys.node import NodeBuild
    from roadbed.deploys.urls import Driver
    from roadbed.engine.converge import Run
    from roadbed.engine.fleet import Fleet
    from roadbed.engine.inventory import Inventory
    from roadbed.engine.preflight import Finding
    from roadbed.engine.report import Report
    from roadbed.engine.secrets import Secrets
    from roadbed.engine.session import Session
    from roadbed.releases.manifest import Manifest


@dataclass(frozen=True)
class Hosts:
    """The connected hosts of a stack, the phase they are at or are brought to, and the context of each."""

    fleet: "Fleet"
    phase: str
    contexts: "Mapping[str, Context]"
    locked: Locked | None = None

    def with_driver(self, found: str | None) -> "Hosts":
        """The same hosts, with the database's URL written for the driver that the release was ``found`` to use."""
        from roadbed.deploys.urls import chosen_driver

        driver = chosen_driver(self.fleet.inventory.app.database.driver, found)
        return replace(self, contexts={name: replace(ctx, driver=driver) for name, ctx in self.contexts.items()})

    def begins(self, name: str) -> None:
        """A piece of work begins. Raises Refused when the lock of this command is lost."""
        if self.locked:
            self.locked.begins(name)

    def run(self, report: "Report", names: list[str], *, dry_run: bool = False) -> "Run":
        """A converge of ``names`` under the lock of this command, whose outcome counts as that of the command."""
        from roadbed.engine.converge import Run

        run = Run(self.fleet, self.phase, self.contexts, report, dry_run=dry_run, only=frozenset(names))
        if self.locked:
            run.guard = self.locked.begins
            self.locked.runs.append(run)
        return run


@contextmanager
def connected(
    stack: "Inventory",
    names: list[str],
    secrets: "Secrets",
    builds: "Mapping[str, NodeBuild]",
    manifest: "Manifest | None",
    phase: str | None,
    password: str | None,
    *,
    what: str,
    report: "Report | None" = None,
    lock: bool = True,
    break_lock: bool = False,
    allow_downgrade: bool = False,
    preflight: bool = True,
    adopt: bool = False,
) -> Iterator[Hosts]:
    """Connects to ``names``, for as long as the block lasts; ``engine.start.start`` was called before.

    With ``lock``, for all that changes hosts, other runs are kept out meanwhile; ``what`` is what they are told.
    ``report`` is the one that the journal of the run follows. ``phase`` None means the one that the hosts are at.
    Raises Refused for hosts that another run has locked, for a downgrade, and for hosts that no phase was brought to;
    hosts that cannot be reached or are unfit are in ``fleet.failures``. Without ``preflight`` none is found unfit.
    """
    from roadbed.deploys.urls import chosen_driver
    from roadbed.engine.errors import Refused
    from roadbed.engine.fleet import Fleet
    from roadbed.engine.roadmap import recorded, refuse_downgrade
    from roadbed.engine.start import ready

    ready()
    with (
        Fleet(stack, sudo_password=password) as fleet,
        locked(fleet, names, what, report, lock=lock, break_lock=break_lock) as mine,
    ):
        started = time.monotonic()
        fleet.connect(ahead=names, opened=mine.opened)
        fleet.set_aside(names)
        mine.take()
        say(f"connected to {len(fleet.sessions)} of {len(names)} hosts ({seconds(time.monotonic() - started)})")
        if phase is None and fleet.facts:
            phase = recorded(fleet.facts.values())
            if phase is None:
                raise Refused(
                    f"{stack.name}: no phase was brought to these hosts yet. Run provision phase1 -i {stack.name} first"
                )
        elif phase is not None:
            refuse_downgrade(phase, fleet.facts, allowed=allow_downgrade)
        driver = chosen_driver(stack.app.database.driver, manifest.database_driver if manifest else None)
        contexts = make_contexts(stack, phase or "phase1", fleet, secrets, builds, driver)
        if preflight:
            refuse_unfit(fleet, contexts, adopt=adopt)
        mine.drop(fleet.failures)
        close_failed(fleet)
        yield Hosts(fleet, phase or "phase1", contexts, mine)


def make_contexts(
    stack: "Inventory",
    phase: str,
    fleet: "Fleet",
    secrets: "Secrets",
    builds: Mapping[str, "NodeBuild"],
    driver: "Driver | None" = None,
) -> dict[str, "Context"]:
    """The context of every host that answered."""
    from roadbed.deploys.context import Context

    return {name: Context(stack, phase, name, fleet.facts, secrets.get, builds, driver) for name in fleet.facts}


def refuse_unfit(fleet: "Fleet", contexts: Mapping[str, "Context"], *, adopt: bool = False) -> None:
    """Hosts that fail the preflight are not touched: they count as failed, with all their reasons.

    ``adopt``: what they do already, and Roadbed would replace, is no reason.
    """
    from roadbed.engine.conflicts import check_conflicts
    from roadbed.engine.errors import OperationFailed, RoadbedError
    from roadbed.engine.preflight import check_host
    from roadbed.engine.preflight_data import sums

    def ask(session: "Session", name: str) -> "tuple[list[Finding], list[Finding]]":
        ctx = contexts[name]
        return check_host(session, ctx, adopt=adopt), check_conflicts(session, ctx, adopt=adopt)

    answers = fleet.each(list(fleet.sessions), ask)
    for name, answer in answers.items():
        if isinstance(answer, RoadbedError):
            fleet.failures[name] = answer
            continue
        found, conflicts = answer
        for item in found + conflicts:
            if item.level == "warning":
                say(f"  ! {name}: {item.message}")
        rows = [(item.what, item.level, item.message) for item in found + conflicts]
        rows += sums(contexts[name]) if contexts[name].reached("phase2") else []
        if reasons := [f"{name}: {what}: {message}" for what, level, message in rows if level == "error"]:
            fleet.failures[name] = OperationFailed("\n".join(reasons))


def close_failed(fleet: "Fleet") -> None:
    """Ends the connections to hosts that count as failed."""
    for name in fleet.failures:
        if session := fleet.sessions.pop(name, None):
            session.close()


def limited(stack: "Inventory", limit: str | None) -> list[str]:
    """The hosts that ``--limit`` names. Raises InventoryError for one that is not there."""
    from roadbed.engine.errors import InventoryError

    if limit is None:
        return list(stack.hosts)
    names = [name.strip() for name in limit.split(",") if name.strip()]
    if not names:  # an unset variable of a script must not mean every host
        raise InventoryError(f"--limit: names no host. Hosts: {', '.join(stack.hosts)}")
    for name in names:
        if name not in stack.hosts:
            raise InventoryError(f"--limit: there is no host {name}. Hosts: {', '.join(stack.hosts)}")
    return names
