"""Three cache hosts: the master of each instance is lost, another takes over, the app follows, nothing undoes it."""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from roadbed.deploys.context import Context
from roadbed.deploys.node import NodeSettings
from roadbed.deploys.redis_users import command_line
from roadbed.deploys.urls import redis_environment
from roadbed.engine.load import load
from roadbed.engine.secrets import Secrets
from roadbed.machines import nspawn
from roadbed.machines.model import MachineSpec
from roadbed.releases import runtime_files
from roadbed.releases.command import BuildLog
from roadbed.releases.node_builds import resolve
from roadbed.releases.toolchain import Toolchain, fetch

from .conftest import Stack, make_stack, spec

SCRIPT = str(Path(__file__).with_name("data_tier.py"))
FIRST, SECOND, APP = "se-1", "se-2", "se-3"
FOLDER = "/opt/follower"
LIMIT = 20
"""Seconds until another server is master: 5 until the old one counts as down, the vote, and a busy computer."""


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Redis 7.0 on two machines with Debian 12, 8.0 on one with Debian 13, where the app is too."""
    specs = [spec(FIRST, 60, "bookworm"), spec(SECOND, 61, "bookworm"), spec(APP, 62, "trixie")]
    booted(specs)
    stack = make_stack(tmp_path_factory.mktemp("sentinel"), specs)
    stack.data["hosts"][FIRST]["roles"] = stack.data["hosts"][SECOND]["roles"] = ["cache"]
    stack.data["hosts"][APP]["roles"] = ["cache", "web", "app"]
    stack.write(redis={"cache_memory": 48, "durable_memory": 32}, base={"updates": False})
    assert _converge(stack)["failed"] == {}
    return stack


def _converge(stack: Stack) -> dict[str, Any]:
    words = [sys.executable, SCRIPT, str(stack.path), "base", "firewall", "redis"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=600, cwd=stack.folder, env=stack.environment
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _verify(stack: Stack) -> None:
    stack.provision("verify", "phase2", "--only", "redis,sentinel,data_ports")


def _master(stack: Stack, instance: str, seen_from: str) -> str:
    """Name of the host that has the master, as the Sentinel of ``seen_from`` says."""
    words = command_line(26379, f"sentinel get-master-addr-by-name {instance}")
    address = stack.ssh(seen_from, words).split()[0]
    return next(name for name, host in stack.data["hosts"].items() if host["address"] == address)


def _within(seconds: float, claim: Callable[[], bool]) -> float:
    """Seconds until ``claim`` holds. Raises AssertionError after ``seconds``."""
    begin = time.monotonic()
    while not claim():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - begin


class Follower:
    """One instance of an app on the app host, as far as Redis goes."""

    def __init__(self, environment: dict[str, str]) -> None:
        words = [*nspawn.ssh_command(APP, user="root"), f"cd {FOLDER} && exec ./node follower.cjs"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.longest = 0.0
        """Milliseconds of the longest request so far."""
        assert self._send(environment) == "started"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, line: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def ask(self, *words: Any) -> Any:
        """The answer to a request; see follower.cjs. Raises AssertionError for one that threw."""
        said = self._send(words)
        assert "error" not in said, said["error"]
        self.longest = max(self.longest, said["ms"])
        return said["answer"]


@pytest.fixture(scope="module")
def environment(stack: Stack) -> dict[str, str]:
    """What the app on the app host gets to know of Redis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROADBED_IDENTITY", stack.environment["ROADBED_IDENTITY"])
        secret = Secrets(stack.path.with_name("stack.secrets.age")).get
        known = redis_environment(Context(load(str(stack.path)), "phase2", APP, {}, secret))
    return {**known, "ROADBED_APP": "storefront", "ROADBED_RELEASE": "r1"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, stack: Stack) -> Toolchain:
    """Node.js, the cache handlers of a release, and node-redis, on the app host."""
    tools = fetch({platform.machine(): resolve(NodeSettings(source="npm"), platform.machine(), sys.platform)})
    log = BuildLog(tmp_path_factory.mktemp("log") / "build.log")
    handlers = runtime_files.cache_handlers(tools, stack.environment, log)
    packages = runtime_files._packages(tools, stack.environment, log)
    for folder, what in (
        (tools.node.parent, "node"),
        (handlers, "shared-cache.cjs"),
        (packages, "node_modules/@redis"),
        (Path(__file__).parent, "follower.cjs"),
    ):
        pack = subprocess.run(["tar", "-C", str(folder), "-cf", "-", what], stdout=subprocess.PIPE, check=True)
        unpack = [*nspawn.ssh_command(APP, user="root"), f"mkdir -p {FOLDER} && tar -C {FOLDER} -xf -"]
        subprocess.run(unpack, input=pack.stdout, check=True)
    return tools


@pytest.fixture
def follower(program: Toolchain, environment: dict[str, str]) -> Iterator[Callable[[], Follower]]:
    """``follower()`` starts one."""
    with ExitStack() as running:
        yield lambda: running.enter_context(Follower(environment))


def test_a_second_run_changes_nothing(stack: Stack) -> None:
    """Everything is in place after the first run, and every check holds."""
    assert _converge(stack) == {"failed": {}, "changed": []}
    _verify(stack)


def test_the_cache_survives_its_master(stack: Stack, follower: Callable[[], Follower]) -> None:
    """kill -9, and no restart: nothing is thrown, nobody waits, and both instances of the app share again."""
    a, b = follower(), follower()
    _within(10, lambda: a.ask("connected") and b.ask("connected"))
    a.ask("put", "/seen", "seen")
    assert b.ask("read", "/seen") == "seen"
    a.longest = b.longest = 0
    kill = "systemctl mask --runtime -q redis-server@cache && systemctl kill -s KILL redis-server@cache"
    stack.ssh(FIRST, kill)
    begin, elected, count = time.monotonic(), 0.0, 0

    def shared() -> bool:
        nonlocal elected, count
        count += 1
        a.ask("put", f"/after-{count}", "after")
        assert b.ask("read", "/seen") == "seen"
        found = b.ask("read", f"/after-{count}")
        if not elected and _master(stack, "cache", SECOND) != FIRST:
            elected = time.monotonic() - begin
        return bool(found == "after" and elected)

    both = _within(LIMIT, shared)
    longest = max(a.longest, b.longest)
    print(f"\ncache: another master after {elected:.1f} s, the app shares again after {both:.1f} s; ", end="")
    print(f"longest of {count * 3} requests {longest:.0f} ms")
    assert _master(stack, "cache", APP) == SECOND, "of the same version, so that the others can follow"
    assert longest < 1000


def test_the_next_run_undoes_nothing(stack: Stack) -> None:
    """The run that starts the dead server again leaves the new master alone; the one after it changes nothing."""
    stack.ssh(FIRST, "systemctl unmask --runtime -q redis-server@cache")
    assert _converge(stack) == {"failed": {}, "changed": ["Start Redis cache now and at boot"]}
    role = command_line(6379, "role")
    assert stack.ssh(FIRST, role).split()[:2] == ["slave", stack.address(SECOND)]
    assert _converge(stack) == {"failed": {}, "changed": []}
    assert _master(stack, "cache", FIRST) == SECOND


def test_what_was_stored_survives_the_host(stack: Stack, follower: Callable[[], Follower]) -> None:
    """The host of the durable master is cut off: what a replica had acknowledged is there, and writes go on."""
    one = follower()
    assert _master(stack, "durable", APP) == FIRST
    assert one.ask("store", "before", "1", 1) >= 1
    nspawn.cut(FIRST)
    begin = time.monotonic()
    try:
        _within(LIMIT, lambda: _master(stack, "durable", APP) != FIRST)
        elected = time.monotonic() - begin
        _within(2 * LIMIT, lambda: one.ask("try_store", "after", "2") == "OK")
        print(f"\ndurable: another master after {elected:.1f} s, written again after {time.monotonic() - begin:.1f} s")
        assert one.ask("load", "before") == "1"
        result = _converge(stack)
        assert (list(result["failed"]), result["changed"]) == ([FIRST], [])
        assert one.ask("load", "after") == "2"
    finally:
        nspawn.heal(FIRST)


def test_the_old_master_comes_back_as_a_replica(stack: Stack, follower: Callable[[], Follower]) -> None:
    """By itself, with what was written meanwhile; the next run changes nothing, and every check holds."""
    master = stack.address(_master(stack, "durable", APP))
    role = command_line(6380, "role")
    took = _within(60, lambda: stack.ssh(FIRST, role).split()[:4] == ["slave", master, "6380", "connected"])
    print(f"\nthe old master follows {took:.1f} s after its cable was plugged in")
    assert follower().ask("load", "after") == "2"
    assert _converge(stack) == {"failed": {}, "changed": []}
    _verify(stack)
    stack.ssh(FIRST, "systemctl restart redis-server@durable redis-sentinel")
    _within(20, lambda: stack.ssh(FIRST, role).split()[:4] == ["slave", master, "6380", "connected"])
