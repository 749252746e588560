"""Constant load on the sample app while something happens to it: every request counted, by client, kind and section.

    with Traffic(address, domain, folder) as traffic:
        with traffic.during("10 deploys"):
            ...
    print(traffic.report())

``traffic.cjs`` sends. Its clients: https of Node.js with kept connections (HTTP/1.1), its fetch (undici, the same),
a new connection each time, and its http2. None tries a request twice.
"""

import json
import platform
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from roadbed.deploys.node import NodeSettings
from roadbed.releases.node_builds import resolve
from roadbed.releases.toolchain import fetch_node

from .odds import claim, upper_bound

PROGRAM = Path(__file__).with_name("traffic.cjs")
RATES: dict[str, dict[str, float]] = {
    "http/1.1": {"page": 10, "stream": 1, "action": 1, "upload": 1, "file": 6, "info": 3, "form": 0.2},
    "fetch": {"page": 8, "stream": 0.5, "action": 1, "upload": 1, "file": 4, "info": 2, "form": 0.2},
    "new connection": {"page": 4, "stream": 0.25, "action": 0.5, "upload": 0.5, "file": 2, "info": 1, "form": 0.2},
    "http/2": {"page": 10, "stream": 1, "action": 1, "upload": 1, "file": 6, "info": 3, "form": 0.2},
}
"""Client -> operation -> requests a second: 70 in all. About 14 streams and 7 actions are under way at any moment."""


def scaled(factor: float) -> dict[str, dict[str, float]]:
    """``RATES`` times a factor."""
    return {client: {kind: rate * factor for kind, rate in kinds.items()} for client, kinds in RATES.items()}


@dataclass(frozen=True)
class Request:
    """One request. ``due`` is in seconds of ``time.time()``; ``late`` (until it was sent) and ``took`` (until its last
    byte) are in seconds since. ``error`` is empty if all was well, else ``kind: what``."""

    client: str
    kind: str
    due: float
    late: float
    took: float
    error: str = ""
    release: str = ""
    order: str = ""

    @property
    def truncated(self) -> bool:
        """Whether its answer began and did not end."""
        return self.error.startswith("truncated")


def parse(line: str) -> Request | None:
    """A line of ``traffic.cjs``; None for its last one, which is about the whole."""
    row = json.loads(line)
    if isinstance(row, dict):
        return None
    client, kind, due, late, took, _, error, release, order = row
    return Request(client, kind, due / 1000, late / 1000, took / 1000, error, release, order)


@dataclass(frozen=True)
class Count:
    """Requests of one sort. ``p50`` and ``p99`` are seconds from when they were due, of those that were answered."""

    name: str
    requests: int
    failed: int
    truncated: int
    p50: float
    p99: float


def count(name: str, requests: Iterable[Request]) -> Count:
    """The figures of some requests."""
    mine = list(requests)
    took = sorted(request.took for request in mine if not request.error)
    failed, truncated = len(mine) - len(took), sum(request.truncated for request in mine)
    return Count(name, len(mine), failed, truncated, percentile(took, 50), percentile(took, 99))


def percentile(values: list[float], percent: int) -> float:
    """Nearest rank of sorted values; 0 for none."""
    return values[min(len(values), max(1, -(-len(values) * percent // 100))) - 1] if values else 0.0


@dataclass(frozen=True)
class Orders:
    """What became of the Server Actions: ids that were sent, those answered well, and those the app has written down.

    ``begun`` and ``done`` count how often the app began and finished each.
    """

    sent: frozenset[str]
    answered: frozenset[str]
    begun: Counter[str]
    done: Counter[str]

    @property
    def lost(self) -> set[str]:
        """Sent and never finished."""
        return set(self.sent) - set(self.done)

    @property
    def doubled(self) -> set[str]:
        """Begun more than once."""
        return {order for order, times in self.begun.items() if times > 1}

    def __str__(self) -> str:
        numbers = f"{len(self.answered)} answered, {len(self.done)} recorded by the app"
        return f"actions: {len(self.sent)} sent, {numbers}, {len(self.lost)} lost, {len(self.doubled)} executed twice"


def fetched_node() -> Path:
    """The Node.js that releases are built with; fetched, and verified, when it is not there yet."""
    settings = NodeSettings(source="npm")
    return fetch_node(resolve(settings, platform.machine(), sys.platform))


@dataclass
class Traffic:
    """The load, from ``with`` to its end; then ``requests`` is complete. Raises RuntimeError when it does not begin."""

    address: str
    domain: str
    folder: Path
    port: int = 443
    rates: dict[str, dict[str, float]] = field(default_factory=lambda: RATES)
    node: Path = field(default_factory=lambda: fetched_node())
    requests: list[Request] = field(default_factory=list)
    goaways: int = 0
    """HTTP/2 connections that the server wanted to end."""
    unanswered: int = 0
    """Requests that were still open when nobody waited any longer."""
    sections: list[tuple[str, float, float]] = field(default_factory=list)
    """What happened, and between which moments (``time.time()``)."""
    run: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:8]}")

    def __enter__(self) -> "Traffic":
        config = {key: getattr(self, key) for key in ("address", "domain", "port", "rates", "run")}
        words = [str(self.node), "--no-warnings", str(PROGRAM), json.dumps({**config, "out": str(self._file)})]
        env = {"NODE_TLS_REJECT_UNAUTHORIZED": "0"}  # rehearsals have self-signed certificates
        self._process = subprocess.Popen(
            words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the load did not begin: {self._process.communicate()[1].strip()}{self._first_error()}")
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _, said = self._process.communicate(timeout=120)
        lines = self._file.read_text().splitlines()
        self.requests = [request for line in lines if (request := parse(line))]
        end: dict[str, Any] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        if self._process.returncode or not end:
            raise RuntimeError(f"the load ended too early: {said.strip()}")
        self.goaways, self.unanswered = end["goaways"], end["open"]

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """What is done inside has this name in the report."""
        began = time.time()
        try:
            yield
        finally:
            self.sections.append((name, began, time.time()))

    @property
    def failures(self) -> list[str]:
        """A line for each request that failed."""
        return [
            f"{datetime.fromtimestamp(r.due):%H:%M:%S.%f} {r.client} {r.kind}: {r.error} after {r.took:.2f} s "
            f"({self._section(r)}){f', order {r.order}' if r.order else ''}"
            for r in self.requests
            if r.error
        ]

    @property
    def releases(self) -> list[str]:
        """The releases that answered, in the order of their first answer."""
        return list(dict.fromkeys(r.release for r in sorted(self.requests, key=lambda r: r.due) if r.release))

    def counts(self) -> list[Count]:
        """By client and by kind, then all."""
        clients = dict.fromkeys(r.client for r in self.requests)
        kinds = dict.fromkeys(r.kind for r in self.requests)
        return [
            *(count(client, (r for r in self.requests if r.client == client)) for client in clients),
            *(count(kind, (r for r in self.requests if r.kind == kind)) for kind in kinds),
            count("all", self.requests),
        ]

    def by_section(self) -> list[Count]:
        """Requests whose time overlaps each section: those that could have been touched by it."""
        return [
            count(name, mine)
            for name, began, ended in self.sections
            if (mine := [r for r in self.requests if r.due + r.took >= began and r.due <= ended])
        ]

    def orders(self, log: str) -> Orders:
        """The actions, with the lines of the app's ``log``: ``order ID begun`` and ``order ID done``."""
        words = [line.split() for line in log.splitlines()]
        found = [(w[1], w[2]) for w in words if len(w) >= 3 and w[0] == "order" and w[1].startswith(f"{self.run}-")]
        begun, done = (Counter(order for order, state in found if state == wanted) for wanted in ("begun", "done"))
        sent = [r for r in self.requests if r.order]
        answered = frozenset(r.order for r in sent if not r.error)
        return Orders(frozenset(r.order for r in sent), answered, begun, done)

    def report(self) -> str:
        """The tables, and the claim with its bound."""
        late = sorted(request.late for request in self.requests)
        lines = [f"{'':32}{'requests':>9}{'failed':>8}{'cut':>6}{'p50 ms':>9}{'p99 ms':>9}"]
        for row in (*self.counts(), *self.by_section()):
            times = f"{row.p50 * 1000:9.0f}{row.p99 * 1000:9.0f}"
            lines.append(f"{row.name:32}{row.requests:9}{row.failed:8}{row.truncated:6}{times}")
        failed = sum(1 for request in self.requests if request.error)
        lines.append(f"failed: {claim(failed, len(self.requests))}")
        lines.append(
            f"sent late by p50 {percentile(late, 50) * 1000:.0f} ms, p99 {percentile(late, 99) * 1000:.0f} ms; "
            f"HTTP/2 connections ended by the server: {self.goaways}; never answered: {self.unanswered}"
        )
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Plain data: the counts, and the bound of the rate of failures at 95 % confidence."""
        failed, total = sum(1 for r in self.requests if r.error), len(self.requests)
        rows = {"counts": self.counts(), "sections": self.by_section()}
        return {
            **{name: [vars(row) for row in found] for name, found in rows.items()},
            "requests": total,
            "failed": failed,
            "truncated": sum(1 for r in self.requests if r.truncated),
            "bound": upper_bound(failed, total),
            "failures": self.failures,
        }

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.run}.jsonl"

    def _section(self, request: Request) -> str:
        names = [
            name for name, began, end in self.sections if began <= request.due + request.took and request.due <= end
        ]
        return ", ".join(names) or "between"

    def _first_error(self) -> str:
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        found = [request for line in lines if (request := parse(line)) and request.error]
        return f" ({found[0].error})" if found else ""
