"""`provision logs`, `exec` and `ssh`: look at hosts, without knowing their addresses."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from . import completion
from .options import AskSudo, Inventory, Json

COMMAND = "roadbed.command"
Hosts = Annotated[
    list[str] | None,
    typer.Argument(metavar="HOST", help="Names of hosts.", show_default=False, autocompletion=completion.hosts),
]
Lines = Annotated[
    int | None,
    typer.Option("--lines", "-n", min=1, max=100_000, help="Most lines. Default: 200, and 20 before --follow."),
]


class WithCommand(TyperCommand):
    """A command of which everything after ``--`` is a command for hosts, and no argument of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the words after ``--`` aside."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[COMMAND] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """As the help shows it."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    for name, (function, kind, epilog) in COMMANDS.items():
        app.command(name=name, cls=kind, epilog=epilog)(function)


def logs(
    hosts: Hosts = None,
    inventory: Inventory = None,
    app: Annotated[bool, typer.Option("--app", help="The app's instances: the default.")] = False,
    nginx: Annotated[bool, typer.Option("--nginx", help="nginx: journal, requests and errors.")] = False,
    redis: Annotated[bool, typer.Option("--redis", help="Redis and Sentinel.")] = False,
    postgres: Annotated[bool, typer.Option("--postgres", help="PostgreSQL.")] = False,
    pgbouncer: Annotated[bool, typer.Option("--pgbouncer", help="PgBouncer.")] = False,
    unit: Annotated[str | None, typer.Option(help="A systemd unit on all hosts, such as roadbed-health.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    since: Annotated[str | None, typer.Option(help="30s, 10m, 2h, 7d ago, or a time: 2026-11-26T03:40 (UTC).")] = None,
    lines: Lines = None,
    grep: Annotated[str | None, typer.Option(help="Only lines with this text in them.")] = None,
    instance: Annotated[str | None, typer.Option(help="Only this instance of the app, such as a-0.")] = None,
    release: Annotated[str | None, typer.Option(help="Only instances of this release.")] = None,
    as_json: Json = False,
    ask_sudo_password: AskSudo = False,
) -> None:
    """What the hosts have logged, in the order of time, in UTC. --json: one object a line."""
    from .logs import Wanted
    from .logs import logs as run

    named = {"app": app, "nginx": nginx, "redis": redis, "postgres": postgres, "pgbouncer": pgbouncer}
    components = tuple(name for name, chosen in named.items() if chosen)
    narrow = (follow, since, lines, grep, instance, release)
    run(inventory, Wanted(tuple(hosts or ()), components, unit, *narrow, as_json, ask_sudo_password))


def execute(
    ctx: typer.Context,
    hosts: Hosts = None,
    inventory: Inventory = None,
    role: Annotated[str | None, typer.Option(help="All hosts with this role.")] = None,
    as_app: Annotated[
        bool, typer.Option("--as-app", help="As the app's user, with its environment, in the current release.")
    ] = False,
    as_json: Json = False,
    ask_sudo_password: AskSudo = False,
) -> None:
    """Run a command on hosts at the same time, as root; without HOST and --role on all of them.

    Each word is one argument, as it is: for a pipe or a variable write sh -c '...'.
    """
    from .execute import Wanted
    from .execute import execute as run

    run(inventory, Wanted(ctx.meta[COMMAND], tuple(hosts or ()), role, as_app, as_json, ask_sudo_password))


def ssh(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Argument(help="Name of a host. Default: the only one.", autocompletion=completion.hosts)
    ] = None,
    inventory: Inventory = None,
) -> None:
    """Log in to a host with your own ssh: user, key, port, jump host and known keys are the inventory's."""
    from .login import login

    login(inventory, host, ctx.meta[COMMAND])


COMMANDS: dict[str, tuple[Callable[..., None], type[TyperCommand], str]] = {
    "logs": (
        logs,
        TyperCommand,
        "Examples:  provision logs -i prod -f  |  provision logs web-1 -i prod --nginx --since 10m --grep /checkout",
    ),
    "exec": (
        execute,
        WithCommand,
        "Examples:  provision exec -i prod -- uptime  |  provision exec app-1 -i prod --as-app -- node -v",
    ),
    "ssh": (
        ssh,
        WithCommand,
        "Examples:  provision ssh app-1 -i prod  |  provision ssh app-1 -i prod -- systemctl status nginx",
    ),
}
