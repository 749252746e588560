"""What happened, operation by operation: shown live, and written as JSON and HTML from the same records."""

import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

Status = Literal["changed", "unchanged", "failed", "skipped"]


@dataclass(frozen=True)
class OperationRecord:
    """One operation on one host. ``seconds`` is wall time; ``detail`` is the reason of a failure or a skip.

    ``ended`` is when it ended, in seconds since the run began.
    """

    host: str
    component: str
    name: str
    status: Status
    seconds: float
    detail: str = ""
    ended: float = 0.0


class Watcher(Protocol):
    """One that is told what a report is told, such as the journal of a run (``journal.py``)."""

    def step(self, name: str, hosts: list[str]) -> None: ...
    def step_ended(self, name: str, seconds: float) -> None: ...
    def operation(self, record: OperationRecord) -> None: ...


@dataclass
class Report:
    """Collects the records of one run. Subclasses show them while they arrive (``cli/progress.py``)."""

    operations: list[OperationRecord] = field(default_factory=list)
    steps: list[tuple[str, float]] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _began: float = field(default_factory=time.monotonic, repr=False)

    def step(self, name: str, hosts: list[str]) -> None:
        """A component begins on these hosts."""
        self._started = time.monotonic()
        for watcher in self.watchers:
            watcher.step(name, hosts)
        self.on_step(name, hosts)

    def step_ended(self, name: str) -> None:
        """The component that began last has ended on every host."""
        self.steps.append((name, time.monotonic() - self._started))
        for watcher in self.watchers:
            watcher.step_ended(*self.steps[-1])

    def operation(
        self, host: str, component: str, name: str, status: Status, seconds: float = 0.0, detail: str = ""
    ) -> None:
        """An operation has ended on a host."""
        ended = time.monotonic() - self._began
        record = OperationRecord(host, component, name, status, seconds, detail, round(ended, 3))
        with self._lock:
            self.operations.append(record)
        for watcher in self.watchers:
            watcher.operation(record)
        self.on_operation(record)

    def progress(self, host: str, text: str) -> None:
        """What a host is doing at this moment."""
        self.on_progress(host, text)

    def on_step(self, name: str, hosts: list[str]) -> None:
        """For subclasses."""

    def on_operation(self, record: OperationRecord) -> None:
        """For subclasses."""

    def on_progress(self, host: str, text: str) -> None:
        """For subclasses."""

    def count(self, status: Status, host: str | None = None) -> int:
        """Number of operations with a status, on one host or on all."""
        return sum(1 for record in self.operations if record.status == status and host in (None, record.host))

    def failures(self) -> list[OperationRecord]:
        """The operations that failed."""
        return [record for record in self.operations if record.status == "failed"]

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json`` and reports."""
        hosts = sorted({record.host for record in self.operations})
        return {
            "hosts": {
                host: {status: self.count(status, host) for status in ("changed", "unchanged", "failed", "skipped")}
                for host in hosts
            },
            "steps": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.steps],
            "operations": [{**asdict(record), "seconds": round(record.seconds, 4)} for record in self.operations],
        }
