"""`provision logs`: what the hosts have logged, in the order of time, or as it comes."""

import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from .hosts import chosen_hosts, some_failed
from .options import sudo_password
from .style import output, say

if TYPE_CHECKING:
    from roadbed.engine.errors import RoadbedError
    from roadbed.engine.log_reading import Event
    from roadbed.engine.log_sources import Asked

LINES, FOLLOWED = 200, 20
"""Lines that are shown without --lines: in all, and of each host and source before it is followed."""
SPAN = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
COLOURS = (36, 33, 32, 35, 34, 31)
"""Of hosts on a terminal (ECMA-48, 8.3.117)."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for on the command line. At most one of ``components`` and ``unit``."""

    hosts: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    unit: str | None = None
    follow: bool = False
    since: str | None = None
    lines: int | None = None
    grep: str | None = None
    instance: str | None = None
    release: str | None = None
    as_json: bool = False
    ask_sudo_password: bool = False


def logs(inventory: str | None, wanted: Wanted) -> None:
    """The whole command. Raises InventoryError (2) before a host is asked; HostUnreachable (3) or OperationFailed (4)
    when a host could not be read, after the lines of the others. Ctrl-C ends it with 130."""
    from roadbed.engine.fleet import Fleet
    from roadbed.engine.load import load
    from roadbed.engine.log_reading import Event, Follower, gather
    from roadbed.engine.log_sources import ROLES, sources

    stack = load(inventory)
    component = _component(wanted)
    hosts = chosen_hosts(stack, wanted.hosts, ROLES.get(component), f"--{component}")
    asked = _asked(wanted)
    streams = sources(component, stack.app, asked, wanted.unit)
    fleet = Fleet(stack, sudo_password=sudo_password(wanted.ask_sudo_password))
    show = Shown(hosts, as_json=wanted.as_json)
    follower = Follower(fleet, streams)
    try:
        fleet.connect(hosts)
        show.events(Event(host, error=error) for host, error in fleet.failures.items())
        connected = [host for host in hosts if host in fleet.sessions]
        show.events(follower.events(connected) if asked.follow else gather(fleet, connected, streams, asked.lines))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        follower.stop()
        fleet.close()  # which ends what still runs on the hosts
    show.end()


def _component(wanted: Wanted) -> str:
    from roadbed.engine.errors import InventoryError

    named = [*wanted.components, *(["unit"] if wanted.unit else [])]
    if len(named) > 1:
        raise InventoryError(f"--{named[0]} and --{named[1]}: choose one. Each run shows the log of one component")
    component = named[0] if named else "app"
    narrow = [name for name in ("instance", "release") if getattr(wanted, name)]
    if narrow and component not in ("app", "nginx"):
        raise InventoryError(f"--{narrow[0]}: is for --app and --nginx; --{component} has none")
    if len(narrow) == 2 and component == "app":
        raise InventoryError("--instance and --release: choose one. An instance runs one release at a time")
    return component


def _asked(wanted: Wanted) -> "Asked":
    from roadbed.deploys.app import MAX_REPLICAS, SLOTS
    from roadbed.engine.errors import InventoryError
    from roadbed.engine.log_sources import Asked
    from roadbed.releases.manifest import RELEASE_ID

    slot, _, number = (wanted.instance or "a-0").partition("-")
    if slot not in SLOTS or not re.fullmatch("[0-9]{1,2}", number) or int(number) >= MAX_REPLICAS:
        raise InventoryError(
            f"--instance: '{wanted.instance}' is none. Write slot and number, such as a-0; slots: {', '.join(SLOTS)}"
        )
    if wanted.release and not re.fullmatch(RELEASE_ID, wanted.release):
        raise InventoryError(
            f"--release: '{wanted.release}' is not the id of a release, such as 20261126T011959-0635359"
        )
    return Asked(
        lines=wanted.lines or (FOLLOWED if wanted.follow else LINES),
        since=since(wanted.since) if wanted.since else None,
        grep=wanted.grep,
        follow=wanted.follow,
        whole=wanted.as_json,
        instance=wanted.instance,
        release=wanted.release,
    )


def since(text: str) -> str:
    """``10m`` or a time as a shell expression for seconds since 1970. Raises InventoryError for anything else."""
    from roadbed.engine.errors import InventoryError

    if found := re.fullmatch(r"([0-9]{1,6})([smhdw])", text):
        return f"$(($(date +%s) - {int(found[1]) * SPAN[found[2]]}))"
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InventoryError(
            f"--since: '{text}' is no time. Write a span such as 30s, 10m, 2h or 7d, or a time such as "
            "2026-11-26T03:40 (UTC, unless it says +01:00)"
        ) from None
    return str(int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()))


class Shown:
    """Prints events, and remembers the errors among them."""

    def __init__(self, hosts: list[str], *, as_json: bool) -> None:
        self._json, self._width = as_json, max(map(len, hosts))
        coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._colour = {host: COLOURS[number % len(COLOURS)] for number, host in enumerate(hosts) if coloured}
        self._hosts, self._lines = hosts, 0
        self._errors: dict[str, RoadbedError] = {}

    def events(self, events: "Iterable[Event]") -> None:
        """Lines go to standard output; what there is to say of a host goes to standard error, where it happens."""
        from roadbed.engine.log_entries import plain

        for event in events:
            if event.entry is None:
                self._errors |= {event.host: event.error} if event.error else {}
                say(f"  ! {event.error or event.notice}")
                continue
            self._lines += 1
            entry = event.entry
            if self._json:
                place = {"host": event.host, "time": entry.at, "source": entry.label}
                output(json.dumps({**place, "entry": entry.record}))
                continue
            name = f"{event.host:<{self._width}}"
            shown = f"\x1b[{self._colour[event.host]}m{name}\x1b[0m" if event.host in self._colour else name
            for line in entry.text.splitlines() or [""]:
                output(f"{shown} {entry.at} {plain(entry.label)} {plain(line)}")

    def end(self) -> None:
        """Raises the error of hosts that failed; says so when there was nothing to show."""
        if self._errors:
            raise some_failed(self._errors, self._hosts)
        if not self._lines:
            say("There is no such line.")
