"""`provision patch` on the command line."""

from typing import Annotated

import typer

from . import completion
from .options import AskSudo, BreakLock, Inventory, Json, Quiet, Yes


def patch(
    inventory: Inventory = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Only this host; may be given again.", autocompletion=completion.hosts)
    ] = None,
    reboot: Annotated[str, typer.Option(help="auto: where an update wants it; always; never.")] = "auto",
    accept_downtime: Annotated[
        bool, typer.Option("--accept-downtime", help="Patch hosts too that nobody stands in for.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")] = False,
    as_json: Json = False,
    yes: Yes = False,
    quiet: Quiet = False,
    ask_sudo_password: AskSudo = False,
    break_lock: BreakLock = False,
) -> None:
    """Install the updates of the operating system, one host at a time, and reboot where they want it.

    An app host leaves the routing first and comes back when its instances are healthy. App hosts come first, then web
    hosts, then those with data. A host that fails ends the run.
    """
    from .patch import Wanted
    from .patch import patch as run

    run(
        inventory,
        Wanted(tuple(host or ()), reboot, accept_downtime, dry_run, as_json, yes, ask_sudo_password, break_lock),
    )


def register(app: typer.Typer) -> None:
    """Adds the command to `provision`."""
    app.command(
        epilog="Examples:  provision patch -i prod  |  provision patch -i prod --dry-run  |  "
        "provision patch -i prod --host app-1 --host app-2 --reboot always"
    )(patch)
