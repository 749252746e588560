"""What every command that changes hosts has around it: the lock, the lines in the journals of the hosts, its own
journal on this machine."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .style import say

if TYPE_CHECKING:
    from roadbed.engine.converge import Run
    from roadbed.engine.errors import RoadbedError
    from roadbed.engine.fleet import Fleet
    from roadbed.engine.journal import Journal
    from roadbed.engine.lock import Lock
    from roadbed.engine.report import Report
    from roadbed.engine.session import Session


class Locked:
    """One command at work. ``lock`` None: it changes nothing, and nobody is kept out or told."""

    def __init__(self, fleet: "Fleet", what: str, lock: "Lock | None", report: "Report | None") -> None:
        self.fleet, self.what, self.lock, self.report = fleet, what, lock, report
        self.journal: Journal | None = None
        self.runs: list[Run] = []

    def opened(self, session: "Session", name: str) -> None:
        """A host is connected: its lock is taken while it is asked other things."""
        if self.lock:
            self.lock.opened(session, name)

    def take(self) -> None:
        """Waits for the lock of every connected host; one that cannot be locked drops out of the fleet.

        Raises Refused when another run has it.
        """
        if self.lock is None:
            return
        from roadbed.engine.journal import Journal
        from roadbed.engine.owner import owner

        for name, error in self.lock.take(self.fleet.sessions).items():
            self.fleet.failures[name] = error
            self.fleet.sessions.pop(name).close()
        for name, holder in self.lock.taken_from().items():
            say(f"{name}: took the lock from {holder}")
        self.journal = Journal(self.fleet.inventory.path, self.what, owner(), list(self.fleet.sessions))
        if self.report:
            self.report.watchers.append(self.journal)

    def drop(self, failures: "Mapping[str, RoadbedError]") -> None:
        """Gives the lock back on hosts that this command does not touch, because they are unfit."""
        if self.lock:
            self.lock.drop({name: f"failed: {_first_line(error)}" for name, error in failures.items()})

    def begins(self, name: str) -> None:
        """A step or a stage begins: the ``guard`` of a run. Raises Refused when the lock is lost."""
        if self.lock:
            self.lock.check()
        if self.journal:
            self.journal.begins(name)

    def failed(self) -> "Mapping[str, RoadbedError]":
        """The errors of hosts so far."""
        return self.fleet.failures | {host: error for run in self.runs for host, error in run.failed.items()}

    def ended(self, error: BaseException | None, seconds: float) -> None:
        """Writes the outcome down and gives the lock back."""
        if self.lock is None:
            return
        result, reason = outcome(error, self.failed())
        if self.journal:
            self.journal.ended(result, reason)
        if result != "interrupted":  # the hosts see the connection end, and write that
            self.lock.end(f"{result}{f': {reason}' if reason else ''} ({seconds:.1f} s)")


@contextmanager
def locked(
    fleet: "Fleet",
    names: list[str],
    what: str,
    report: "Report | None" = None,
    *,
    lock: bool = True,
    break_lock: bool = False,
) -> Iterator[Locked]:
    """Around everything that a command does on ``names``, before the fleet connects (``Fleet.connect(opened=...)``).

    ``what`` is what others are told: the command, and the release if it is known.
    """
    from roadbed.engine.lock import Lock

    app, ordered = fleet.inventory.app.name, [name for name in fleet.inventory.hosts if name in names]
    mine = Locked(fleet, what, Lock(app, ordered, what, break_lock=break_lock) if lock else None, report)
    began = time.monotonic()
    try:
        yield mine
    except BaseException as error:
        mine.ended(error, time.monotonic() - began)
        raise
    mine.ended(None, time.monotonic() - began)


def outcome(error: BaseException | None, failed: "Mapping[str, RoadbedError]") -> tuple[str, str]:
    """How a command ended, in a word, and the first line of the reason."""
    from roadbed.engine.errors import Refused, RoadbedError

    if isinstance(error, Refused):
        return "refused", _first_line(error)
    if isinstance(error, RoadbedError):
        return "failed", _first_line(error)
    if isinstance(error, Exception):
        return "failed", f"a defect: {type(error).__name__}"
    if error is not None:
        return "interrupted", ""
    worst = min(failed.values(), key=lambda one: one.exit_code, default=None)
    return ("failed", _first_line(worst)) if worst else ("ok", "")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
