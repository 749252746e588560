"""The machines that exist: one JSON file each, and the lock that lets one run at a time change them.

/var/lib/roadbed-machines/
  registry/<name>.json   what `list` reads, for everyone (no secrets)
  network.json           what network.py made and has to put back
  base/, run/            base images and machines' disks, closed to everyone but root: a machine's disk
                         may hold set-uid programs that must not be reachable by local users
"""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roadbed.machines.model import Machine, MachinesError, MachineSpec, NoMachineError

STATE = Path("/var/lib/roadbed-machines")
REGISTRY = STATE / "registry"
BASE = STATE / "base"
RUN = STATE / "run"


@dataclass(frozen=True)
class Process:
    """A process that outlives its parent; the start time tells it from a later one with the same pid."""

    pid: int
    started: int  # clock ticks since boot, field 22 of /proc/<pid>/stat (proc(5))

    @classmethod
    def of(cls, pid: int) -> "Process":
        """The process that has `pid` now; one that is already gone gets the start time -1."""
        return cls(pid, _stat(pid)[1])

    def alive(self) -> bool:
        state, started = _stat(self.pid)
        return started == self.started and state not in ("Z", "X", "")


def _stat(pid: int) -> tuple[str, int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", -1
    return fields[0], int(fields[19])


@dataclass(frozen=True)
class Record:
    """What is known of one machine."""

    spec: MachineSpec
    host_key: str = ""  # the public SSH host key, as in known_hosts without the address
    supervisor: Process | None = None
    delay: Process | None = None
    boot_seconds: float | None = None

    def running(self) -> bool:
        return self.supervisor is not None and self.supervisor.alive()

    def machine(self) -> Machine:
        """The record as the public API shows it."""
        spec = self.spec
        return Machine(
            spec.name,
            spec.address,
            spec.suite,
            "running" if self.running() else "stopped",
            self.boot_seconds,
        )


def save(record: Record) -> Record:
    """Write `record` atomically and return it."""
    write_json(REGISTRY / f"{record.spec.name}.json", dataclasses.asdict(record))
    return record


def load(name: str) -> Record:
    """The record of `name`. Raises MachinesError, naming the machines there are, when it does not exist."""
    try:
        data = json.loads((REGISTRY / f"{name}.json").read_text())
    except FileNotFoundError as error:
        known = ", ".join(names()) or "none"
        raise NoMachineError(f"{name}: no such machine; machines: {known}") from error
    return _record(data)


def _record(data: dict[str, Any]) -> Record:
    for key in ("supervisor", "delay"):
        data[key] = data[key] and Process(**data[key])
    return Record(**{**data, "spec": MachineSpec(**data["spec"])})


def names() -> list[str]:
    """Names of all machines, sorted."""
    return sorted(path.stem for path in REGISTRY.glob("*.json"))


def records() -> list[Record]:
    """Records of all machines; one that vanishes while reading is left out."""
    found = []
    for name in names():
        with contextlib.suppress(MachinesError):
            found.append(load(name))
    return found


def forget(name: str) -> None:
    """Remove the record of `name`."""
    (REGISTRY / f"{name}.json").unlink(missing_ok=True)


def write_json(path: Path, data: object) -> None:
    """Write `data` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(data, indent=1) + "\n")
    draft.chmod(0o644)
    draft.replace(path)


@contextlib.contextmanager
def lock(name: str, busy: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file `name`; says `busy` when another run has it, and waits."""
    STATE.mkdir(parents=True, exist_ok=True)
    for closed in (BASE, RUN):
        closed.mkdir(mode=0o700, exist_ok=True)
    with (STATE / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(busy)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
