"""How Roadbed reaches a host: through a jump host, with host keys of its own, without waiting 44 ms a command."""

import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from roadbed.engine.connect import open_session
from roadbed.engine.errors import HostUnreachable, OperationFailed
from roadbed.engine.hostkeys import KnownHosts
from roadbed.engine.load import load
from roadbed.engine.session import Session
from roadbed.machines import nspawn
from roadbed.machines.model import MachineSpec

from .conftest import Stack, spec
from .tiny import tiny_stack, untouched

TARGET = spec("bad-1", 121, "trixie")
JUMP = spec("jump-1", 123, "bookworm")
ONLY_THE_JUMP_HOST = f"""
nft add table inet fence
nft add chain inet fence input '{{ type filter hook input priority 0; }}'
nft add rule inet fence input tcp dport 22 tcp flags '& (syn | ack) == syn' ip saddr != {JUMP.address} drop
"""
"""New connections only: those that were just ended must be able to say so."""
COMMANDS = 50


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Two bare machines; the inventory knows one of them."""
    booted([TARGET, JUMP])
    return tiny_stack(tmp_path_factory.mktemp("connections"), [TARGET])


def connect(stack: Stack) -> Session:
    """A session as every command opens it."""
    inventory = load(str(stack.path))
    return open_session(inventory, TARGET.name, KnownHosts(inventory.beside(".known_hosts")))


@pytest.fixture
def fenced(stack: Stack) -> Iterator[Stack]:
    """The stack while its host lets nobody but the jump host in. From inside, because SSH is cut off."""
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    namespace = [*sudo, "ip", "netns", "exec", f"roadbed-{TARGET.name}", "sh", "-ec"]
    subprocess.run([*namespace, ONLY_THE_JUMP_HOST], check=True)
    yield stack
    subprocess.run([*namespace, "nft delete table inet fence"], check=True)


def test_host_keys_are_recorded_beside_the_inventory_for_openssh_too(stack: Stack) -> None:
    known = stack.path.with_name("stack.known_hosts")
    assert not known.exists()
    connect(stack).close()
    assert known.stat().st_mode & 0o777 == 0o600
    assert known.read_text() == f"{TARGET.address} {nspawn.host_key(TARGET.name)}\n"
    connect(stack).close()
    assert len(known.read_text().splitlines()) == 1
    strict = ["-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
    words = ["ssh", "-i", str(nspawn.key_path()), *strict, f"admin@{TARGET.address}", "echo in"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "in\n"


def test_jump_host_is_the_only_way(fenced: Stack) -> None:
    began = time.monotonic()
    with pytest.raises(HostUnreachable, match=r"bad-1: cannot reach 192\.168\.60\.121 port 22: no answer within 10 s"):
        connect(fenced)
    assert time.monotonic() - began < 12
    fenced.write(ssh={"jump": f"admin@{JUMP.address}:22"})
    try:
        session = connect(fenced)
        came_from = session.run("ss -Htn state established sport = :22 | awk '{print $4}'").out
        assert came_from.split() == [came_from.strip()]
        assert came_from.startswith(f"{JUMP.address}:")
        assert session.run("id -u").out.strip() == "0"
        (fenced.folder / "file").write_bytes(b"x" * 3_000_000)
        session.upload(fenced.folder / "file", "/root/file")
        assert session.run("wc -c < /root/file").out.strip() == "3000000"
        session.close()
        fenced.provision("check")
    finally:
        fenced.data["ssh"].pop("jump")
        fenced.write()
    known = fenced.path.with_name("stack.known_hosts").read_text()
    assert f"{JUMP.address} {nspawn.host_key(JUMP.name)}\n" in known


def test_jump_host_that_does_not_get_through_is_named(stack: Stack) -> None:
    """Whose fault it is must be clear: the jump host's or the host's."""
    for jump, message in (
        (f"nobody@{JUMP.address}", r"bad-1: ssh/jump: nobody@192\.168\.60\.123 does not accept the key"),
        (f"{JUMP.address}:23", r"bad-1: ssh/jump: cannot reach 192\.168\.60\.123 port 23: connection refused"),
    ):
        stack.write(ssh={"jump": jump})
        with pytest.raises(HostUnreachable, match=message):
            connect(stack)
    stack.write(ssh={"jump": JUMP.address, "port": 23})
    try:
        with pytest.raises(HostUnreachable, match=r"192\.168\.60\.123 does not get through to \S+ port 23: connect"):
            connect(stack)
    finally:
        stack.data["ssh"].pop("jump")
        stack.write(ssh={"port": 22})


def test_a_command_costs_less_than_a_third_of_stock_paramiko(stack: Stack) -> None:
    """One open shell and TCP_NODELAY, against a channel for each command and Nagle's algorithm."""
    session = connect(stack)
    stock = paramiko.SSHClient()
    stock.load_host_keys(str(stack.path.with_name("stack.known_hosts")))
    stock.connect(TARGET.address, username="admin", key_filename=str(nspawn.key_path()))

    def one_of_theirs() -> None:
        _, out, _ = stock.exec_command("true")  # without sudo, which Roadbed has behind it already
        assert out.channel.recv_exit_status() == 0

    ours, theirs = [], []
    for _ in range(COMMANDS):
        ours.append(seconds(lambda: session.run("true")))
        theirs.append(seconds(one_of_theirs))
    session.close()
    stock.close()
    fast, slow = statistics.median(ours), statistics.median(theirs)
    print(f"\na command: {fast * 1000:.1f} ms, stock paramiko {slow * 1000:.1f} ms")
    assert fast < slow / 3


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_shell_outlives_what_a_command_does_to_it(stack: Stack) -> None:
    """Exit codes, both streams, binary noise, long output, standard input: nothing leaks into the next command."""
    session = connect(stack)
    failed = session.run("echo out; echo err >&2; exit 7", check=False)
    assert (failed.rc, failed.out, failed.err) == (7, "out\n", "err\n")
    assert session.run("cat").out == ""
    assert session.run("printf 'no newline'").out == "no newline"
    assert len(session.run("head -c 3000000 /dev/zero | tr '\\0' x").out) == 3_000_000
    assert session.run("head -c 1000 /dev/urandom; exit 0").rc == 0
    assert [each.out for each in session.run_many(["echo 1", "false", "kill -9 $$", "echo 4"])] == [
        "1\n",
        "",
        "",
        "4\n",
    ]
    with pytest.raises(OperationFailed, match="bad-1: a command gave no answer in time and was left"):
        session.run("sleep 20", timeout=1)
    assert session.run("echo again").out == "again\n"
    session.close()


def test_changed_host_key_is_refused_until_it_is_forgotten(stack: Stack, tmp_path: Path) -> None:
    stack = tiny_stack(tmp_path, [JUMP])
    stack.provision("check")
    nspawn.reset([JUMP.name])
    with untouched(stack, JUMP.name):
        said = stack.provision("phase1", code=6).stderr
        assert stack.provision("check", code=6).stdout == ""
    assert "jump-1: the host key of 192.168.60.123 has changed (now ssh-ed25519 SHA256:" in said
    wayout = re.search(r"If it was installed again: (ssh-keygen .*)$", said, re.MULTILINE)
    assert wayout is not None
    subprocess.run(wayout[1], shell=True, check=True, capture_output=True)  # noqa: S602  (as the user pastes it)
    stack.provision("check")


def test_what_was_read_is_valid_until_something_changes(stack: Stack) -> None:
    """Every way to change a host ends the validity of what it has said before."""
    session, count = connect(stack), "cat /root/count 2>/dev/null; echo >> /root/count"  # a read that shows how often
    (stack.folder / "file").write_bytes(b"")
    session.run("rm -f /root/count")

    def times() -> int:
        return len(session.read(count).out)

    assert [times(), times(), times()] == [0, 0, 0]
    session.run("true")
    assert [times(), times()] == [1, 1]
    session.write("/root/written", b"")
    assert [times(), times()] == [2, 2]
    session.upload(stack.folder / "file", "/root/uploaded")
    assert [times(), times()] == [3, 3]
    with pytest.raises(OperationFailed, match="bad-1: no"):
        session.read("echo no >&2; false")
    session.close()
