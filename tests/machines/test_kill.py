"""Converges that are killed: the next run finishes what was begun, whatever the moment.

Slow, so it is a ring of its own: ``pytest tests/machines -m kill -s``. ROADBED_SEED repeats the moments of a run.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
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
NGINX = "/etc/nginx/nginx.conf"


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> tuple[Stack, float]:
    """A converged machine, and the seconds that its first converge took, without the build."""
    booted([spec(HOST, 111)])
    stack = make_stack(tmp_path_factory.mktemp("kill"), [spec(HOST, 111)])
    first = stack.converge()
    took = sum(step["seconds"] for step in first["steps"])
    print(f"\nROADBED_SEED={SEED}; a first converge takes {took:.0f} s")
    return stack, took


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


def kill(run: "subprocess.Popen[str]") -> None:
    """SIGKILL for the run and all its children."""
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


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


@pytest.mark.parametrize("number", range(ROUNDS))
def test_fresh_machine_killed_at_a_random_moment_converges(stack: tuple[Stack, float], number: int) -> None:
    here, took = stack
    moment = random.Random(SEED + number).uniform(number, number + 1) * took / ROUNDS  # noqa: S311
    nspawn.reset([HOST])
    here.path.with_name("stack.known_hosts").unlink()
    run = start(here)
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith("connected to"):
            break
    time.sleep(moment)
    reached = here.ssh(HOST, "ls -t /var/lib/roadbed /srv/storefront 2>/dev/null; true").split()
    kill(run)
    print(f"\nkilled after {moment:.1f} of {took:.0f} s, with {reached}")
    finished = assert_sound(here)
    print(f"the next run changed {len(finished)} operations")


CUTS = ["Write /etc/nginx/nginx.conf", "Write the environment of the instances", "Start release", "Switch traffic"]


@pytest.mark.parametrize("last", CUTS)
def test_run_killed_between_writing_and_restarting_is_finished_by_the_next(
    stack: tuple[Stack, float], last: str
) -> None:
    """Killed as soon as an operation has ended, so that what it owes is not paid by this run."""
    here, _ = stack
    here.write(nginx={"read_timeout": 61 + CUTS.index(last)}, app={"drain": 21 + CUTS.index(last)})
    run = start(here)
    assert run.stderr is not None
    for line in run.stderr:
        if line.strip().startswith(f"+ {HOST}: {last}"):
            break
    kill(run)
    print(f"\nkilled after: {line.strip()}")
    assert last in line, "the run ended before this operation changed anything"
    assert_sound(here)
    assert f"proxy_read_timeout {61 + CUTS.index(last)}s;" in here.ssh(HOST, f"cat {NGINX}")
    with Site(here.address(HOST)) as site:
        unit = here.ssh(HOST, f"systemctl show storefront@* -p MainPID | grep -c {site.get('/api/info').json()['pid']}")
        assert unit.strip() == "1"


def test_configuration_that_was_written_and_never_loaded_is_loaded(stack: tuple[Stack, float]) -> None:
    """What a run leaves that dies between the two: the new file and its debt, and an nginx of before."""
    here, _ = stack
    here.ssh(HOST, f"sed -i 's/client_max_body_size 10m/client_max_body_size 20m/' {NGINX}")
    here.ssh(HOST, ": > /var/lib/roadbed/pending/nginx")
    body = b"x" * (15 * 2**20)
    with Site(here.address(HOST)) as site:
        assert site.post("/api/upload", content=body).status_code == 413
        here.write(nginx={"body": "20m"})
        assert changed(here.converge()) == ["Reload nginx on new settings"]
    with Site(here.address(HOST)) as site:
        assert site.post("/api/upload", content=body).json()["bytes"] == len(body)
    assert here.ssh(HOST, "ls /var/lib/roadbed/pending") == ""


def test_release_that_was_not_told_of_its_new_environment_is_started_anew(stack: tuple[Stack, float]) -> None:
    here, _ = stack
    with Site(here.address(HOST)) as site:
        before = site.get("/api/info").json()
        here.ssh(HOST, ": > /var/lib/roadbed/pending/storefront")
        finished = changed(here.converge())
        after = site.get("/api/info").json()
    assert any(name.startswith("Start release") for name in finished)
    assert before["release"] == after["release"]
    assert before["pid"] != after["pid"]
    assert changed(here.converge()) == []
