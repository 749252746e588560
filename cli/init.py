"""`provision init`: few questions, or flags; then an inventory that passes `check`."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .scaffold import check_name, is_next, named, write_inventory, write_rehearsal
from .style import console, say

if TYPE_CHECKING:
    from roadbed.engine.found import Found


@dataclass(frozen=True)
class Wanted:
    """What the user asked for on the command line, beside the name."""

    hosts: tuple[str, ...] = ()
    domain: str | None = None
    source: Path | None = None
    from_vagrant: bool = False
    from_terraform: Path | None = None
    rehearsal: bool = False


def run(name: str, wanted: Wanted) -> None:
    """The whole command. Raises InventoryError (2), or Refused (6) when the file exists."""
    from roadbed.engine.errors import InventoryError

    given = {
        "--host": wanted.hosts,
        "--from-vagrant": wanted.from_vagrant,
        "--from-terraform": wanted.from_terraform,
        "--rehearsal": wanted.rehearsal,
    }
    if len(sources := [flag for flag, value in given.items() if value]) > 1:
        raise InventoryError(f"{sources[0]} and {sources[1]}: choose one")
    if wanted.rehearsal:
        write_rehearsal()
        return
    check_name(name)
    if sys.stdin.isatty() and console.is_terminal:
        wanted = ask(wanted, machines_known=bool(sources))
    write_inventory(name, machines(wanted), wanted.domain, wanted.source)


def ask(wanted: Wanted, *, machines_known: bool) -> Wanted:
    """Asks for what was not given; what was is not asked again."""
    if not machines_known:
        say("Which machines? user@address of each, as for ssh; an empty line ends the list.")
        hosts: list[str] = []
        while answer := _prompt("  machine" if not hosts else "  one more", _machine, "" if hosts else None):
            hosts.append(answer)
        wanted = replace(wanted, hosts=tuple(hosts))
    if not wanted.domain:
        wanted = replace(wanted, domain=_prompt("Public host name, such as shop.example.com", _domain))
    if not wanted.source:
        here = "." if is_next(Path()) else None
        wanted = replace(wanted, source=Path(_prompt("Folder of the Next.js project", _folder, here)).expanduser())
    return wanted


def machines(wanted: Wanted) -> "list[Found]":
    """The machines by the flags, with roles."""
    from roadbed.engine.found import spread

    if wanted.from_vagrant:
        from roadbed.engine.vagrant import found

        return spread(found())
    if wanted.from_terraform:
        from roadbed.engine.terraform import hosts_of

        return spread(hosts_of(wanted.from_terraform))
    return named(list(wanted.hosts))


def _prompt(text: str, check: Callable[[str], None], default: str | None = None) -> str:
    """Asks until the answer is one that ``check`` does not raise InventoryError for."""
    from roadbed.engine.errors import InventoryError

    while True:
        answer = str(typer.prompt(text, default=default, show_default=bool(default), err=True)).strip()
        try:
            if answer:
                check(answer)
            return answer
        except InventoryError as error:
            say(f"  ! {str(error).splitlines()[-1].strip()}")


def _machine(login: str) -> None:
    user, _, address = login.rpartition("@")
    _fits(user=user or "root", address=address)


def _domain(name: str) -> None:
    _fits(domain=name)


def _folder(name: str) -> None:
    from roadbed.engine.errors import InventoryError

    if not is_next(Path(name).expanduser()):
        raise InventoryError(f"{name} is not the folder of a Next.js project: no package.json there depends on next")


def _fits(user: str = "root", address: str = "192.0.2.1", domain: str = "shop.example.com") -> None:
    """Raises InventoryError for what an inventory would not accept."""
    from roadbed.engine.load import parse

    app = {"name": "shop", "source": ".", "domain": domain}
    stack = {"app": app, "ssh": {"user": user}, "hosts": {"web-1": {"address": address}}}
    parse(json.dumps(stack), Path("answer"))
