"""`provision deploy`, `rollback` and `releases`: the commands around the releases of the app."""

from typing import Annotated

import typer

from . import completion
from .options import AllowVulnerable, AskSudo, BreakLock, DryRun, Inventory, Json, Limit, Quiet, Verbose


def deploy(
    inventory: Inventory = None,
    source: Annotated[
        str | None, typer.Option(help="Project folder or release file to deploy, in place of app.source.")
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(help="Deploy a release again; `releases` names them.", autocompletion=completion.releases),
    ] = None,
    canary: Annotated[
        str | None, typer.Option(help="Shares of the visitors to begin with, in percent: 5,25,100.")
    ] = None,
    watch: Annotated[str | None, typer.Option(help="How long each share is watched. Default: 60s.")] = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    ask_sudo_password: AskSudo = False,
    allow_vulnerable: AllowVulnerable = False,
    break_lock: BreakLock = False,
) -> None:
    """Build the app and bring the release to service without losing a request.

    It needs hosts that a phase was brought to, and leaves all but Node.js and the app alone.
    """
    from .deploy import Wanted
    from .deploy import deploy as run

    flags = (dry_run, as_json, verbose, ask_sudo_password, allow_vulnerable, break_lock)
    run(inventory, Wanted(source, release, limit, *flags, canary=canary, watch=watch))


def rollback(
    release: Annotated[
        str | None,
        typer.Argument(help="Default: the one that served before the live one.", autocompletion=completion.releases),
    ] = None,
    inventory: Inventory = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    ask_sudo_password: AskSudo = False,
    break_lock: BreakLock = False,
) -> None:
    """Bring back the release that served before. One that never became healthy is never chosen.

    A second rollback comes back to the release that the first one left; an ID goes further back. Nothing is built, and
    nothing is uploaded: hosts keep the last releases (app.keep). It passes the same gate.
    """
    from .deploy import Wanted
    from .deploy import rollback as run

    flags = (dry_run, as_json, verbose, ask_sudo_password)
    run(inventory, Wanted(None, release, limit, *flags, break_lock=break_lock))


def releases(inventory: Inventory = None, as_json: Json = False, ask_sudo_password: AskSudo = False) -> None:
    """List the releases on the hosts: when they went live, who deployed them, and whether they were healthy."""
    from .releases import run

    run(inventory, as_json=as_json, ask_sudo_password=ask_sudo_password)


def status(inventory: Inventory = None, as_json: Json = False, ask_sudo_password: AskSudo = False) -> None:
    """The stack now: what each host runs, who works on it, and what an interrupted run has left. Changes nothing."""
    from .status import run

    run(inventory, as_json=as_json, ask_sudo_password=ask_sudo_password)


def register(app: typer.Typer) -> None:
    """Adds the commands to `provision`."""
    app.command(
        epilog="Examples:  provision deploy -i prod  |  provision deploy -i prod --source release.tar.gz  |  "
        "provision deploy -i prod --release 20261126T101500-1a2b3c4"
    )(deploy)
    app.command(epilog="Examples:  provision rollback -i prod  |  provision rollback 20261126T101500-1a2b3c4 -i prod")(
        rollback
    )
    app.command(epilog="Examples:  provision releases -i prod  |  provision releases -i prod --json")(releases)
    app.command(epilog="Examples:  provision status -i prod  |  provision status -i prod --json")(status)
