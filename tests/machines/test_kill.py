"""Converges that are killed: the next run finishes what was begun, whatever the moment.

Slow, so it is a ring of its own: ``pytest tests/machines -m kill -s``. ROADBED_SEED repeats the moments of a run.
"""

import json
import os
import queue
import random
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from roadbed.machines import nspawn
from roadbed.machines.model import MachineSpec

from .conftest import PROVISION, Stack, make_stack, spec
from .visit import Site

pytestmark = pytest.mark.kill
HOST = "kill-1"
SEED = int(os.environ.get("ROADBED_SEED") or random.randrange(10**6))  # noqa: S311
ROUNDS = 5
PATIENCE = 180
"""Seconds until the next change."""
NGINX = "/etc/nginx/nginx.conf"


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A converged machine of its own."""
    booted([spec(HOST, 111)])
    stack = make_stack(tmp_path_factory.mktemp("kill"), [spec(HOST, 111)])
    stack.first = stack.converge()
    print(f"\nROADBED_SEED={SEED}")
    return stack


def start(stack: Stack) -> "subprocess.Popen[str]":
    """`provision phase1` in a process group of its own, its progress readable."""
    return subprocess.Popen(
        [PROVISION, "phase1", "-i", str(stack.path)],
        cwd=stack.folder,
        env=stack.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(run: "subprocess.Popen[str]") -> bool:
    """SIGKILL for the run and all its children; whether it was still at work."""
    busy = run.poll() is None
    if busy:
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    return busy


def follow(run: "subprocess.Popen[str]") -> "queue.SimpleQueue[str]":
    """The lines that report a change, as they come; an empty one at the end."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert run.stderr is not None
        for line in run.stderr:
            if line.lstrip().startswith(f"+ {HOST}: "):
                lines.put(line.strip())
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    return lines


def changed(result: dict[str, Any]) -> list[str]:
    """Names of the operations that changed something."""
    return [item["name"] for item in result["operations"] if item["status"] == "changed"]


def assert_sound(stack: Stack) -> list[str]:
    """The next run converges, the one after changes nothing, every check holds; returns what the next run changed."""
    finished = changed(stack.converge())
    assert changed(stack.converge()) == []
    checks = json.loads(stack.provision("verify", "phase1", "--json").stdout)["checks"]
    assert all(check["passed"] for check in checks)
    assert stack.ssh(HOST, "ls /var/lib/roadbed/pending /var/lib/roadbed/revert; find / -xdev -name '.roadbed-*'") == (
        "/var/lib/roadbed/pending:\n\n/var/lib/roadbed/revert:\n"
    )
    with Site(stack.address(HOST)) as site:
        assert site.get("/api/info").status_code == 200
    return finished


def locate(first: dict[str, Any], moment: float) -> tuple[int, float, int]:
    """Which change was under way at ``moment`` (0 to 1) of a run, for how many seconds, and of how many changes."""
    times = [item["seconds"] for item in first["operations"] if item["status"] == "changed"]
    left = moment * sum(times[:-1])  # after the last one, the run may have ended
    for place, took in enumerate(times):
        if left < took:
            return place, left, len(times)
        left -= took
    raise AssertionError("a moment within the run")


@pytest.mark.parametrize("number", range(ROUNDS))
def test_fresh_machine_killed_at_a_random_moment_converges(stack: Stack, number: int) -> None:
    """The moments are spread over the time of a whole run, and found again by its operations under any load."""
    moment = random.Random(SEED + number).uniform(number, number + 1) / ROUNDS  # noqa: S311
    place, delay, operations = locate(stack.first, moment)
    nspawn.reset([HOST])
    stack.path.with_name("stack.known_hosts").unlink()
    run = start(stack)
    lines = follow(run)
    last = [lines.get(timeout=PATIENCE) for _ in range(place)][-1:]
    with suppress(queue.Empty):  # at the latest when the operation has ended
        lines.get(timeout=delay)
    busy = kill(run)
    print(f"\nkilled in operation {place} of {operations}, {delay:.2f} s after {last}")
    assert busy
    finished = assert_sound(stack)
    print(f"the next run changed {len(finished)} operations")


CUTS = ["Write /etc/nginx/nginx.conf", "Write the environment of the instances", "Start release", "Switch traffic"]


@pytest.mark.parametrize("last", CUTS)
def test_run_killed_between_writing_and_restarting_is_finished_by_the_next(stack: Stack, last: str) -> None:
    """Killed as soon as an operation has ended, so that what it owes is not paid by this run."""
    timeout, drain = 61 + CUTS.index(last), 21 + CUTS.index(last)
    stack.write(nginx={"read_timeout": timeout}, app={"drain": drain})
    run = start(stack)
    lines = follow(run)
    while (reached := lines.get(timeout=PATIENCE)) and not reached.startswith(f"+ {HOST}: {last}"):
        continue
    kill(run)
    assert reached, "the run ended before this operation changed anything"
    assert_sound(stack)
    assert f"proxy_read_timeout {timeout}s;" in stack.ssh(HOST, f"cat {NGINX}")
    with Site(stack.address(HOST)) as site:
        pid = site.get("/api/info").json()["pid"]
    assert f"ROADBED_DRAIN_SECONDS={drain}" in stack.ssh(HOST, f"tr '\\0' '\\n' < /proc/{pid}/environ")


def test_configuration_that_was_written_and_never_loaded_is_loaded(stack: Stack) -> None:
    """What a run leaves that dies between the two: the new file and its debt, and an nginx of before."""
    stack.ssh(HOST, f"sed -i 's/client_max_body_size 10m/client_max_body_size 20m/' {NGINX}")
    stack.ssh(HOST, ": > /var/lib/roadbed/pending/nginx")
    body = b"x" * (15 * 2**20)
    with Site(stack.address(HOST)) as site:
        assert site.post("/api/upload", content=body).status_code == 413
        stack.write(nginx={"body": "20m"})
        assert changed(stack.converge()) == ["Reload nginx on new settings"]
    with Site(stack.address(HOST)) as site:
        assert site.post("/api/upload", content=body).json()["bytes"] == len(body)
    assert stack.ssh(HOST, "ls /var/lib/roadbed/pending") == ""


def test_release_that_was_not_told_of_its_new_environment_is_started_anew(stack: Stack) -> None:
    with Site(stack.address(HOST)) as site:
        before = site.get("/api/info").json()
        stack.ssh(HOST, ": > /var/lib/roadbed/pending/storefront")
        finished = changed(stack.converge())
        after = site.get("/api/info").json()
    assert any(name.startswith("Start release") for name in finished)
    assert before["release"] == after["release"]
    assert before["pid"] != after["pid"]
    assert changed(stack.converge()) == []
