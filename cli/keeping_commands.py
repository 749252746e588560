"""`provision backup`, `restore` and `maintenance`: the database of the app, and the page that stands in for it."""

from pathlib import Path
from typing import Annotated

import typer

from .options import AskSudo, BreakLock, Inventory, Json, Limit


def backup(
    inventory: Inventory = None,
    download: Annotated[Path | None, typer.Option(help="Fetch a copy into this file, encrypted like secrets.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="With --download: a tar file, not encrypted.")] = False,
    as_json: Json = False,
    ask_sudo_password: AskSudo = False,
) -> None:
    """Make a backup of the database now, as every night."""
    from .restore import backup as run

    run(inventory, download, plain=plain, as_json=as_json, ask_sudo_password=ask_sudo_password)


def restore(
    backup: Annotated[str | None, typer.Argument(help="Name of a backup. --check without it: the newest.")] = None,
    inventory: Inventory = None,
    check: Annotated[bool, typer.Option("--check", help="Restore it into a scratch database and compare.")] = False,
    into: Annotated[str | None, typer.Option(help="Restore it into a new database of this name, and keep it.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of the live database.")] = False,
    upload: Annotated[Path | None, typer.Option(help="Put a downloaded copy back among the backups.")] = None,
    as_json: Json = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --replace: do not ask.")] = False,
    ask_sudo_password: AskSudo = False,
    break_lock: BreakLock = False,
) -> None:
    """List the backups of the database, check one, or restore it. Without an option: list.

    --replace makes a backup of the present state first, restores beside it, compares, and then swaps the two.
    """
    from .restore import Wanted
    from .restore import restore as run

    run(inventory, Wanted(backup, check, into, replace, upload, yes, as_json, ask_sudo_password, break_lock))


def maintenance(
    switch: Annotated[
        str | None, typer.Argument(metavar="on|off", help="Default: say what it is.", show_default=False)
    ] = None,
    inventory: Inventory = None,
    page: Annotated[Path | None, typer.Option(help="With on: an HTML file to show this time.")] = None,
    as_json: Json = False,
    ask_sudo_password: AskSudo = False,
) -> None:
    """Answer visitors with a page and 503, or give the site back. No reload: what is under way goes on.

    Networks of nginx.maintenance.allow get the site all the same.
    """
    from .maintenance import Wanted, run

    run(inventory, Wanted(switch, page, as_json, ask_sudo_password))


def remove(
    inventory: Inventory = None,
    limit: Limit = None,
    with_data: Annotated[
        bool, typer.Option("--with-data", help="Database, sessions and backups too. They cannot be brought back.")
    ] = False,
    purge: Annotated[
        bool,
        typer.Option(
            "--purge",
            help="Packages too, which Roadbed installed and nothing else needs; those with data only with --with-data.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
    ask_sudo_password: AskSudo = False,
    break_lock: BreakLock = False,
) -> None:
    """Take away what Roadbed put on the hosts, and nothing else. This ends the site.

    Files that it replaced are put back as they were. Logs, data and packages stay, and are listed.
    """
    from .remove import Wanted, run

    run(inventory, Wanted(limit, with_data, purge, yes, as_json, ask_sudo_password, break_lock))


def register(app: typer.Typer) -> None:
    """Adds the commands to `provision`."""
    app.command(epilog="Examples:  provision backup -i prod  |  provision backup -i prod --download shop.backup.age")(
        backup
    )
    app.command(
        epilog="Examples:  provision restore -i prod  |  provision restore -i prod --check  |  "
        "provision restore 20261124T023000Z -i prod --into shop_then  |  "
        "provision restore 20261124T023000Z -i prod --replace"
    )(restore)
    app.command(
        epilog="Examples:  provision maintenance on -i prod  |  provision maintenance off -i prod  |  "
        "provision maintenance -i prod --json"
    )(maintenance)
    app.command(epilog="Examples:  provision remove -i prod  |  provision remove -i prod --limit app-2 --purge")(remove)
