"""`provision remove`: take away what Roadbed put on the hosts, and nothing else."""

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from .connected import connected, limited
from .options import sudo_password
from .progress import Progress
from .style import console, output, say

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory
    from roadbed.releases.remove import Removed

KINDS = {
    "unit": "services stopped",
    "restored": "files put back as they were",
    "file": "files removed",
    "folder": "folders removed",
    "account": "accounts removed",
    "data": "data removed",
    "purged": "packages removed",
    "started": "services of before started again",
}


@dataclass(frozen=True)
class Wanted:
    """What the user asked for on the command line, beside the inventory."""

    limit: str | None = None
    with_data: bool = False
    purge: bool = False
    yes: bool = False
    as_json: bool = False
    ask_sudo_password: bool = False
    break_lock: bool = False


def run(inventory: str | None, wanted: Wanted) -> None:
    """The whole command. Raises InventoryError (2), Refused (6) without a yes, or what kept a host from it."""
    from roadbed.engine.load import load
    from roadbed.engine.secrets import Secrets
    from roadbed.engine.start import start
    from roadbed.releases.remove import remove

    start()
    stack = load(inventory)
    names = limited(stack, wanted.limit)
    confirm(stack, names, wanted)
    secrets, password = Secrets(stack.beside(".secrets.age")), sudo_password(wanted.ask_sudo_password)

    def one(session: Any, name: str) -> "Removed":
        report.progress(name, "Remove")
        return remove(session, stack.app, with_data=wanted.with_data, purge=wanted.purge)

    with (
        Progress() as report,
        connected(
            stack,
            names,
            secrets,
            {},
            None,
            "phase3",
            password,
            what="remove",
            report=report,
            break_lock=wanted.break_lock,
            preflight=False,
        ) as hosts,
    ):
        answers = {**hosts.fleet.failures, **hosts.fleet.each(list(hosts.fleet.sessions), one)}
    tell(answers, wanted)


def confirm(stack: "Inventory", names: list[str], wanted: Wanted) -> None:
    """The name of the stack has to be typed: this ends the site. Raises Refused."""
    from roadbed.engine.errors import Refused

    if wanted.yes:
        return
    if not (sys.stdin.isatty() and console.is_terminal):
        raise Refused(f"--yes: is required without a terminal. This ends {stack.app.domain} on {', '.join(names)}")
    say(f"This ends {stack.app.domain} on {', '.join(names)}.")
    asking = [name for name in stack.with_role("web") if name not in names]
    gone = [name for name in stack.with_role("app") if name in names]
    if asking and gone:
        say(f"{', '.join(asking)} would go on sending requests to {', '.join(gone)}. First take that out of the")
        say("inventory and run the phase; then remove it with an inventory that has only this host.")
    say("Database, sessions and backups go too." if wanted.with_data else "Database, sessions and backups stay there.")
    if typer.prompt(f"Type {stack.name} to go on", default="", show_default=False, err=True).strip() != stack.name:
        raise Refused("Nothing was removed")


def tell(answers: dict[str, Any], wanted: Wanted) -> None:
    """Says what each host was freed of. Raises the worst of the errors."""
    from roadbed.engine.errors import RoadbedError

    failed = {host: answer for host, answer in answers.items() if isinstance(answer, RoadbedError)}
    done = {host: answer for host, answer in answers.items() if host not in failed}
    if wanted.as_json:
        rows = {host: [{"kind": kind, "what": what} for kind, what in removed.items] for host, removed in done.items()}
        output(json.dumps({"hosts": rows, "failed": {host: str(error) for host, error in failed.items()}}, indent=1))
    for host, removed in done.items():
        counts = [f"{len(found)} {words}" for kind, words in KINDS.items() if (found := removed.of(kind))]
        say(f"{host}: {', '.join(counts) or 'nothing of Roadbed was there'}")
        if packages := removed.of("package"):
            say(f"  packages that stay (--purge removes them): {' '.join(packages)}")
        for path in removed.of("kept"):
            say(f"  data that stays (--with-data removes it): {path}")
    if failed:
        worst = min(failed.values(), key=lambda error: error.exit_code)
        raise type(worst)("\n".join(str(error) for error in failed.values()))
