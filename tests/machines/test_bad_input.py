"""Bad input, bad hosts, bad luck: a clear message, the documented exit code, no traceback, nothing half done."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
OTHER = spec("jump-1", 123, "bookworm")
MARKS = (
    "dpkg-query -f '${Package} ${Version}\\n' -W | sha256sum; "
    "find /etc /srv /opt /usr/local /var/lib/roadbed -xdev -printf '%p %i %m %U:%G %s %C@\\n' 2>/dev/null | sort"
)
"""All that a run could have left: packages, files and folders with their times."""
Boot = Callable[[list[MachineSpec]], None]


@pytest.fixture(scope="module")
def bad(booted: Boot, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """One bare machine, which the tests spoil and repair, in the order of this file."""
    booted([HOST])
    return tiny_stack(tmp_path_factory.mktemp("bad"), [HOST])


@contextmanager
def untouched(stack: Stack, name: str = HOST.name) -> Iterator[None]:
    """Inside, no package of the machine changes and no file is written."""
    before = stack.ssh(name, MARKS)
    yield
    assert stack.ssh(name, MARKS) == before


# Before the first SSH packet


@pytest.fixture
def deaf(tmp_path: Path) -> Iterator[Stack]:
    """A stack whose host is a listening socket of this test: it must never see a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        stack = tiny_stack(tmp_path, [GHOST], ssh={"port": server.getsockname()[1]})
        stack.write(hosts={GHOST.name: {"address": "127.0.0.1", "roles": ["web", "app"]}})
        yield stack
        with pytest.raises(BlockingIOError):
            server.accept()


def next_version(stack: Stack, version: str) -> None:
    """Has the project of a stack use another version of Next.js."""
    for name in ("package.json", "package-lock.json"):
        file = stack.folder / "tiny" / name
        data = json.loads(file.read_text())
        root = data.get("packages", {}).get("", data)
        root["dependencies"]["next"] = version
        if "packages" in data:
            data["packages"]["node_modules/next"]["version"] = version
        file.write_text(json.dumps(data))


def test_folder_that_is_no_next_project(deaf: Stack) -> None:
    (deaf.folder / "tiny/package.json").write_text('{"dependencies": {"express": "5.0.0"}}')
    said = deaf.provision("phase1", code=2).stderr
    assert f"app/source: {deaf.folder}/tiny is not a Next.js project: package.json has no dependency" in said
    assert "Point app/source at the folder that holds next.config.*" in said


def test_next_version_too_old(deaf: Stack) -> None:
    next_version(deaf, "13.5.11")
    said = deaf.provision("phase1", code=2).stderr
    assert "uses Next.js 13.5.11, and the oldest supported version is 14.2.0" in said
    assert "npm install next@latest" in said


def test_next_version_known_to_be_vulnerable_is_refused_until_told(deaf: Stack) -> None:
    next_version(deaf, "16.0.6")
    said = deaf.provision("phase1", code=6).stderr
    assert "uses Next.js 16.0.6, which is vulnerable: remote code execution" in said
    assert "--allow-vulnerable" in said
    deaf.write(node={"version": "24.999"})  # the next mistake in line: the version was accepted
    assert "node/version" in deaf.provision("phase1", "--allow-vulnerable", code=2).stderr


def test_node_version_that_does_not_exist(deaf: Stack) -> None:
    deaf.write(node={"version": "24.999.1"})
    said = deaf.provision("phase1", code=2).stderr
    assert re.search(r"node/version: 24\.999\.1 does not exist on \S+\. Newest 24: 24\.\d+\.\d+", said)


def test_secret_without_a_value(deaf: Stack) -> None:
    deaf.write(app={"secrets": ["DATABASE_URL"]})
    said = deaf.provision("phase1", code=2).stderr
    assert "app/secrets: DATABASE_URL has no value in" in said
    assert "Set it: provision secrets set DATABASE_URL" in said


def test_inventory_that_is_no_yaml(deaf: Stack) -> None:
    deaf.path.write_text("app: {name: tiny\nhosts: [\n")
    assert re.search(r"stack\.yml line 2, column \d+: not valid YAML", deaf.provision("phase1", code=2).stderr)


def test_key_file_that_is_missing(deaf: Stack) -> None:
    deaf.write(ssh={"key": "keys/nobody"})
    said = deaf.provision("phase1", code=2).stderr
    assert f"ssh/key: {deaf.path.parent}/keys/nobody does not exist. Name the private key file" in said


def test_lock_file_that_does_not_fit(deaf: Stack) -> None:
    """npm prints a page of help after the reason; the reason is what the user must see."""
    package = deaf.folder / "tiny/package.json"
    package.write_text(package.read_text().replace('"react":', '"server-only": "0.0.1",\n    "react":'))
    said = deaf.provision("phase1", code=4).stderr
    assert "`npm ci` failed with exit code 1; no host was touched" in said
    assert "Missing: server-only@0.0.1 from lock file" in said


def test_build_that_fails_shows_the_end_of_its_log(deaf: Stack) -> None:
    (deaf.folder / "tiny/app/page.js").write_text("export default function Page() { return <h1>; }\n")
    said = deaf.provision("phase1", code=4).stderr
    assert "app/source: `next build` failed with exit code 1; no host was touched" in said
    log = re.search(r"The end of (\S+build\.log):", said)
    assert log is not None
    assert Path(log[1]).stat().st_mode & 0o777 == 0o600
    assert "app/page.js" in said.partition("The end of")[2]


# Hosts that cannot be used as they are: nothing on them changes


def test_key_that_the_host_does_not_accept(bad: Stack, tmp_path: Path) -> None:
    key = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    bad.write(ssh={"key": str(key)})
    try:
        with untouched(bad):
            said = bad.provision("phase1", code=3).stderr
    finally:
        bad.write(ssh={"key": str(nspawn.key_path())})
    assert f"bad-1: admin@10.99.7.121 does not accept the key {key}." in said
    assert "Put its public half in ~admin/.ssh/authorized_keys" in said


PASSWORD = "correct-horse-7"  # noqa: S105
CLERK = f"""
id clerk >/dev/null 2>&1 && exit
useradd -m -s /bin/sh -G sudo clerk && echo clerk:{PASSWORD} | chpasswd
install -d -m 700 -o clerk ~clerk/.ssh && install -m 600 -o clerk ~/.ssh/authorized_keys ~clerk/.ssh/
"""


@pytest.fixture
def clerk(bad: Stack) -> Iterator[Stack]:
    """The stack with a login user whose sudo wants a password."""
    bad.ssh(HOST.name, CLERK)
    bad.write(ssh={"user": "clerk"})
    yield bad
    bad.write(ssh={"user": "admin"})


def typed(stack: Stack, text: str, *words: str) -> tuple[int, str]:
    """Exit code and all that appears on a terminal on which ``text`` is typed once, when a password is asked for."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(stack.folder)
        os.execve(PROVISION, [PROVISION, *words, "-i", str(stack.path)], {**stack.environment, "COLUMNS": "200"})
    seen, answered = b"", False
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # EIO: the other end is closed
            break
        seen += piece
        if b"sudo password: " in seen and not answered:  # the blank comes when the terminal is ready
            os.write(terminal, text.encode() + b"\n")
            answered = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen.decode()


def refusals(stack: Stack) -> int:
    """How often PAM has refused a password of clerk's."""
    lines = stack.ssh(HOST.name, "journalctl -q _COMM=sudo -o cat; true").splitlines()
    return sum("authentication failure" in line and "clerk" in line for line in lines)


def test_sudo_that_wants_a_password_and_gets_none(clerk: Stack) -> None:
    with untouched(clerk):
        said = clerk.provision("phase1", code=3).stderr
    assert "bad-1: sudo of clerk wants a password. Allow it without one" in said
    assert "'clerk ALL=(ALL) NOPASSWD: ALL'" in said
    assert "--ask-sudo-password" in said


def test_sudo_password_is_typed_once(clerk: Stack) -> None:
    with untouched(clerk):
        code, said = typed(clerk, PASSWORD, "check", "-K")
    assert code == 0, said
    assert "clerk@10.99.7.121, root by sudo" in said
    assert said.count("sudo password") == 1
    assert PASSWORD not in said


def test_wrong_sudo_password_is_tried_once(clerk: Stack) -> None:
    """pam_faillock(8) locks an account after a few wrong passwords: Roadbed must not use them up."""
    before = refusals(clerk)
    with untouched(clerk):
        code, said = typed(clerk, "wrong", "phase1", "-K")
    assert code == 3, said
    assert "bad-1: sudo did not accept the password of clerk" in said
    assert "Traceback" not in said
    assert refusals(clerk) == before + 1


def test_unsupported_system(bad: Stack) -> None:
    fedora = "ID=fedora\\nVERSION_ID=44\\nPRETTY_NAME=Fedora\\n"
    bad.ssh(HOST.name, f"mv /etc/os-release /etc/os-release.kept; printf '{fedora}' > /etc/os-release")
    try:
        with untouched(bad):
            said = bad.provision("phase1", code=4).stderr
    finally:
        bad.ssh(HOST.name, "mv /etc/os-release.kept /etc/os-release")
    assert "bad-1: system: fedora 44 is not supported. Install one of: debian 12, 13; ubuntu 22.04" in said


def test_port_that_something_else_has_taken(bad: Stack) -> None:
    listen = "for (IO::Socket::INET->new(Listen => 5, LocalPort => 80)) { sleep 600 }"
    bad.ssh(HOST.name, f"systemd-run -q --unit=squatter perl -MIO::Socket::INET -e '{listen}'")
    bad.ssh(HOST.name, "for i in $(seq 50); do ss -Hltn sport = :80 | grep -q . && exit; sleep 0.1; done; exit 1")
    try:
        with untouched(bad):
            said = bad.provision("phase1", code=4).stderr
    finally:
        bad.ssh(HOST.name, "systemctl stop squatter")
    assert "bad-1: ports: taken by something else: 80 (squatter.service). Stop it" in said


def test_full_disk(bad: Stack) -> None:
    bad.ssh(HOST.name, "mount -t tmpfs -o size=64m tmpfs /srv")
    try:
        with untouched(bad):
            said = bad.provision("phase1", code=4).stderr
    finally:
        bad.ssh(HOST.name, "umount /srv")
    assert re.search(r"bad-1: disk: /srv has \d+ MiB free, 2048 MiB are needed\. Free some space", said)


# Bad luck in the middle of a run: the next one finishes it


@contextmanager
def running(stack: Stack, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """`provision WORDS` at work; it is over at the end."""
    command = [PROVISION, *words, "-i", str(stack.path)]
    run = subprocess.Popen(
        command, cwd=stack.folder, env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
    assert "ghost: cannot reach 10.99.7.124 port 22:" in result["failed"]["ghost"]
    assert "Check the address, ssh/port, and the firewalls on the way" in done.stderr
    went = {
        item["component"] for item in result["operations"] if item["host"] == "bad-1" and item["status"] == "changed"
    }
    assert {"base", "firewall", "node", "app"} <= went
    assert "ghost cannot take part" in result["failed"]["bad-1"]
    skipped = {
        (item["host"], item["component"]): item["detail"]
        for item in result["operations"]
        if item["status"] == "skipped"
    }
    assert skipped["bad-1", "nginx"] == "an earlier step failed on this host"
    assert skipped["ghost", "base"] == "the host is unreachable"
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
        with pytest.raises(OperationFailed, match="bad-1: /mnt/full/file was not written: .*No space left on device"):
            session.write("/mnt/full/file", large)
        (bad.folder / "large").write_bytes(large * 20)
        with pytest.raises(OperationFailed, match="bad-1: /mnt/full/other was not written: .*No space left on device"):
            session.upload(bad.folder / "large", "/mnt/full/other")
        assert session.run("cat /mnt/full/file; ls -A /mnt/full").out.split() == ["old", "file"]
    finally:
        session.close()
        bad.ssh(HOST.name, "umount /mnt/full")


def test_changed_host_key_is_refused_until_it_is_forgotten(booted: Boot, tmp_path: Path) -> None:
    booted([OTHER])
    stack = tiny_stack(tmp_path, [OTHER])
    stack.provision("check")
    nspawn.reset([OTHER.name])
    with untouched(stack, OTHER.name):
        said = stack.provision("phase1", code=6).stderr
        assert stack.provision("check", code=6).stdout == ""
    assert "jump-1: the host key of 10.99.7.123 has changed (now ssh-ed25519 SHA256:" in said
    wayout = re.search(r"If it was installed again: (ssh-keygen .*)$", said, re.MULTILINE)
    assert wayout is not None
    subprocess.run(wayout[1], shell=True, check=True, capture_output=True)  # noqa: S602  (as the user pastes it)
    stack.provision("check")
