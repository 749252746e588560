"""`provision init`: few questions, or flags; then an inventory that passes `check`."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .scaffold import check_name, named, write_inventory, write_rehearsal
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
    write_inventory(name, machines(wanted), wanted.domain, wanted.source or Path())


def ask(wanted: Wanted, *, machines_known: bool) -> Wanted:
    """Asks for what was not given; what was is not asked again."""
    if not machines_known:
        say("Which machines? user@address of each, as for ssh; an empty line ends the list.")
        hosts: list[str] = []
        while answer := _prompt("  machine" if not hosts else "  one more", default=None if not hosts else ""):
            hosts.append(answer)
        wanted = replace(wanted, hosts=tuple(hosts))
    if not wanted.domain:
        wanted = replace(wanted, domain=_prompt("Public host name, such as shop.example.com"))
    if not wanted.source:
        wanted = replace(wanted, source=Path(_prompt("Folder of the Next.js project", default=".")).expanduser())
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


def _prompt(text: str, default: str | None = None) -> str:
    return str(typer.prompt(text, default=default, show_default=bool(default), err=True)).strip()
