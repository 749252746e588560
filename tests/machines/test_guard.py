"""A change that locks everybody out, or that nobody confirmed, undoes itself."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roadbed.deploys.guard import REVERT_SECONDS
from roadbed.machines.model import MachineSpec

from .conftest import BOOT, NO_BOOT, Stack, make_stack, spec

HOST = "guard-1"
SCRIPT = str(Path(__file__).with_name("components.py"))
PASSES = "nft list table inet roadbed | grep 'dport 22 '"
CONTROL = "192.168.60.0/24"


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def stack(
    request: pytest.FixtureRequest,
    booted: Callable[[list[MachineSpec]], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Stack:
    """A machine with base and firewall, open to the whole network of the machines."""
    name, number = f"{HOST}-{request.param}", {"bookworm": 61, "trixie": 62}[request.param]
    machine = spec(name, number, request.param)
    booted([machine])
    stack = make_stack(tmp_path_factory.mktemp("guard"), [machine], firewall={"ssh_from": [CONTROL]})
    assert _converge(stack, "base", "firewall")["failed"] == {}
    return stack


def _name(stack: Stack) -> str:
    return next(iter(stack.data["hosts"]))


def _converge(stack: Stack, *components: str) -> dict[str, Any]:
    words = [sys.executable, SCRIPT, str(stack.path), *components]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300, cwd=stack.folder)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _killed_at_the_second_login(stack: Stack) -> None:
    words = [sys.executable, SCRIPT, str(stack.path), "firewall", "--hang"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=stack.folder) as run:
        assert run.stdout is not None
        assert run.stdout.readline().strip() == "at the second login"
        run.kill()


def _lets_in(stack: Stack) -> bool:
    """Whether a new SSH session gets in; a packet filter that drops takes 10 s to show."""
    try:
        stack.ssh(_name(stack), "true", timeout=20)
    except (AssertionError, subprocess.TimeoutExpired):
        return False
    return True


def _unfinished(stack: Stack) -> str:
    return stack.ssh(
        _name(stack), "ls -A /var/lib/roadbed/revert /var/lib/roadbed/pending | grep -v -e : -e '^$' || true"
    )


def test_a_second_run_changes_nothing(stack: Stack) -> None:
    """The firewall that is in force is left alone."""
    assert _converge(stack, "base", "firewall") == {"failed": {}, "changed": 0}


def test_rules_that_lock_us_out_are_undone(stack: Stack) -> None:
    """The run fails with the reason, and the way in is open again."""
    stack.write(firewall={"ssh_from": ["192.0.2.0/24"]})
    reason = _converge(stack, "firewall")["failed"][_name(stack)]
    assert "a new SSH session could not log in" in reason
    assert "What was there before is back in force" in reason
    assert CONTROL in stack.ssh(_name(stack), PASSES)
    assert _unfinished(stack) == ""


def test_a_run_that_dies_with_the_door_shut_is_undone_by_the_timer(stack: Stack) -> None:
    """Nobody can log in, and the host opens the way again by itself."""
    stack.write(firewall={"ssh_from": ["192.0.2.0/24"]})
    began = time.monotonic()
    _killed_at_the_second_login(stack)
    assert not _lets_in(stack)
    while not _lets_in(stack):
        assert time.monotonic() - began < REVERT_SECONDS + 60
    print(f"\nlocked out for {time.monotonic() - began:.0f} s")
    assert CONTROL in stack.ssh(_name(stack), PASSES)
    assert _unfinished(stack) == ""


def test_a_killed_change_is_undone_at_the_next_boot(stack: Stack) -> None:
    """A run that dies before the second login leaves nothing behind after a reboot."""
    stack.write(firewall={"ssh_from": ["192.168.0.0/16"]})
    _killed_at_the_second_login(stack)
    assert "192.168.0.0/16" in stack.ssh(_name(stack), PASSES)
    assert "firewall" in _unfinished(stack)
    before = stack.ssh(_name(stack), BOOT)
    stack.ssh(_name(stack), "systemctl reboot", check=False)
    _wait_for_a_boot_after(stack, before)
    assert CONTROL in stack.ssh(_name(stack), PASSES)
    assert _unfinished(stack) == ""


def test_a_killed_change_is_finished_by_the_next_run(stack: Stack) -> None:
    """A run that begins before the timer ends takes the change up, confirms it and stops the timer."""
    stack.write(firewall={"ssh_from": ["192.168.56.0/21"]})
    _killed_at_the_second_login(stack)
    assert _converge(stack, "firewall") == {"failed": {}, "changed": 1}
    assert "192.168.56.0/21" in stack.ssh(_name(stack), PASSES)
    assert _unfinished(stack) == ""
    timers = stack.ssh(_name(stack), "systemctl list-units --all --plain --no-legend 'roadbed-revert-*.timer'")
    assert timers == ""


def test_a_flushed_table_comes_back(stack: Stack) -> None:
    """Rules that somebody removed by hand are loaded again by the next run."""
    stack.ssh(_name(stack), "nft flush ruleset")
    assert _converge(stack, "firewall") == {"failed": {}, "changed": 1}
    assert "192.168.56.0/21" in stack.ssh(_name(stack), PASSES)


def test_nftables_service_leaves_our_table(stack: Stack) -> None:
    """Debian's nftables.service, which flushes everything, takes Roadbed's table back in."""
    for verb in ("restart", "reload", "stop"):
        stack.ssh(_name(stack), f"systemctl {verb} nftables.service")
        assert "192.168.56.0/21" in stack.ssh(_name(stack), PASSES)


def _wait_for_a_boot_after(stack: Stack, boot_id: str) -> None:
    for _ in range(120):
        try:
            if stack.ssh(_name(stack), BOOT, timeout=5) not in (*NO_BOOT, boot_id):
                return
        except (AssertionError, subprocess.TimeoutExpired):
            pass
        time.sleep(0.5)
    raise AssertionError("the machine did not come back")
