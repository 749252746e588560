"""`provision releases`: the releases of a stack, the live one first."""

import json
from typing import TYPE_CHECKING

from rich.table import Table

from .connected import Hosts
from .options import sudo_password
from .style import console, output, say

if TYPE_CHECKING:
    from roadbed.releases.on_hosts import Known

COLOURS = {"live": "green", "never healthy": "red", "failed": "red", "uploaded": "dim"}


def run(inventory: str | None, *, as_json: bool = False, ask_sudo_password: bool = False) -> None:
    """Asks the app and web hosts and prints what they have. Raises HostUnreachable when no app host answers."""
    from roadbed.engine.fleet import Fleet
    from roadbed.engine.load import load

    from .chosen_release import look

    stack = load(inventory)
    with Fleet(stack, sudo_password=sudo_password(ask_sudo_password)) as fleet:
        fleet.connect(stack.with_role("app", "web"))
        for error in fleet.failures.values():
            say(f"  ! {error}")
        releases, _ = look(Hosts(fleet, "", {}))
        all_hosts = [name for name in stack.with_role("app", "web") if name in fleet.sessions]
    if as_json:
        output(json.dumps([one.as_json() for one in releases], indent=1))
    elif releases:
        console.print(_table(releases, all_hosts))
        if len(releases) > 1:
            say(f"back: provision rollback -i {stack.name}")
    else:
        say(f"there is no release yet. The first: provision phase1 -i {stack.name}")
    if fleet.failures:
        raise next(iter(fleet.failures.values()))


def _table(releases: "list[Known]", hosts: list[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("release", "git", "deployed (UTC)", "by", "state"):
        table.add_column(title, no_wrap=title in ("release", "git"), overflow="fold")
    for one in releases:
        git = f"{one.commit[:7]}{'+' if one.dirty else ''}" if one.commit else "-"
        when = f"{one.deployed:%m-%d %H:%M}" if one.deployed else "-"
        lacking = [name for name in hosts if name not in one.hosts]
        state = one.state + (f", not on {', '.join(lacking)}" if lacking else "")
        table.add_row(one.release, git, when, one.owner or "-", state, style=COLOURS.get(one.state))
    return table
