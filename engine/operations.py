"""Watch pyinfra's operations on one host: what runs, how long it took, what it changed, why it failed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyinfra.api.exceptions import NestedOperationError, PyinfraError
from pyinfra.api.state import BaseStateCallback, State

from .errors import HostUnreachable, OperationFailed, RoadbedError
from .report import Report, Status


def operation_name(state: State, host: Any, op_hash: str) -> str:
    """The ``name=`` of an operation on one host; pyinfra's own ``op_meta.names`` mixes hosts (pyinfra#1370)."""
    return str(state.ops[host][op_hash].global_arguments.get("name") or op_hash)


class OperationCallbacks(BaseStateCallback):
    """Hands pyinfra's callbacks to the watch of the host they belong to."""

    @staticmethod
    def operation_host_start(state: State, host: Any, op_hash: str) -> None:
        watch(host).begin(op_hash)

    @staticmethod
    def operation_host_success(state: State, host: Any, op_hash: str, retry_count: int = 0) -> None:
        watch(host).end()

    @staticmethod
    def operation_host_error(state: State, host: Any, op_hash: str, retry_count: int = 0, max_retries: int = 0) -> None:
        watch(host).end()


def watch(host: Any) -> "OperationWatch":
    """The watch that looks after a pyinfra host at the moment."""
    found: OperationWatch = host.connector_data["roadbed_watch"]
    return found


class OperationWatch:
    """Reports the operations of one component on one host."""

    def __init__(self, state: State, host: Any, component: str, report: Report) -> None:
        self._state, self._host, self._component, self._report = state, host, component, report
        self._running: str | None = None
        self._began = self._seconds = 0.0
        self._first = len(host.op_hash_order)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around ``deploy()``. Raises OperationFailed with the reason when an operation fails, HostUnreachable
        when the connection broke."""
        self._host.connector_data["roadbed_watch"] = self
        self._host.connector.error = ""
        try:
            yield
            self._flush()
        except NestedOperationError:
            raise self._error(self._fail(self._host.op_hash_order[-1])) from None
        except (PyinfraError, RoadbedError, KeyError, ValueError) as error:
            self._flush()
            reason = f"{self._host.name}: {self._component}: {error}"
            self._report.operation(self._host.name, self._component, "Prepare", "failed", detail=str(error))
            raise self._error(reason) from error
        if not self._state.is_executing:
            self._predict()

    def begin(self, op_hash: str) -> None:
        """An operation starts."""
        self._flush()
        self._running, self._began = op_hash, time.monotonic()
        self._report.progress(self._host.name, operation_name(self._state, self._host, op_hash))

    def end(self) -> None:
        """It has ended; whether it changed something is known a moment later."""
        self._seconds = time.monotonic() - self._began

    def _flush(self) -> None:
        if self._running is None:
            return
        meta = self._state.ops[self._host][self._running].operation_meta
        if meta.is_complete() and meta.did_succeed():
            self._record(self._running, "changed" if meta.did_change() else "unchanged", self._seconds)
        self._running = None

    def _fail(self, op_hash: str) -> str:
        meta = self._state.ops[self._host][op_hash].operation_meta
        said = self._host.connector.error or (meta.stderr if meta.is_complete() else "") or "no output"
        self._record(op_hash, "failed", self._seconds, said)
        self._running = None
        return f"{self._host.name}: {operation_name(self._state, self._host, op_hash)}: {said}"

    def _error(self, reason: str) -> RoadbedError:
        return HostUnreachable(reason) if self._host.connector.session.lost else OperationFailed(reason)

    def _predict(self) -> None:
        for op_hash in self._host.op_hash_order[self._first :]:
            meta = self._state.ops[self._host][op_hash].operation_meta
            self._record(op_hash, "changed" if meta._maybe_is_change else "unchanged", 0.0)

    def _record(self, op_hash: str, status: Status, seconds: float, detail: str = "") -> None:
        name = operation_name(self._state, self._host, op_hash)
        self._report.operation(self._host.name, self._component, name, status, seconds, detail)
