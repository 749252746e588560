"""Booted machines for the tests: one pair shared by all, converged once, and more where a test spoils its own.

Every machine here has an address of its own in 192.168.60.0/24 and is removed at the end.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from roadbed.engine.secrets import ACTION_KEY, Secrets, new_action_key
from roadbed.machines import nspawn
from roadbed.machines.model import MachineSpec

from .visitors import Visitors

ROOT = Path(__file__).resolve().parents[2]
PROVISION = str(Path(sys.executable).with_name("provision"))
KEY = nspawn.key_path
BOOT = "cat /proc/sys/kernel/random/boot_id"
KERNEL_BOOT = Path("/proc/sys/kernel/random/boot_id").read_text()
NO_BOOT = ("", KERNEL_BOOT, KERNEL_BOOT.strip())
"""Not the boot id of a machine: one that shuts down unmounts its own and shows that of the kernel."""


@dataclass
class Stack:
    """An inventory on disk and the machines that play its hosts."""

    folder: Path
    data: dict[str, Any]
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    first: dict[str, Any] = field(default_factory=dict)
    """What the first converge said (``--json``)."""

    def address(self, name: str) -> str:
        """The address of a host."""
        return str(self.data["hosts"][name]["address"])

    @property
    def path(self) -> Path:
        """The inventory file."""
        return self.folder / "inventories/stack.yml"

    def write(self, **changes: Any) -> None:
        """Writes the inventory, with blocks merged over the present ones."""
        for block, values in changes.items():
            self.data[block] = {**self.data.get(block, {}), **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(yaml.safe_dump(self.data, sort_keys=False))

    def provision(self, *words: str, code: int | None = 0, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Runs `provision WORDS -i stack`; asserts the exit code unless it is None."""
        done = subprocess.run(
            [PROVISION, *words, "-i", str(self.path)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert code is None or done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def converge(self, *words: str, phase: str = "phase1") -> dict[str, Any]:
        """`provision <phase> --json`; returns its result."""
        result: dict[str, Any] = json.loads(self.provision(phase, "--json", *words).stdout)
        return result

    def ssh(self, name: str, command: str, *, check: bool = True, timeout: float = 120, stdin: str = "") -> str:
        """Runs a command on a machine as root, without Roadbed; returns its output."""
        words = [*nspawn.ssh_command(name, user="root"), command]
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, timeout=timeout)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def spec(name: str, number: int, suite: str = "trixie", **more: Any) -> MachineSpec:
    """A machine at 192.168.60.<number>."""
    return MachineSpec(name=name, address=f"192.168.60.{number}", suite=suite, **more)


def make_stack(folder: Path, specs: list[MachineSpec], **blocks: Any) -> Stack:
    """An inventory whose hosts are complete phase1 machines running the sample app."""
    app = {
        "name": "storefront",
        "source": str(ROOT / "examples/storefront"),
        "domain": "shop.example.test",
        "health": "/api/info",
        "streaming": "/streaming",
        "replicas": 2,
        "memory": 512,
    }
    data = {
        "app": {**app, **blocks.pop("app", {})},
        "ssh": {"user": "admin", "key": str(KEY()), **blocks.pop("ssh", {})},
        "hosts": {each.name: {"address": each.address, "roles": ["web", "app"]} for each in specs},
        "node": {"source": "npm"},
        "nginx": {"tls": {"mode": "self-signed"}},
        "edge": {"guarded": True},
        **blocks,
    }
    stack = Stack(folder, data)
    stack.environment["ROADBED_IDENTITY"] = str(_identity())
    stack.environment["XDG_STATE_HOME"] = str(folder / "state")
    stack.write()
    shutil.copy(_identity().with_name("secrets.age"), stack.path.with_name("stack.secrets.age"))
    return stack


def _identity() -> Path:
    """One identity and one action key for all stacks of the tests: a release is built once and used by all of them."""
    path = Path("~/.cache/roadbed/tests/identity.age").expanduser()
    sealed = path.with_name("secrets.age")
    if not sealed.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ROADBED_IDENTITY", str(path))
            Secrets(sealed).get_or_create(ACTION_KEY, new_action_key)
    return path


SHARED = ("pair-", "fleet-")
"""Beginnings of the names of machines that several modules use."""
_booted: list[str] = []


def _remove(names: list[str]) -> None:
    running = {machine.name for machine in nspawn.listing()}
    if there := [name for name in dict.fromkeys(names) if name in running]:
        nspawn.down(there)


@pytest.fixture(scope="session")
def booted() -> Iterator[Callable[[list[MachineSpec]], None]]:
    """``booted([spec(...)])`` boots machines with fresh disks; they are removed when the module, or the run, ends."""

    def boot(specs: list[MachineSpec]) -> None:
        _remove([each.name for each in specs])
        _booted.extend(each.name for each in specs)
        nspawn.up(specs, say=lambda text: print(text, file=sys.stderr))

    yield boot
    _remove(_booted)


@pytest.fixture(scope="module", autouse=True)
def machines_of_the_module() -> Iterator[None]:
    """A module's own machines go with it: some 20 at once use up the kernel's inotify instances (128 a user)."""
    yield
    own = [name for name in _booted if not name.startswith(SHARED)]
    _remove(own)
    _booted[:] = [name for name in _booted if name not in own]


@pytest.fixture(scope="session")
def pair(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """One Debian 12 and one Debian 13 machine, converged to phase1. Tests leave it as they found it."""
    specs = [spec("pair-12", 101, "bookworm"), spec("pair-13", 102, "trixie")]
    booted(specs)
    stack = make_stack(tmp_path_factory.mktemp("pair"), specs)
    stack.first = stack.converge()
    return stack


FLEET = {
    "fleet-web": (131, "bookworm", ["web"]),
    "fleet-app1": (132, "trixie", ["app"]),
    "fleet-app2": (133, "bookworm", ["app"]),
    "fleet-data": (134, "trixie", ["cache", "pooler", "database"]),
}
"""Name -> number, Debian release, roles."""


@dataclass
class Phases:
    """What happened while the fleet went from phase1 to phase3: each run's result, and the requests meanwhile."""

    results: dict[str, dict[str, Any]]
    requests: int
    failures: list[str]


@dataclass
class Grown:
    """The fleet at phase3."""

    stack: Stack
    phases: Phases


@pytest.fixture(scope="session")
def grown(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Grown:
    """Four machines, brought from phase1 to phase3 under constant requests. Tests leave them as they found them."""
    specs = [spec(name, number, suite) for name, (number, suite, _) in FLEET.items()]
    booted(specs)
    stack = make_stack(tmp_path_factory.mktemp("fleet"), specs)
    for name, (_, _, roles) in FLEET.items():
        stack.data["hosts"][name]["roles"] = roles
    stack.write(
        app={"migrate": "npm run migrate"},
        nginx={"limits": {"requests": 1000, "burst": 1000}},
        redis={"cache_memory": 128, "durable_memory": 64},
    )
    results = {"phase1": stack.converge()}
    with Visitors(stack.address("fleet-web"), "shop.example.test") as visitors:
        for phase in ("phase2", "phase3"):
            results[phase] = stack.converge(phase=phase)
        time.sleep(2)
    stack.first = results["phase1"]
    return Grown(stack, Phases(results, visitors.total, visitors.failures))
