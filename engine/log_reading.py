"""Read logs of several hosts: what is there, in the order of time; or what comes, for as long as somebody looks."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .errors import HostUnreachable, OperationFailed, RoadbedError
from .fleet import Fleet
from .log_entries import Entry, plain
from .log_sources import Source
from .session import Session
from .tied import Where, run_tied

RETRY_SECONDS = 120
"""How long a host that drops while it is followed is tried again: a reboot takes less."""
PAUSE = 2.0
"""Seconds between two tries."""
WAITING = 1000
"""Lines that may wait to be shown; then hosts wait too."""
SAID = 5
"""Last lines of what a command complained about."""


@dataclass(frozen=True)
class Event:
    """A line of a host; or what there is to say of the host; or the error with which it ended."""

    host: str
    entry: Entry | None = None
    notice: str = ""
    error: RoadbedError | None = None


def gather(fleet: Fleet, hosts: Iterable[str], sources: list[Source], lines: int) -> list[Event]:
    """The last ``lines`` entries of all hosts together, oldest first, after what there is to say of the hosts."""

    def one(session: Session, host: str) -> list[Event]:
        found: list[Event] = []
        for source in sources:
            entries: deque[Entry] = deque(maxlen=lines)
            said = _stream(session, source, entries.append)
            found += [Event(host, notice=text) for text in said]
            found += [Event(host, entry) for entry in entries]
        return found

    events: list[Event] = []
    for host, answer in fleet.each(hosts, one).items():
        events += [Event(host, error=answer)] if isinstance(answer, RoadbedError) else answer
    entries = [event for event in events if event.entry]
    return [event for event in events if not event.entry] + in_order(entries)[-lines:]


def in_order(events: list[Event]) -> list[Event]:
    """By time; what came at the same time stays as it was."""
    return sorted(events, key=lambda event: event.entry.time if event.entry else 0.0)


class Follower:
    """What hosts log from now on, and the last lines before. Each host is followed until it is lost or ``stop``."""

    def __init__(self, fleet: Fleet, sources: list[Source]) -> None:
        self._fleet, self._sources = fleet, sources
        self._events: queue.Queue[Event] = queue.Queue(WAITING)
        self._stop = threading.Event()

    def events(self, hosts: list[str], settle: float = 0.5) -> Iterator[Event]:
        """The events, until every host has ended. What comes first, up to a pause of ``settle`` seconds, is sorted
        by time; then everything as it comes."""
        for host in hosts:
            threading.Thread(target=self._watch, args=(host,), daemon=True, name=host).start()
        first = self._first(settle) if hosts else []
        yield from in_order(first)
        left = len(hosts) - sum(event.error is not None for event in first)
        while left:
            event = self._events.get()
            yield event
            left -= event.error is not None

    def _first(self, settle: float) -> list[Event]:
        events, ends = list[Event](), time.monotonic() + 10 * settle
        while len(events) < WAITING and time.monotonic() < ends:
            try:
                events.append(self._events.get(timeout=settle))
            except queue.Empty:
                break
        return events

    def stop(self) -> None:
        """Ends the commands on the hosts."""
        self._stop.set()

    def _watch(self, host: str) -> None:
        cursors: dict[str, str | None] = {}
        error = self._follow(host, cursors, again=False)
        while isinstance(error, HostUnreachable) and not self._stop.is_set():
            self._put(Event(host, notice=f"{error}. Trying again for {RETRY_SECONDS} s"))
            if not self._connect(host):
                break
            self._put(Event(host, notice=f"{host}: connected again"))
            error = self._follow(host, cursors, again=True)
        self._put(Event(host, error=error))

    def _connect(self, host: str) -> bool:
        ends = time.monotonic() + RETRY_SECONDS
        while time.monotonic() < ends and not self._stop.wait(PAUSE):
            if session := self._fleet.sessions.pop(host, None):
                session.close()
            self._fleet.failures.pop(host, None)
            self._fleet.connect([host])
            if host in self._fleet.sessions:
                return True
        return False

    def _follow(self, host: str, cursors: dict[str, str | None], *, again: bool) -> RoadbedError:
        """Follows all sources of a host at the same time; the error with which the first of them ended."""
        session, errors = self._fleet.session(host), list[RoadbedError]()

        def one(source: Source) -> None:
            def take(entry: Entry) -> None:
                cursors[source.name] = entry.cursor
                self._put(Event(host, entry))

            try:
                said = _stream(session, source, take, cursors.get(source.name), again=again, stop=self._stop)
                errors.append(OperationFailed(f"{host}: {source.name}: {' / '.join(said) or 'it ended'}"))
            except RoadbedError as error:
                errors.append(error)
            if not isinstance(errors[-1], HostUnreachable) and len(errors) < len(self._sources):
                self._put(Event(host, notice=str(errors[-1])))  # of the others there may be more

        threads = [threading.Thread(target=one, args=(source,), daemon=True) for source in self._sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return next((error for error in errors if isinstance(error, HostUnreachable)), errors[0])

    def _put(self, event: Event) -> None:
        while not self._stop.is_set():
            try:
                self._events.put(event, timeout=0.5)
            except queue.Full:
                continue
            return


def _stream(
    session: Session,
    source: Source,
    take: Callable[[Entry], None],
    cursor: str | None = None,
    *,
    again: bool = False,
    stop: threading.Event | None = None,
) -> list[str]:
    """Tells ``take`` the entries of a source; returns what the command said beside them. Raises RoadbedError."""
    read, said = source.reader(), deque[str](maxlen=SAID)

    def line(where: Where, text: str) -> None:
        if where == "err":
            said.append(plain(text))
        elif entry := read(text):
            take(entry)

    code = run_tied(session, source.command(cursor, again), line, stop=stop)
    if code and said:  # journalctl --grep ends with 1 when it found nothing
        raise OperationFailed(f"{session.name}: {' / '.join(said)}")
    return list(said)
