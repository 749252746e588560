"""Runs that end in the middle: what served goes on serving, and the next run finishes what was begun."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from roadbed.engine.connect import open_session
from roadbed.engine.errors import OperationFailed
from roadbed.engine.hostkeys import KnownHosts
from roadbed.engine.load import load
from roadbed.machines import nspawn
from roadbed.machines.model import MachineSpec

from .conftest import PROVISION, Stack, spec
from .tiny import operations, page, tiny_stack

HOST = spec("bad-1", 121, "trixie")
GHOST = spec("ghost", 124)
"""An address nobody has."""


@pytest.fixture(scope="module")
def bad(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """One bare machine, which the tests bring further and further, in the order of this file."""
    booted([HOST])
    return tiny_stack(tmp_path_factory.mktemp("bad"), [HOST])


def _heed_ctrl_c() -> None:
    """A shell starts what runs in its background with Ctrl-C ignored; the tests may be there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running(stack: Stack, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """`provision WORDS` at work; it is over at the end."""
    command = [PROVISION, *words, "-i", str(stack.path)]
    run = subprocess.Popen(
        command,
        cwd=stack.folder,
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_ctrl_c,
    )
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def wait_until(stack: Stack, command: str, seconds: float = 90) -> None:
    """Waits until a command succeeds on the machine."""
    turns = int(seconds / 0.1)
    stack.ssh(HOST.name, f"for i in $(seq {turns}); do {command} && exit; sleep 0.1; done; exit 1", timeout=seconds * 3)


def test_ctrl_c_ends_at_once_and_with_one_line(bad: Stack) -> None:
    with running(bad, "phase1") as run:
        wait_until(bad, "grep -qsx dpkg /proc/[0-9]*/comm")
        run.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, said = run.communicate(timeout=30)
    assert time.monotonic() - began < 3
    assert run.returncode == 130, said
    assert said.strip().splitlines()[-1] == "Stopped. What was begun is finished by running the same command again."
    assert said.count("Stopped.") == 1
    assert "Traceback" not in said
    assert "Error" not in said


def test_unreachable_host_does_not_stop_the_other(bad: Stack) -> None:
    """What concerns one machine goes on; what concerns both says why it does not. It also finishes what Ctrl-C left."""
    bad.write(hosts={GHOST.name: {"address": GHOST.address, "roles": ["web", "app"]}})
    try:
        done = bad.provision("phase1", "--json", code=3)
    finally:
        del bad.data["hosts"][GHOST.name]
        bad.write()
    result = json.loads(done.stdout)
    assert "ghost: cannot reach 192.168.60.124 port 22:" in result["failed"]["ghost"]
    assert "Check the address, ssh/port, and the firewalls on the way" in done.stderr
    changed = [item for item in result["operations"] if item["status"] == "changed"]
    assert {"base", "firewall", "node", "app"} <= {item["component"] for item in changed if item["host"] == "bad-1"}
    assert "ghost cannot take part" in result["failed"]["bad-1"]
    skipped = [item for item in result["operations"] if item["status"] == "skipped"]
    why = {(item["host"], item["component"]): item["detail"] for item in skipped}
    assert why["bad-1", "nginx"] == "an earlier step failed on this host"
    assert why["ghost", "base"] == "the host is unreachable"
    assert bad.ssh(HOST.name, "ls /srv/tiny/releases").split() == []


def test_link_cut_in_the_middle_is_an_error_within_15_s(bad: Stack) -> None:
    """Two hangs of others: an SSH client waits for ever, and the default nginx of an interrupted apt blocks port 80."""
    with running(bad, "phase1") as run:
        wait_until(bad, "[ -e /usr/sbin/nginx ]")
        nspawn.cut(HOST.name)
        began = time.monotonic()
        try:
            _, said = run.communicate(timeout=60)
        finally:
            nspawn.heal(HOST.name)
    print(f"\ncut to the end of the run: {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 15
    assert run.returncode == 3, said
    assert re.search(r"bad-1: Install nginx: bad-1: the connection broke", said)
    assert "Traceback" not in said
    wait_until(bad, "ss -Hltn sport = :80 | grep -q .")
    assert "Roadbed" not in bad.ssh(HOST.name, "cat /etc/nginx/nginx.conf")
    bad.converge()
    assert "Edition one" in page(bad, HOST.name)
    assert operations(bad.converge(), "changed") == []


def test_app_that_answers_500_gets_no_traffic(bad: Stack) -> None:
    """The release of before goes on serving, and the reason is shown: status, body, journal."""
    bad.converge()
    source = bad.folder / "tiny/app/page.js"
    source.write_text(source.read_text().replace("Edition one", "Edition two"))
    bad.write(app={"health": "/broken"})
    try:
        said = bad.provision("phase1", code=4).stderr
    finally:
        bad.write(app={"health": "/"})
    assert re.search(r"bad-1: tiny@[abc]-0 /broken is not healthy \(HTTP 500\)", said)
    assert "prices: no such table" in said.partition("It said:")[2]
    assert "the price list is missing" in said.partition("Its journal:")[2]
    assert "Edition one" in page(bad, HOST.name)
    units = bad.ssh(HOST.name, "systemctl list-units --plain --no-legend --state=active 'tiny@*'").splitlines()
    assert len(units) == 1
    bad.converge()
    assert "Edition two" in page(bad, HOST.name)


def test_full_disk_in_the_middle_keeps_what_was_there(bad: Stack) -> None:
    """A file that does not fit is an error that says so; the old one is whole, and nothing of the new one is left."""
    small, large = b"old\n", b"x" * 200_000
    bad.ssh(HOST.name, "mkdir -p /mnt/full && mount -t tmpfs -o size=64k tmpfs /mnt/full")
    inventory = load(str(bad.path))
    session = open_session(inventory, HOST.name, KnownHosts(inventory.beside(".known_hosts")))
    try:
        session.write("/mnt/full/file", small)
        with pytest.raises(OperationFailed, match=r"bad-1: /mnt/full/file was not written: .*No space left on device"):
            session.write("/mnt/full/file", large)
        (bad.folder / "large").write_bytes(large * 20)
        with pytest.raises(OperationFailed, match=r"bad-1: /mnt/full/other was not written: .*No space left on device"):
            session.upload(bad.folder / "large", "/mnt/full/other")
        assert session.run("cat /mnt/full/file; ls -A /mnt/full").out.split() == ["old", "file"]
    finally:
        session.close()
        bad.ssh(HOST.name, "umount /mnt/full")
