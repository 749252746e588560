"""Which release served when: one line a switch, kept on every host of the app."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from roadbed.deploys.app import AppSettings
from roadbed.engine.session import Session

REMEMBERED = 200
"""Lines that a host keeps."""
TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, order=True)
class Switch:
    """A release began to serve. ``owner`` is ``user@machine``, ``action`` deploy, rollback or the phase."""

    at: datetime
    release: str
    action: str
    owner: str


def record(session: Session, app: AppSettings, switch: Switch) -> None:
    """Adds a line to the history of a host, unless the last one names the same release."""
    line = f"{switch.at.astimezone(UTC):{TIME}} {switch.release} {switch.action} {switch.owner}"
    file, fresh = f"{app.root}/history", f"{app.root}/.history.new"
    session.run(
        f'last=$(tail -n 1 {file} 2>/dev/null | cut -d " " -f 2); [ "$last" = {switch.release} ] || '
        f"{{ {{ tail -n {REMEMBERED - 1} {file} 2>/dev/null; echo {shlex.quote(line)}; }} > {fresh} && "
        f"mv -fT {fresh} {file}; }}"
    )


def parse(lines: Iterable[str]) -> list[Switch]:
    """The switches of a host, oldest first; a line that is none is left out."""
    found = []
    for line in lines:
        try:
            at, release, action, owner = line.split(" ", 3)
            found.append(Switch(datetime.strptime(at, TIME).replace(tzinfo=UTC), release, action, owner))
        except ValueError:
            continue
    return found
