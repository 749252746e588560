"""Two people at one stack: who comes second is told, and a lock lives exactly as long as its run.

A run is held for as long as a test likes at the question that a phase asks at a terminal: it has the lock by then, and
has changed nothing yet. The machines stay bare until the last tests.
"""

import json
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from roadbed.machines.model import MachineSpec

from .conftest import BOOT, NO_BOOT, Stack, spec
from .tiny import operations, tiny_stack, untouched
from .typed import Typed

ONE, TWO = spec("lock-1", 171, "bookworm"), spec("lock-2", 172, "trixie")
QUESTION = r"Make these \d+ changes\? \[Y/n\]: "
LOCKED = (
    r"lock-1: locked by anna@laptop since \d\d:\d\d:\d\d UTC \(\d+ s\): phase1\. "
    r"Wait, or, if that run hangs, take the lock with --break-lock"
)


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Two bare machines."""
    booted([ONE, TWO])
    return tiny_stack(tmp_path_factory.mktemp("lock"), [ONE, TWO])


def status(stack: Stack) -> dict[str, Any]:
    """`provision status --json`."""
    found: dict[str, Any] = json.loads(stack.provision("status", "--json").stdout)
    return found


def owners(stack: Stack) -> list[str | None]:
    """Who holds the lock on each host."""
    return [(host["lock"] or {"owner": None})["owner"] for host in status(stack)["hosts"].values()]


def holders(stack: Stack, name: str) -> int:
    """Number of processes on a host that hold a lock."""
    return len(stack.ssh(name, "grep -lzsx roadbed-lock /proc/[0-9]*/cmdline; true").split())


def freed(stack: Stack, since: float, name: str = ONE.name) -> float:
    """Waits until nobody holds the lock of a host; returns the seconds since ``since``."""
    while holders(stack, name):
        assert time.monotonic() - since < 30
        time.sleep(0.1)
    return time.monotonic() - since


def said(stack: Stack, name: str = ONE.name) -> list[str]:
    """The lines of Roadbed in the journal of a host."""
    return stack.ssh(name, "journalctl -q -t roadbed -o cat").splitlines()


def other(stack: Stack, owner: str) -> Stack:
    """The same stack, for a command that somebody else runs."""
    return Stack(stack.folder, stack.data, {**stack.environment, "ROADBED_OWNER": owner})


def test_second_is_told_who_since_when_and_what_and_changes_nothing(stack: Stack) -> None:
    bob = other(stack, "bob@desk")
    with Typed(stack, "phase1") as anna:
        anna.wait_for(QUESTION)
        with untouched(stack, ONE.name), untouched(stack, TWO.name):
            began = time.monotonic()
            refused = bob.provision("phase1", "--json", code=6)
            print(f"\nrefused after {time.monotonic() - began:.1f} s")
            assert re.fullmatch(LOCKED, refused.stderr.strip().splitlines()[-1])
            assert json.loads(refused.stdout)["exit_code"] == 6
            limited = bob.provision("phase1", "--limit", TWO.name, code=6).stderr
            assert re.search(r"lock-2: locked by anna@laptop", limited)
            bob.provision("phase1", "--dry-run")
        assert owners(bob) == ["anna@laptop", "anna@laptop"]
        assert "locked: lock-1, lock-2, by anna@laptop since" in bob.provision("status").stderr
        anna.type("n\n")
        assert anna.ends() == 6
        assert "Nothing was changed" in anna.seen
    assert owners(stack) == [None, None]
    for name in (ONE.name, TWO.name):
        lines = said(stack, name)
        assert lines[0] == "anna@laptop: phase1: began"
        assert re.fullmatch(r"anna@laptop: phase1: refused: Nothing was changed.* \(\d+\.\d s\)", lines[1])
    assert len(said(stack)) == 2, "who was refused has no line"


def test_lock_of_a_limited_run_is_that_of_its_hosts_alone(stack: Stack) -> None:
    with Typed(stack, "phase1", "--limit", TWO.name) as anna:
        anna.wait_for(QUESTION)
        assert owners(stack) == [None, "anna@laptop"]
        refused = other(stack, "bob@desk").provision("phase1", code=6).stderr
        assert "lock-2: locked by anna@laptop" in refused
        assert owners(stack) == [None, "anna@laptop"], "what the second run had taken is given back"


def test_kill_frees_it_within_seconds(stack: Stack) -> None:
    with Typed(stack, "phase1") as anna:
        anna.wait_for(QUESTION)
        anna.kill(signal.SIGKILL)
        took = freed(stack, time.monotonic())
        print(f"\nfree after {took:.1f} s")
        assert took < 3
        assert anna.ends() == -signal.SIGKILL
    assert said(stack)[-1] == "anna@laptop: phase1: interrupted: the connection ended"
    last = status(stack)["last_run"]
    assert (last["what"], last["owner"], last["outcome"]) == ("phase1", "anna@laptop", "interrupted")
    assert "interrupted" in stack.provision("status").stderr


def test_ctrl_c_frees_it(stack: Stack) -> None:
    with Typed(stack, "phase1") as anna:
        anna.wait_for(QUESTION)
        began = time.monotonic()
        anna.type("\x03")
        assert anna.ends() == 130
        assert time.monotonic() - began < 3
        assert freed(stack, began) < 5
        assert anna.seen.strip().splitlines()[-1].startswith("Stopped. What was begun")
    assert status(stack)["last_run"]["outcome"] == "interrupted"


PATIENCE = 4


def test_a_run_that_waits_for_its_user_keeps_it(stack: Stack) -> None:
    """Signs of life go on while the question is open: here for three times as long as the lock lives without."""
    with Typed(stack, "phase1", patience=PATIENCE) as anna:
        anna.wait_for(QUESTION)
        time.sleep(3 * PATIENCE)
        assert owners(stack) == ["anna@laptop", "anna@laptop"]
        anna.type("n\n")
        assert anna.ends() == 6


def test_a_run_that_is_stopped_loses_it_and_goes_no_further(stack: Stack) -> None:
    """Such as on a laptop that sleeps. It is told by whom, if somebody has it."""
    with Typed(stack, "phase1", patience=PATIENCE) as anna:
        anna.wait_for(QUESTION)
        anna.kill(signal.SIGSTOP)
        took = freed(stack, time.monotonic())
        print(f"\nfree after {took:.1f} s")
        assert took < PATIENCE + 3
        assert said(stack)[-1] == f"anna@laptop: phase1: interrupted: no sign of life for {PATIENCE} s"
        with Typed(stack, "phase1", owner="bob@desk") as bob:
            bob.wait_for(QUESTION)
            with untouched(stack, ONE.name), untouched(stack, TWO.name):
                anna.kill(signal.SIGCONT)
                anna.type("y\n")
                assert anna.ends() == 6
            assert re.search(r"lock-1: the lock of this run was taken by bob@desk since .*: phase1\.", anna.seen)
            assert owners(stack) == ["bob@desk", "bob@desk"]


def test_a_run_that_is_stopped_is_told_when_nobody_else_came(stack: Stack) -> None:
    with Typed(stack, "phase1", patience=PATIENCE) as anna:
        anna.wait_for(QUESTION)
        anna.kill(signal.SIGSTOP)
        freed(stack, time.monotonic())
        freed(stack, time.monotonic(), TWO.name)
        anna.kill(signal.SIGCONT)
        anna.type("y\n")
        assert anna.ends() == 6
        assert "or this machine was silent for 4 s. The same command finishes what was begun" in anna.seen


def test_lock_that_is_broken_is_taken_and_its_run_stops(stack: Stack) -> None:
    with Typed(stack, "phase1") as anna:
        anna.wait_for(QUESTION)
        with Typed(stack, "phase1", "--break-lock", owner="bob@desk") as bob:
            bob.wait_for(QUESTION)
            assert re.search(r"lock-1: took the lock from anna@laptop since [\d:]+ UTC \(\d+ s\): phase1", bob.seen)
            assert owners(stack) == ["bob@desk", "bob@desk"]
            assert said(stack)[-1] == "bob@desk: phase1: began, and took the lock from anna@laptop phase1"
            with untouched(stack, ONE.name), untouched(stack, TWO.name):
                anna.type("y\n")
                assert anna.ends() == 6
            assert re.search(r"the lock of this run was taken by bob@desk since", anna.seen)
            assert owners(stack) == ["bob@desk", "bob@desk"], "the loser gives nothing back"
            bob.type("n\n")
            assert bob.ends() == 6


PASSWORD = "correct-horse-7"  # noqa: S105
CLERK = f"""
useradd -m -s /bin/sh -G sudo clerk && echo clerk:{PASSWORD} | chpasswd
install -d -m 700 -o clerk ~clerk/.ssh && install -m 600 -o clerk ~/.ssh/authorized_keys ~clerk/.ssh/
"""


def test_sudo_with_a_password(stack: Stack) -> None:
    for name in (ONE.name, TWO.name):
        stack.ssh(name, CLERK)
    stack.write(ssh={"user": "clerk"})
    try:
        with Typed(stack, "phase1", "-K") as anna:
            anna.wait_for("sudo password: ")
            anna.type(f"{PASSWORD}\n")
            anna.wait_for(QUESTION)
            assert [holders(stack, name) for name in (ONE.name, TWO.name)] == [1, 1]
            anna.type("n\n")
            assert anna.ends() == 6
    finally:
        stack.write(ssh={"user": "admin"})
    assert [holders(stack, name) for name in (ONE.name, TWO.name)] == [0, 0]
    assert PASSWORD not in stack.ssh(ONE.name, "journalctl -q -b; cat /run/roadbed/tiny.lock")


def boot(stack: Stack, name: str) -> str:
    """The boot id of a machine; empty while it is down."""
    return stack.ssh(name, BOOT, check=False).strip()


def test_reboot_frees_it(stack: Stack) -> None:
    before = boot(stack, TWO.name)
    with Typed(stack, "phase1") as anna:
        anna.wait_for(QUESTION)
        stack.ssh(TWO.name, "systemctl reboot", check=False)
        end = time.monotonic() + 90
        while boot(stack, TWO.name) in (before, *NO_BOOT):
            assert time.monotonic() < end
            time.sleep(0.2)
        assert owners(stack) == ["anna@laptop", None]
        with Typed(stack, "phase1", "--limit", TWO.name, owner="bob@desk") as bob:
            bob.wait_for(QUESTION)
            assert owners(stack) == ["anna@laptop", "bob@desk"]


# From here on lock-1 is converged


def test_status_of_a_run_that_was_killed_in_the_middle(stack: Stack) -> None:
    bare = stack.provision("status").stderr
    assert re.search(r"lock-1 +none +- +- +- +\d+\.\d GB", bare)
    with Typed(stack, "phase1", "--limit", ONE.name, "--yes") as anna:
        anna.wait_for(r"\+ lock-1: Install base packages")
        anna.wait_for("firewall: lock-1")
        anna.kill(signal.SIGKILL)
        freed(stack, time.monotonic())
    last = status(stack)["last_run"]
    assert (last["outcome"], last["hosts"]) == ("interrupted", [ONE.name])
    assert last["stage"] in ("firewall", "node")
    told = stack.provision("status").stderr
    assert re.search(
        r"last run from this machine: phase1, [\d: -]+ UTC, interrupted in (firewall|node), after \d+ ", told
    )
    assert "`provision phase1 -i stack` finishes what was begun" in told


def test_run_that_works_has_its_lines_and_gives_the_lock_back(stack: Stack) -> None:
    result = other(stack, "anna@laptop").converge("--limit", ONE.name)
    assert result["failed"] == {}
    assert re.fullmatch(r"anna@laptop: phase1: ok \(\d+\.\d s\)", said(stack)[-1])
    found = status(stack)
    assert (found["last_run"]["outcome"], owners(stack)) == ("ok", [None, None])
    host = found["hosts"][ONE.name]
    assert (host["phase"], host["slot"], host["left"], host["pending"]) == ("phase1", "a", [], [])
    assert host["instances"]["a-0"] == {"state": "active", "release": host["release"]}
    assert operations(other(stack, "anna@laptop").converge("--limit", ONE.name), "changed") == []


def test_failure_is_in_the_line_of_the_end(stack: Stack) -> None:
    stack.write(nginx={"tls": {"mode": "self-signed"}, "read_timeout": 77})
    stack.ssh(ONE.name, "mv /usr/sbin/nginx /usr/sbin/nginx.away && mkdir /usr/sbin/nginx")
    try:
        stack.provision("phase1", "--limit", ONE.name, code=4)
    finally:
        stack.ssh(ONE.name, "rmdir /usr/sbin/nginx && mv /usr/sbin/nginx.away /usr/sbin/nginx")
    assert re.match(r"\S+: phase1: failed: lock-1: ", said(stack)[-1])
    last = status(stack)["last_run"]
    assert last["outcome"] == "failed"
    assert last["error"].startswith("lock-1: ")
    stack.converge("--limit", ONE.name)


LEAVE = """
cd /srv/tiny && release=$(readlink current) && ln -sfnT ../$release slots/c && systemctl start tiny@c-0
touch /var/lib/roadbed/tiny/route/active.a /var/lib/roadbed/tiny/route/active.b
mkdir releases/.20260101T000000-0000000.partial
"""


def test_what_an_interrupted_rollout_left_is_told_and_the_next_cleans_it_up(stack: Stack) -> None:
    """Two flags, an instance in a slot that serves nothing, half an upload."""
    stack.ssh(ONE.name, LEAVE)
    left = status(stack)["hosts"][ONE.name]["left"]
    assert "has flags of the slots a, b; requests go to b" in left
    assert any(re.fullmatch(r"c-0 of release \S+ run in a slot that serves nothing", line) for line in left)
    assert "has a part of release 20260101T000000-0000000" in left
    told = stack.provision("status").stderr
    print(f"\n{told}")
    assert "The next `provision phase1 -i stack` cleans up and finishes" in told
    stack.converge("--limit", ONE.name)
    found = status(stack)["hosts"][ONE.name]
    assert found["left"] == []
    assert [name for name, one in found["instances"].items() if one["state"] != "inactive"] != []
    assert operations(stack.converge("--limit", ONE.name), "changed") == []


def test_status_without_a_host_says_so_and_shows_the_rest(stack: Stack) -> None:
    stack.write(hosts={"lock-3": {"address": "192.168.60.173", "roles": ["web", "app"]}})
    try:
        done = stack.provision("status", code=3)
        data = stack.provision("status", "--json", code=3)
    finally:
        del stack.data["hosts"]["lock-3"]
        stack.write()
    assert re.search(r"lock-1 +phase1 +[abc] ", done.stderr)
    assert re.search(r"lock-3 .*unreachable", done.stderr)
    assert "lock-3: cannot reach 192.168.60.173 port 22" in done.stderr
    found = json.loads(data.stdout)["hosts"]
    assert (found["lock-1"]["reachable"], found["lock-3"]["reachable"]) == (True, False)
