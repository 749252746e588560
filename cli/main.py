"""`provision`: the command. Each command loads what it needs by itself, so that --help is quick."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from . import (
    host_commands,
    inventory_commands,
    keeping_commands,
    machine_commands,
    patch_commands,
    release_commands,
    secret_commands,
)
from .help import WholeSentences
from .options import (
    AllowVulnerable,
    AskSudo,
    BreakLock,
    DryRun,
    Inventory,
    Json,
    Limit,
    Phase,
    Provider,
    Quiet,
    Verbose,
    Yes,
)

app = typer.Typer(
    name="provision",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=WholeSentences,
    help="Bare Debian and Ubuntu machines to a production Next.js platform, staged, rehearsed and proven.",
    epilog="Exit codes: 0 done; 2 usage or inventory; 3 host unreachable; 4 operation failed; "
    "5 verification failed; 6 refused; 130 stopped with Ctrl-C.",
)
app.add_typer(machine_commands.app, name="machines")
app.add_typer(inventory_commands.app, name="inventory")
app.add_typer(secret_commands.app, name="secrets")
app.command(name="init", epilog="Example:  provision init prod --host root@203.0.113.10 --domain shop.example.com")(
    inventory_commands.init
)


def _version(wanted: bool) -> None:
    if wanted:
        import roadbed

        typer.echo(f"provision (Roadbed) {roadbed.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it and end.")
    ] = False,
) -> None:
    """Nothing of its own: each command has its options."""


PHASES = {
    "phase1": "One well-tuned machine: Node, the app as hardened services, nginx that streams, TLS.",
    "phase2": "phase1, and Redis, PostgreSQL with backups, PgBouncer: one cache and few database connections.",
    "phase3": "phase2 on many hosts: every web host uses the instances of all app hosts, with one cache.",
}


def _phase_command(phase: str, text: str) -> None:
    """Adds the command of a phase: all of them take the same options."""

    @app.command(
        phase,
        help=f"{text}\n\nOn a terminal it shows what would change and asks first.",
        epilog=f"Examples:  provision {phase} -i prod  |  provision {phase} -i prod --dry-run  "
        f"|  provision {phase} --json",
    )
    def command(
        inventory: Inventory = None,
        limit: Limit = None,
        dry_run: DryRun = False,
        as_json: Json = False,
        verbose: Verbose = False,
        quiet: Quiet = False,
        yes: Yes = False,
        ask_sudo_password: AskSudo = False,
        allow_vulnerable: AllowVulnerable = False,
        allow_downgrade: Annotated[
            bool, typer.Option("--allow-downgrade", help="Go back from a later phase; what it installed stays.")
        ] = False,
        break_lock: BreakLock = False,
        adopt: Annotated[
            bool, typer.Option("--adopt", help="Take over an nginx, Redis or PostgreSQL that a host has already.")
        ] = False,
    ) -> None:
        from .phase import Wanted, converge

        flags = (
            dry_run,
            as_json,
            verbose,
            yes,
            ask_sudo_password,
            allow_vulnerable,
            allow_downgrade,
            break_lock,
            adopt,
        )
        converge(phase, inventory, Wanted(limit, *flags))


for _name, _text in PHASES.items():
    _phase_command(_name, _text)


release_commands.register(app)
keeping_commands.register(app)
patch_commands.register(app)


@app.command(
    epilog="Examples:  provision build -i prod -o release.tar.gz   (then app.source: release.tar.gz)  |  "
    "provision build -i prod --check-reproducible"
)
def build(
    inventory: Inventory = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the release as one .tar.gz file.")
    ] = None,
    check_reproducible: Annotated[
        bool, typer.Option("--check-reproducible", help="Build once more, and compare every byte.")
    ] = False,
    allow_vulnerable: AllowVulnerable = False,
    ask_sudo_password: AskSudo = False,
) -> None:
    """Build the release, as phase1 does, on this machine or on build.host; no other host is asked."""
    from .build import Wanted, run

    run(inventory, Wanted(output, check_reproducible, allow_vulnerable, ask_sudo_password))


@app.command(epilog="Examples:  provision check -i prod  |  provision check phase2 -i prod --json")
def check(
    phase: Phase = None, inventory: Inventory = None, as_json: Json = False, ask_sudo_password: AskSudo = False
) -> None:
    """Are the hosts fit? Reachability, sudo, system, memory, disk, clock, ports. Changes nothing."""
    from .check import run

    run(phase, inventory, as_json=as_json, ask_sudo_password=ask_sudo_password)


@app.command(epilog="Examples:  provision verify -i prod  |  provision verify phase1 -i prod --junit verify.xml")
def verify(
    phase: Phase = None,
    inventory: Inventory = None,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report.")] = None,
    as_json: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the measured values too.")] = False,
    ask_sudo_password: AskSudo = False,
    only: Annotated[
        str | None, typer.Option(help="Only these components or probes, comma separated: nginx,streaming.")
    ] = None,
    disruptive: Annotated[
        bool, typer.Option("--disruptive", help="Also stop services for some seconds: is the site still served?")
    ] = False,
) -> None:
    """Prove it: testinfra checks and behaviour probes against the hosts of any inventory."""
    from .verify import run

    run(
        phase,
        inventory,
        junit=junit,
        html=report,
        as_json=as_json,
        verbose=verbose,
        ask_sudo_password=ask_sudo_password,
        only=only,
        disruptive=disruptive,
    )


@app.command(
    epilog="Examples:  provision rehearse  |  provision rehearse phase1 --keep  |  "
    "provision rehearse --provider vagrant"
)
def rehearse(
    phase: Annotated[str | None, typer.Argument(help="Default: the highest phase.")] = None,
    inventory: Annotated[
        str, typer.Option("--inventory", "-i", help="Inventory whose hosts are played by local machines.")
    ] = "rehearsal",
    provider: Provider = "auto",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the machines running at the end.")] = False,
    report: Annotated[Path, typer.Option(help="Where the HTML and JSON report goes.")] = Path("report"),
    as_json: Json = False,
) -> None:
    """The whole thing on local machines: create, converge, converge again (0 changes), verify, report, destroy."""
    from .rehearse import run

    run(phase, inventory, provider=provider, keep=keep, folder=report, as_json=as_json)


host_commands.register(app)


def main() -> None:
    """Entry point: expected errors become one message and an exit code; anything else is a defect with a traceback."""
    from roadbed.engine.errors import RoadbedError

    try:
        app()
    except RoadbedError as error:
        from .style import complain, output_error

        complain(str(error))
        if "--json" in sys.argv:
            output_error(str(error), error.exit_code)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _stopped()
    except SystemExit as ended:  # typer ends with this on Ctrl-C, without a word
        asked = isinstance(ended.__context__, typer.Abort)  # at a question
        if asked or isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):
            _stopped()
        raise
    except BrokenPipeError:
        os._exit(141)


def _stopped() -> NoReturn:
    """Ends at once: threads and connections are not waited for."""
    print("\nStopped. What was begun is finished by running the same command again.", file=sys.stderr)
    sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
