"""Bad input and unusable hosts: a clear message, the documented exit code, no traceback, nothing half done."""

import json
import os
import pty
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roadbed.machines import nspawn
from roadbed.machines.model import MachineSpec

from .conftest import PROVISION, Stack, spec
from .tiny import tiny_stack, untouched

HOST = spec("bad-1", 121, "trixie")
GHOST = spec("ghost", 124)
"""An address nobody has."""
Boot = Callable[[list[MachineSpec]], None]


@pytest.fixture(scope="module")
def bad(booted: Boot, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """One bare machine, which stays bare: each test spoils it in one way, and repairs it."""
    booted([HOST])
    return tiny_stack(tmp_path_factory.mktemp("bad"), [HOST])


# Before the first SSH packet


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket of this test: the host of the stacks below."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture
def deaf(listener: socket.socket, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose host must never see a connection."""
    yield listening_stack(listener, tmp_path)
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.fixture
def probed(listener: socket.socket, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose host is asked before the build whether it takes a connection, and gets not a byte."""
    yield listening_stack(listener, tmp_path)
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(5)
        assert connection.recv(1) == b""
    with pytest.raises(BlockingIOError):
        listener.accept()


def listening_stack(listener: socket.socket, folder: Path) -> Stack:
    stack = tiny_stack(folder, [GHOST], ssh={"port": listener.getsockname()[1]})
    stack.write(hosts={GHOST.name: {"address": "127.0.0.1", "roles": ["web", "app"]}})
    return stack


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


def test_lock_file_that_does_not_fit(probed: Stack) -> None:
    """npm prints a page of help after the reason; the reason is what the user must see."""
    package = probed.folder / "tiny/package.json"
    package.write_text(package.read_text().replace('"react":', '"server-only": "0.0.1",\n    "react":'))
    said = probed.provision("phase1", code=4).stderr
    assert "`npm ci` failed with exit code 1; no host was touched" in said
    assert "Missing: server-only@0.0.1 from lock file" in said


def test_build_that_fails_shows_the_end_of_its_log(probed: Stack) -> None:
    (probed.folder / "tiny/app/page.js").write_text("export default function Page() { return <h1>; }\n")
    said = probed.provision("phase1", code=4).stderr
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
        with untouched(bad, HOST.name):
            said = bad.provision("phase1", code=3).stderr
    finally:
        bad.write(ssh={"key": str(nspawn.key_path())})
    assert f"bad-1: admin@192.168.60.121 does not accept the key {key}." in said
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
        command = [PROVISION, *words, "-i", str(stack.path)]
        os.execve(PROVISION, command, {**stack.environment, "COLUMNS": "200"})  # noqa: S606
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
    with untouched(clerk, HOST.name):
        said = clerk.provision("phase1", code=3).stderr
    assert "bad-1: sudo of clerk wants a password. Allow it without one" in said
    assert "'clerk ALL=(ALL) NOPASSWD: ALL'" in said
    assert "--ask-sudo-password" in said


def test_sudo_password_is_typed_once(clerk: Stack) -> None:
    with untouched(clerk, HOST.name):
        code, said = typed(clerk, PASSWORD, "check", "-K")
    assert code == 0, said
    assert "clerk@192.168.60.121, root by sudo" in said
    assert said.count("sudo password") == 1
    assert PASSWORD not in said


def test_wrong_sudo_password_is_tried_once(clerk: Stack) -> None:
    """pam_faillock(8) locks an account after a few wrong passwords: Roadbed must not use them up."""
    before = refusals(clerk)
    with untouched(clerk, HOST.name):
        code, said = typed(clerk, "wrong", "phase1", "-K")
    assert code == 3, said
    assert "bad-1: sudo did not accept the password of clerk" in said
    assert "Traceback" not in said
    assert refusals(clerk) == before + 1


@pytest.fixture
def rusty(clerk: Stack) -> Iterator[Stack]:
    """sudo is sudo-rs, as on Ubuntu 26.04: Debian has it as well, under another name."""
    link = "apt-get -q -y install sudo-rs && ln -s /usr/lib/cargo/bin/sudo /usr/local/bin/sudo"
    clerk.ssh(HOST.name, f"export DEBIAN_FRONTEND=noninteractive; {{ apt-get -q update && {link}; }} >/dev/null")
    assert clerk.ssh(HOST.name, "readlink -f $(which sudo)").strip() == "/usr/lib/cargo/bin/sudo"
    yield clerk
    clerk.ssh(HOST.name, "rm /usr/local/bin/sudo; apt-get -q -y purge sudo-rs >/dev/null")


def test_sudo_rs_is_sudo_too(rusty: Stack) -> None:
    with untouched(rusty, HOST.name):
        code, said = typed(rusty, PASSWORD, "check", "-K")
        assert code == 0, said
        assert "clerk@192.168.60.121, root by sudo" in said
        code, said = typed(rusty, "wrong", "check", "-K")
        assert code == 3, said
        assert "sudo did not accept the password of clerk" in said
        assert "sudo of clerk wants a password" in rusty.provision("check", code=3).stderr
    rusty.ssh(HOST.name, "gpasswd -d clerk sudo >/dev/null")
    try:
        code, said = typed(rusty, PASSWORD, "check", "-K")
        assert "clerk may not use sudo" in said, said
    finally:
        rusty.ssh(HOST.name, "gpasswd -a clerk sudo >/dev/null")


def test_unsupported_system(bad: Stack) -> None:
    fedora = "ID=fedora\\nVERSION_ID=44\\nPRETTY_NAME=Fedora\\n"
    bad.ssh(HOST.name, f"mv /etc/os-release /etc/os-release.kept; printf '{fedora}' > /etc/os-release")
    try:
        with untouched(bad, HOST.name):
            said = bad.provision("phase1", code=4).stderr
    finally:
        bad.ssh(HOST.name, "mv /etc/os-release.kept /etc/os-release")
    assert "bad-1: system: fedora 44 is not supported. Install one of: debian 12, 13; ubuntu 22.04" in said


def test_port_that_something_else_has_taken(bad: Stack) -> None:
    listen = "for (IO::Socket::INET->new(Listen => 5, LocalPort => 80)) { sleep 600 }"
    bad.ssh(HOST.name, f"systemd-run -q --unit=squatter perl -MIO::Socket::INET -e '{listen}'")
    bad.ssh(HOST.name, "for i in $(seq 50); do ss -Hltn sport = :80 | grep -q . && exit; sleep 0.1; done; exit 1")
    try:
        with untouched(bad, HOST.name):
            said = bad.provision("phase1", code=4).stderr
    finally:
        bad.ssh(HOST.name, "systemctl stop squatter")
    assert "bad-1: ports: taken by something else: 80 (squatter.service). Stop it" in said


def test_full_disk(bad: Stack) -> None:
    bad.ssh(HOST.name, "mount -t tmpfs -o size=64m tmpfs /srv")
    try:
        with untouched(bad, HOST.name):
            said = bad.provision("phase1", code=4).stderr
    finally:
        bad.ssh(HOST.name, "umount /srv")
    assert re.search(r"bad-1: disk: /srv has \d+ MiB free, 2048 MiB are needed\. Free some space", said)
