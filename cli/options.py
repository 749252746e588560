"""Options that several commands share."""

from typing import Annotated

import typer

from . import completion

Inventory = Annotated[
    str | None,
    typer.Option(
        "--inventory",
        "-i",
        help="Name in inventories/, or a path to a .yml file. Default: the only one there is.",
        show_default=False,
        autocompletion=completion.inventories,
    ),
]
Phase = Annotated[
    str | None,
    typer.Argument(
        help="phase1, phase2 or phase3. Default: the one the hosts are at.",
        show_default=False,
        autocompletion=completion.phases,
    ),
]
Limit = Annotated[
    str | None, typer.Option(help="Only these hosts, comma separated.", autocompletion=completion.host_list)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show unchanged operations too.")]


def _provider(value: str) -> str:
    if value not in (known := completion.providers("")):
        raise typer.BadParameter(f"there is no {value}. Providers: {', '.join(known)}")
    return value


Provider = Annotated[
    str,
    typer.Option(
        help="Who runs the machines: nspawn, vagrant, or auto.",
        autocompletion=completion.providers,
        callback=_provider,
    ),
]


def _hush(value: bool) -> bool:
    if value:
        from .progress import Progress

        Progress.quiet = True
    return value


Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=_hush, help="No progress: only errors, questions and the result.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not show the changes first and ask; just make them.")]
AllowVulnerable = Annotated[
    bool, typer.Option("--allow-vulnerable", help="Accept a version of Next.js that is known to be vulnerable.")
]
BreakLock = Annotated[
    bool, typer.Option("--break-lock", help="Take the lock from a run that has it; that run stops at its next step.")
]
AskSudo = Annotated[bool, typer.Option("--ask-sudo-password", "-K", help="Ask once for the sudo password.")]


def sudo_password(ask: bool) -> str | None:
    """The sudo password, asked once and without echo, or None."""
    if not ask:
        return None
    return str(typer.prompt("sudo password", hide_input=True, err=True))
