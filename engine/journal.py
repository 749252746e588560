"""The journal of a run on the control machine: one JSON object a line, so that an interrupted run can be explained.

``~/.local/state/roadbed/runs/<stack>-<hash>/<UTC time>-<command>.jsonl``, mode 600; the newest ``KEPT`` of a stack
stay. It never disturbs a run: what cannot be written is left out.
"""

import contextlib
import json
import os
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

import roadbed

from .holder import plain
from .process import process_mark
from .report import OperationRecord

KEPT = 50


def folder_of(inventory: Path) -> Path:
    """Where the journals of a stack are; two inventories of the same name in different folders are two stacks."""
    mark = sha256(str(inventory.resolve()).encode()).hexdigest()[:12]
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return state / f"roadbed/runs/{inventory.stem}-{mark}"


class Journal:
    """One run. Is a watcher of its report (``report.py``)."""

    def __init__(self, inventory: Path, what: str, owner: str, hosts: list[str]) -> None:
        self._stage, self._file = "", self._open(folder_of(inventory), what.split(" ")[0])
        pid = os.getpid()
        begun = {"what": what, "owner": owner, "pid": pid, "process": process_mark(pid), "hosts": hosts}
        self._write("begun", **begun, version=roadbed.__version__)

    def begins(self, name: str) -> None:
        """A step, or a stage of the present one, begins."""
        if name != self._stage:
            self._stage = name
            self._write("stage", name=name)

    def step(self, name: str, hosts: list[str]) -> None:
        """A step begins on these hosts."""
        self._stage = ""
        self._write("step", name=name, hosts=hosts)

    def step_ended(self, name: str, seconds: float) -> None:
        """It has ended on all of them."""
        self._stage = ""
        self._write("step ended", name=name, seconds=round(seconds, 3))

    def operation(self, record: OperationRecord) -> None:
        """Failures, and the ends of stages, are worth a line; other operations are in the output of the run."""
        if record.status == "failed":
            error = plain(record.detail, 500)
            self._write("failed", host=record.host, step=record.component, name=record.name, error=error)
        elif record.name == self._stage and record.status == "changed":
            self._write("stage ended", host=record.host, name=record.name, seconds=round(record.seconds, 3))

    def ended(self, result: str, error: str = "") -> None:
        """The last line. ``result``: ok, failed, refused or interrupted."""
        self._write("ended", result=result, error=plain(error, 500))
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None

    def _open(self, folder: Path, command: str) -> TextIO | None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{command}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for old in sorted(folder.glob("*.jsonl"))[: -KEPT + 1]:
                old.unlink(missing_ok=True)
            return os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600), "w")
        except OSError:
            return None

    def _write(self, event: str, **values: Any) -> None:
        if self._file is None:
            return
        try:
            line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **values}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError:
            self._file = None
