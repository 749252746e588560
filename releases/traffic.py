"""What the visitors of two releases got, counted on the web hosts from nginx's access logs.

A host is asked for what it has logged since the last time, and answers with sums and with a histogram of times: the
log itself stays where it is. Counted are requests that nginx handed to an instance; files, kept pages and the checks
of the host itself are not.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from roadbed.deploys.access_log import PATH
from roadbed.deploys.app import AppSettings
from roadbed.engine.session import Session

from .scripts import script

MOST_BYTES = 32 << 20
"""Read at once at most, the newest part; about 50,000 lines. awk reads them in about a second."""
BEFORE_BYTES = 4 << 20
"""Read at the beginning, of what was logged before: about 7,000 lines of the release that serves."""
LINES = 5
"""Failed requests of the new release that are shown, of each host and each time."""
SHOWN = ("time", "method", "path", "status", "upstream_status", "upstream_response_time", "instance", "request_id")
"""Fields of a line that are kept. A path has no query, and nothing tells who asked."""


@dataclass(frozen=True)
class Traffic:
    """Requests of one release. ``failed`` were answered 5xx; the others have their times in milliseconds -> number:
    until the ``first`` byte and until the ``whole`` answer had come (upstream_header_time, upstream_response_time).

    Times are cut to two digits. Of a request that was tried at several instances the times are added.
    """

    requests: int = 0
    failed: int = 0
    first: Counter[int] = field(default_factory=Counter)
    whole: Counter[int] = field(default_factory=Counter)

    def __add__(self, other: "Traffic") -> "Traffic":
        sums = self.requests + other.requests, self.failed + other.failed
        return Traffic(*sums, self.first + other.first, self.whole + other.whole)

    @property
    def share(self) -> float:
        """The part that failed, 0 to 1."""
        return self.failed / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Counted:
    """The answer of a host. ``mark`` is where the next count begins; ``skipped`` bytes were too many to read."""

    mark: tuple[str, int]
    by_slot: Mapping[str, Traffic]
    lines: tuple[dict[str, Any], ...]
    skipped: int


def count(
    session: Session, app: AppSettings, releases: Mapping[str, str], shown: str, since: tuple[str, int] | None
) -> Counted:
    """Counts what a web host has logged since the mark ``since``; None: the end of the log, as far as it matters.

    ``releases`` is slot -> release; failures of the slot ``shown`` are given by line. Raises OperationFailed.
    """
    inode, offset = since or ("", 0)
    answer = session.run(
        script(
            "traffic",
            log=PATH,
            inode=inode,
            offset=str(offset),
            most=str(MOST_BYTES if since else BEFORE_BYTES),
            groups=" ".join(f"{app.name}_{slot} {slot} {release}" for slot, release in releases.items()),
            slot=shown,
            lines=str(LINES),
            without="/_next/image" if app.images.service else "",
        )
    )
    return parse(answer.out.splitlines())


def parse(lines: Iterable[str]) -> Counted:
    """What the lines of ``host/traffic.sh`` say."""
    mark, skipped, failures, by_slot = ("0", 0), 0, [], dict[str, Traffic]()
    for line in lines:
        word, _, rest = line.partition(" ")
        values = rest.split(" ")
        if word == "mark":
            mark = values[0], int(values[1])
        elif word == "skipped":
            skipped += int(values[0])
        elif word == "line":
            failures.append(_shown(rest))
        elif word == "sum":
            by_slot[values[0]] = by_slot.get(values[0], Traffic()) + Traffic(int(values[1]), int(values[2]))
        elif word in ("first", "whole"):
            times = Counter({int(values[1]): int(values[2])})
            more = Traffic(first=times) if word == "first" else Traffic(whole=times)
            by_slot[values[0]] = by_slot.get(values[0], Traffic()) + more
    return Counted(mark, by_slot, tuple(failures), skipped)


def _shown(line: str) -> dict[str, Any]:
    try:
        whole = json.loads(line)
    except ValueError:
        return {"status": "a line that is not JSON"}
    return {name: whole[name] for name in SHOWN if name in whole}
