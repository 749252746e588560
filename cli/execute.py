"""`provision exec`: one command on several hosts at once, as root or as the app."""

import json
import shlex
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from .hosts import chosen_hosts, some_failed
from .options import sudo_password
from .style import output, say

if TYPE_CHECKING:
    from roadbed.deploys.app import AppSettings
    from roadbed.engine.inventory import Inventory
    from roadbed.engine.session import Session
    from roadbed.engine.tied import Where

MOST_CHARACTERS = 2**20
"""Of each output of a host, the last that --json keeps."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for on the command line."""

    command: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    role: str | None = None
    as_app: bool = False
    as_json: bool = False
    ask_sudo_password: bool = False


@dataclass
class Kept:
    """The end of what a command wrote, for --json."""

    lines: "deque[str]" = field(default_factory=deque)
    size: int = 0
    cut: bool = False

    def add(self, line: str) -> None:
        """Another line; the oldest go when there are too many."""
        self.lines.append(line)
        self.size += len(line) + 1
        while self.size > MOST_CHARACTERS and len(self.lines) > 1:
            self.size -= len(self.lines.popleft()) + 1
            self.cut = True

    @property
    def text(self) -> str:
        """What was kept."""
        return "".join(f"{line}\n" for line in self.lines)


def execute(inventory: str | None, wanted: Wanted) -> None:
    """The whole command. Raises InventoryError (2) before a host is asked; HostUnreachable (3) when a host could not
    be reached, OperationFailed (4) when the command failed somewhere. Ctrl-C ends it everywhere, with 130."""
    from roadbed.engine.errors import OperationFailed, RoadbedError
    from roadbed.engine.fleet import Fleet
    from roadbed.engine.load import load

    stack = load(inventory)
    hosts, command = _chosen(stack, wanted), _command(stack.app, wanted)
    fleet = Fleet(stack, sudo_password=sudo_password(wanted.ask_sudo_password))
    work = _Work(hosts, command, quiet=wanted.as_json)
    try:
        fleet.connect(hosts)
        answers = fleet.each(hosts, work.run)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        fleet.close()  # which ends what still runs on the hosts
    errors: dict[str, RoadbedError] = {}
    for host, answer in answers.items():
        if isinstance(answer, RoadbedError):
            errors[host] = answer
        elif answer:
            errors[host] = OperationFailed(f"{host}: exit code {answer}")
    if wanted.as_json:
        told = {host: work.told(host, answers[host], errors.get(host)) for host in hosts}
        output(json.dumps({"hosts": told}, indent=1))
    for error in errors.values():
        say(f"  ! {error}")
    if errors:
        raise some_failed(errors, hosts)


def _chosen(stack: "Inventory", wanted: Wanted) -> list[str]:
    """The hosts to work on. Raises InventoryError."""
    from roadbed.engine.errors import InventoryError
    from roadbed.engine.inventory import ROLES

    if not wanted.command:
        raise InventoryError("exec: which command? Write it after two dashes: provision exec app-1 -- uptime")
    if wanted.role and wanted.role not in ROLES:
        raise InventoryError(f"--role: '{wanted.role}' is not a role. Roles: {', '.join(ROLES)}")
    hosts = chosen_hosts(stack, wanted.hosts, wanted.role, f"--role {wanted.role}")
    if not wanted.as_app:
        return hosts
    if wanted.hosts:
        return chosen_hosts(stack, hosts, "app", "--as-app")
    if chosen := [host for host in hosts if host in stack.with_role("app")]:
        return chosen
    raise InventoryError(f"--as-app: no host with the role {wanted.role} has the role app, so the app is not there")


def _command(app: "AppSettings", wanted: Wanted) -> str:
    """The words as a shell command: each is one argument, and nothing in it means anything to a shell."""
    words = shlex.join(wanted.command)
    return as_app(app, words) if wanted.as_app else f"exec {words}"


def as_app(app: "AppSettings", words: str) -> str:
    """A shell command as the app's user, with the environment of its instances, in the release that is current.

    The file is written for systemd, whose quoting the shell reads alike (deploys/environment.py): a secret goes from
    the file into the environment. The release's own Node.js comes first on the PATH.
    """
    return (
        f"[ -e {app.root}/current ] || {{ echo 'no release runs here yet' >&2; exit 1; }}\n"
        f"set -a; . /etc/roadbed/{app.name}/env; set +a\n"
        f"export PATH={app.root}/current/.roadbed:$PATH HOME={app.root}\n"
        f"cd {app.root}/current/app && exec runuser -u {app.name} -- {words}"
    )


class _Work:
    """The command on every host, and what it wrote: shown at once, or kept for --json."""

    def __init__(self, hosts: Sequence[str], command: str, *, quiet: bool) -> None:
        self._command, self._quiet, self._width = command, quiet, max(map(len, hosts))
        self._kept = {(host, where): Kept() for host in hosts for where in ("out", "err")}
        self._turn = threading.Lock()

    def run(self, session: "Session", host: str) -> int:
        """Runs it on a host; returns its exit code. Raises HostUnreachable, OperationFailed."""
        from roadbed.engine.log_entries import plain
        from roadbed.engine.tied import run_tied

        def line(where: "Where", text: str) -> None:
            if self._quiet:
                self._kept[host, where].add(text)
                return
            with self._turn:  # whole lines
                stream = sys.stdout if where == "out" else sys.stderr
                stream.write(f"{host:<{self._width}} {plain(text)}\n")
                stream.flush()

        return run_tied(session, self._command, line)

    def told(self, host: str, answer: object, error: object) -> dict[str, object]:
        """A host's part of --json."""
        out, err = self._kept[host, "out"], self._kept[host, "err"]
        return {
            "code": answer if isinstance(answer, int) else None,
            "error": str(error) if error else None,
            "stdout": out.text,
            "stderr": err.text,
            "truncated": out.cut or err.cut,
        }
