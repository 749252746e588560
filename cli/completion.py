"""What the shell offers after TAB: inventories, hosts, phases and releases. It reads local files alone.

A file that cannot be read offers nothing: an error in the middle of a command line would only be in the way.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory as Stack

FOLDER = Path("inventories")
PHASES = ("phase1", "phase2", "phase3")
PROVIDERS = ("auto", "nspawn", "vagrant")


def inventories(incomplete: str) -> list[str]:
    """Names in inventories/; after a slash or a dot the shell's own completion of paths is better."""
    return sorted(path.stem for path in FOLDER.glob("*.yml") if path.stem.startswith(incomplete))


def phases(incomplete: str) -> list[str]:
    """The phases of the roadmap."""
    return [phase for phase in PHASES if phase.startswith(incomplete)]


def providers(incomplete: str) -> list[str]:
    """Who can run the machines of a rehearsal."""
    return [name for name in PROVIDERS if name.startswith(incomplete)]


def hosts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Hosts of the inventory that the command line names so far, or of the only one."""
    stack = _stack(ctx)
    return [name for name in stack.hosts if name.startswith(incomplete)] if stack else []


def host_list(ctx: typer.Context, incomplete: str) -> list[str]:
    """Comma separated hosts: what stands before the last comma stays."""
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in hosts(ctx, last) if name not in taken]


def machines(incomplete: str) -> list[str]:
    """Local machines that exist."""
    from roadbed.machines import nspawn

    with suppress(OSError, ValueError):
        return [machine.name for machine in nspawn.listing() if machine.name.startswith(incomplete)]
    return []


def releases(ctx: typer.Context, incomplete: str) -> list[str]:
    """Releases that this machine has deployed, the newest first, from its journals."""
    stack = _stack(ctx)
    return [name for name in _deployed(stack) if name.startswith(incomplete)] if stack else []


def _stack(ctx: typer.Context) -> "Stack | None":
    from roadbed.engine.load import load

    with suppress(Exception):  # whatever is wrong is told by the command, not in the middle of its line
        return load(ctx.params.get("inventory"), fresh=False)
    return None


def _deployed(stack: "Stack") -> Iterator[str]:
    from roadbed.engine.past_runs import runs

    seen: set[str] = set()
    for run in runs(stack.path):
        release = run.what.partition(" ")[2] if run.command in ("deploy", "rollback") else ""
        if release and release not in seen:
            seen.add(release)
            yield release
