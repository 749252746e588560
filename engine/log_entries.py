"""Lines of logs as entries with a time: of the journal, of nginx, of PostgreSQL."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)?")
"""What a terminal takes for orders: colours, titles, movements (ECMA-48)."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Entry:
    """A line of a log. ``time`` is in seconds since 1970, ``label`` says who wrote it.

    ``record`` is what it was read from, ``cursor`` its place in the journal.
    """

    time: float
    label: str
    text: str
    record: Any
    cursor: str | None = None

    @property
    def at(self) -> str:
        """The time as people and programs read it, in UTC."""
        return datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(text: str) -> str:
    """``text`` without anything that a terminal would obey: a visitor may have had it written into a log."""
    return CONTROL.sub("?", ESCAPES.sub("", text))


def journal_entry(line: str, app: str = "") -> Entry | None:
    """An entry of ``journalctl --output json``; None for what is none. Units of ``app`` are named by instance."""
    try:
        record = json.loads(line)
        seconds = int(record["__REALTIME_TIMESTAMP"]) / 1e6
    except (ValueError, TypeError, KeyError):
        return None
    unit = _text(record.get("UNIT") or record.get("_SYSTEMD_UNIT") or record.get("SYSLOG_IDENTIFIER"))
    label = unit.removesuffix(".service").removeprefix(f"{app}@" if app else "")
    by = "systemd: " if "UNIT" in record else ""
    return Entry(seconds, label or "-", by + _text(record.get("MESSAGE")), record, record.get("__CURSOR"))


def _text(value: Any) -> str:
    """A field of the journal: text, bytes as numbers when it is not printable, or a list of these."""
    if isinstance(value, list):
        if all(isinstance(item, int) for item in value):
            return bytes(value).decode(errors="replace")
        return "\n".join(_text(item) for item in value)
    return "" if value is None else str(value)


def access_entry(line: str) -> Entry | None:
    """A request in nginx's access log, which Roadbed writes as JSON."""
    try:
        record = json.loads(line)
        seconds = datetime.fromisoformat(record["time"]).timestamp()
    except (ValueError, TypeError, KeyError):
        return None
    words = [record.get(name) for name in ("client", "method", "path", "status")]
    text = " ".join(str(word) for word in words if word not in (None, ""))
    more = [f"{record['seconds']} s"] if "seconds" in record else []
    more += [str(record[name]) for name in ("instance", "release") if record.get(name)]
    return Entry(seconds, "access", ", ".join([text, *more]), record)


@dataclass(frozen=True)
class Form:
    """How the lines of a log file begin: with group 1 of ``begin``, a time as strptime(3) reads it by ``time``."""

    begin: re.Pattern[str]
    time: str


NGINX_ERROR = Form(re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) "), "%Y/%m/%d %H:%M:%S")
POSTGRES = Form(re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) \S+ "), "%Y-%m-%d %H:%M:%S.%f")


class FileLog:
    """A log file whose lines begin with a time of the host's zone. The first line here is ``<now> <zone> <since>``:
    seconds since 1970 by the host's clock, its zone, and the time before which nothing is wanted, if there is one.

    A line without a time belongs to the one before it. ``read`` makes the entry of a line where it can.
    """

    def __init__(self, label: str, form: Form, read: Callable[[str], Entry | None] | None = None) -> None:
        self._label, self._form, self._read = label, form, read
        self._zone: timezone | None = None
        self._last = self._since = 0.0

    def take(self, line: str) -> Entry | None:
        """The entry of a line; None for the first, and for what is too old."""
        if self._zone is None:
            now, zone, *since = line.split()
            self._last, self._since, self._zone = float(now), float(since[0]) if since else 0.0, _zone(zone)
            return None
        entry = (self._read(line) if self._read else None) or self._dated(line)
        return entry if entry.time >= self._since else None

    def _dated(self, line: str) -> Entry:
        if found := self._form.begin.match(line):
            self._last = datetime.strptime(found[1], self._form.time).replace(tzinfo=self._zone).timestamp()
            return Entry(self._last, self._label, line[found.end() :], {"line": line})
        return Entry(self._last, self._label, line, {"line": line})


def _zone(text: str) -> timezone:
    """A zone as ``date +%z`` writes it: +0130."""
    sign = -1 if text.startswith("-") else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[3:5])))
