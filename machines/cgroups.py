"""Control groups of the machines: the only module that knows cgroup v2 from v1.

Every machine has its own group `roadbed-machines/<name>`, made by hand next to systemd's own, because the
control machine need not run systemd. Controllers that are enabled for that folder cannot be disabled from
above while it exists (kernel documentation, cgroup-v2.rst, "Top-down Constraint").

v2: one tree with all controllers. Hybrid: the tree that holds the processes is v2 without controllers,
and each controller is a v1 tree of its own; nspawn must be in the machine's group in all of them, or all
machines share one group and their systemds act on one another's processes.
A group is removed and made again for each boot: on v2 a group that has had child groups with controllers
takes no process any more ("No Internal Process Constraint").
"""

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from roadbed.machines.commands import unescape
from roadbed.machines.model import MachinesError

FOLDER = "roadbed-machines"
PERIOD = 100_000  # microseconds; the kernel's default for CPU quotas, v1 and v2
_UNIFIED_CONTROLLERS = ("cpu", "memory", "pids")  # those that systemd enables by itself
_KEEPERS = "_keepers"
_LEGACY_TREES = ("name=systemd", "cpu", "cpuacct", "memory", "pids", "blkio")


@dataclass(frozen=True)
class Layout:
    """Where the trees are mounted. main: the one that tells which processes a machine has.
    legacy: v1 controller -> its mount point; empty on v2."""

    main: Path
    legacy: Mapping[str, Path]

    def groups(self, name: str) -> list[Path]:
        """The group `name` in every tree."""
        trees = dict.fromkeys([self.main, *self.legacy.values()])
        return [tree / FOLDER / name for tree in trees]


def parse_layout(mountinfo: str) -> Layout:
    """The layout that the text of /proc/self/mountinfo describes. Raises MachinesError without cgroups."""
    unified: Path | None = None
    legacy: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = [*right.split(maxsplit=2), "", "", ""][:3]
        point = Path(unescape(left.split()[4]))
        if kind == "cgroup2":
            unified = unified or point
        elif kind == "cgroup":
            legacy.update({tree: point for tree in options.split(",") if tree in _LEGACY_TREES})
    main = unified or legacy.get("name=systemd")
    if main is None:
        raise MachinesError(
            "/sys/fs/cgroup: no cgroup tree is mounted; rehearsal machines need one (any Linux with systemd "
            "has it). Rehearse in a virtual machine, for example with Vagrant."
        )
    return Layout(main, legacy)


def layout() -> Layout:
    """The layout of this machine."""
    return parse_layout(Path("/proc/self/mountinfo").read_text())


def limits(where: Layout, memory: int | None, cpus: float | None) -> list[tuple[Path, str, str]]:
    """What sets the limits: (tree, file, value) in the order to write. memory in MiB, cpus in CPUs."""
    size = None if memory is None else str(memory << 20)
    quota = None if cpus is None else str(int(cpus * PERIOD))
    if not where.legacy:
        return [
            (where.main, "memory.max", size or "max"),
            (where.main, "memory.swap.max", "0" if size else "max"),
            (where.main, "cpu.max", f"{quota or 'max'} {PERIOD}"),
        ]
    memory_tree, cpu_tree = where.legacy.get("memory"), where.legacy.get("cpu")
    wanted = []
    if memory_tree:
        wanted += [
            (memory_tree, "memory.limit_in_bytes", size or "-1"),
            (memory_tree, "memory.memsw.limit_in_bytes", size or "-1"),
        ]
    if cpu_tree:
        wanted += [(cpu_tree, "cpu.cfs_quota_us", quota or "-1")]
    return wanted


def limit(name: str, memory: int | None, cpus: float | None) -> None:
    """Limit machine `name`. Raises MachinesError when this machine cannot enforce a limit that was asked for."""
    where = layout()
    _require(where, "memory", memory)
    _require(where, "cpu", cpus)
    for tree, file, value in limits(where, memory, cpus):
        path = tree / FOLDER / name / file
        if path.exists():  # no swap accounting, or a controller that nobody asked for
            path.write_text(value)


def _require(where: Layout, controller: str, wanted: float | None) -> None:
    offered = where.legacy or (where.main / FOLDER / "cgroup.subtree_control").read_text().split()
    if wanted is not None and controller not in offered:
        raise MachinesError(
            f"/sys/fs/cgroup: the {controller} controller is not available here, so a {controller} limit "
            "cannot be enforced; remove it from the machine's definition"
        )


def create(name: str) -> None:
    """Make the group `name`, empty, in every tree; what was there is killed and removed first."""
    remove(name)
    _make(name)


def keep() -> None:
    """Move the calling process out of its caller's groups, so that a closed login or a finished CI job does not
    take the machine along that it keeps running."""
    _make(_KEEPERS)
    enter(_KEEPERS)


def _make(name: str) -> None:
    where = layout()
    for group in where.groups(name):
        group.parent.mkdir(exist_ok=True)
        if not where.legacy:
            _enable_controllers(group.parent.parent)
            _enable_controllers(group.parent)
        group.mkdir(exist_ok=True)


def _enable_controllers(group: Path) -> None:
    offered = (group / "cgroup.controllers").read_text().split()
    for controller in [each for each in _UNIFIED_CONTROLLERS if each in offered]:
        # Refused one by one where this machine is itself inside a container; limit() says so if it matters.
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def enter(name: str) -> None:
    """Move the calling process into the group `name`, in every tree."""
    for group in layout().groups(name):
        (group / "cgroup.procs").write_text("0")


def processes(name: str) -> list[int]:
    """Pids of all processes in the group `name` and below."""
    group = layout().groups(name)[0]
    found: list[int] = []
    for folder, _, _ in os.walk(group):
        with contextlib.suppress(OSError):
            found += map(int, Path(folder, "cgroup.procs").read_text().split())
    return found


def remove(name: str) -> None:
    """Kill everything in the group `name` and remove it from every tree.

    SIGKILL by pid, not cgroup.kill: killing the machine's pid 1 takes its whole pid namespace along, on
    any kernel. Raises MachinesError when processes are still there after 10 seconds.
    """
    deadline = time.monotonic() + 10
    while alive := processes(name):
        if time.monotonic() > deadline:
            raise MachinesError(f"{name}: processes {alive} do not end after SIGKILL; see `ps -o stat,wchan`")
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    for group in layout().groups(name):
        _remove_tree(group)


def remove_folder() -> None:
    """Remove `roadbed-machines` itself from every tree, with the groups left in it that have no process."""
    for group in layout().groups(""):
        _remove_tree(group)


def _remove_tree(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        for _ in range(50):  # busy for a moment after the last process has gone
            try:
                Path(folder).rmdir()
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.01)
            else:
                break
