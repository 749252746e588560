"""`provision logs`, `exec` and `ssh` on booted machines."""

import json
import re
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roadbed.machines import nspawn
from roadbed.machines.model import MachineSpec

from .conftest import PROVISION, Grown, Stack, make_stack, spec
from .test_hooks import heed_ctrl_c

pytestmark = pytest.mark.long

HOST = spec("hooks-1", 184, "bookworm")
GHOST = spec("ghost", 124)
"""An address nobody has."""
PAIR = ("pair-12", "pair-13")


@pytest.fixture(scope="module")
def bare(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """One machine that no phase was brought to, and a host beside it that is not there."""
    booted([HOST])
    return make_stack(tmp_path_factory.mktemp("bare"), [HOST, GHOST])


class Running:
    """A `provision` at work: its lines as they come."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process, self.out, self.err = process, list[str](), list[str]()
        for stream, lines in ((process.stdout, self.out), (process.stderr, self.err)):
            threading.Thread(target=self._read, args=(stream, lines), daemon=True).start()

    def _read(self, stream: Iterator[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))

    def until(self, lines: list[str], text: str, seconds: float = 30) -> float:
        """Waits for a line that holds ``text``; returns the seconds it took."""
        began = time.monotonic()
        while not any(text in line for line in lines):
            assert time.monotonic() - began < seconds, (text, self.out, self.err)
            assert self.process.poll() is None, (text, self.out, self.err)
            time.sleep(0.02)
        return time.monotonic() - began

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=15)


@contextmanager
def running(stack: Stack, *words: str) -> Iterator[Running]:
    process = subprocess.Popen(
        [PROVISION, words[0], "-i", str(stack.path), *words[1:]],
        cwd=stack.folder,
        env=stack.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    try:
        yield Running(process)
    finally:
        process.kill()
        process.wait()


def call(stack: Stack, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """`provision WORD -i stack WORDS`, to its end."""
    command = [PROVISION, words[0], "-i", str(stack.path), *words[1:]]
    done = subprocess.run(command, cwd=stack.folder, env=stack.environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def mark(stack: Stack, host: str, text: str) -> None:
    """Has a line logged as one of the app."""
    stack.ssh(host, f"logger -t storefront {text}")


# logs


def test_lines_of_all_hosts_are_in_the_order_of_time(pair: Stack) -> None:
    word = f"mark-{uuid.uuid4().hex[:8]}"
    for number in range(6):
        mark(pair, PAIR[number % 2], f"{word} {number}")
        time.sleep(0.05)
    lines = call(pair, "logs", "--since", "1m", "--grep", word).stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["0", "1", "2", "3", "4", "5"]
    assert [line.split()[0] for line in lines] == [*PAIR] * 3
    assert all(re.match(r"pair-1[23] \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z storefront mark-", line) for line in lines)
    last = call(pair, "logs", "--grep", word, "-n", "2").stdout.splitlines()
    assert last == lines[-2:]
    assert call(pair, "logs", "pair-13", "--grep", word, "-n", "9").stdout.splitlines() == lines[1::2]
    assert call(pair, "logs", "--grep", word.replace("-", "."), "-n", "9").stdout == ""


def test_json_has_an_object_for_each_line(pair: Stack) -> None:
    word = f"mark-{uuid.uuid4().hex[:8]}"
    mark(pair, "pair-12", f"{word} {'x' * 6000}")
    [line] = call(pair, "logs", "--json", "--grep", word).stdout.splitlines()
    told = json.loads(line)
    assert (told["host"], told["entry"]["_TRANSPORT"]) == ("pair-12", "syslog")
    assert told["entry"]["MESSAGE"] == f"{word} {'x' * 6000}"


def test_an_instance_and_its_release_can_be_looked_at(pair: Stack) -> None:
    """What systemd says of an instance is there too."""
    units = pair.ssh("pair-13", "systemctl list-units --plain --no-legend 'storefront@*' | cut -d' ' -f1").split()
    instance = units[0].removeprefix("storefront@").removesuffix(".service")
    release = pair.ssh("pair-13", "basename $(readlink /srv/storefront/current)").strip()
    lines = call(pair, "logs", "pair-13", "--instance", instance).stdout.splitlines()
    assert {line.split()[2] for line in lines} == {instance}
    assert any(f"systemd: Started {units[0]}" in line for line in lines)
    of_release = call(pair, "logs", "--release", release).stdout.splitlines()
    assert {line.split()[0] for line in of_release} == set(PAIR)
    assert set(lines[-3:]) <= set(of_release)
    said = call(pair, "logs", "--release", "20200101T000000-0000000", code=4).stderr
    assert f"pair-12: release 20200101T000000-0000000 is in no slot; there are {instance[0]}: {release}" in said
    assert "failed on 2 of 2 hosts: pair-12, pair-13" in said


def test_requests_and_errors_of_nginx(pair: Stack) -> None:
    path = f"/nothing-{uuid.uuid4().hex[:8]}"
    for host in PAIR:
        pair.ssh(host, f"curl -ks --resolve shop.example.test:443:127.0.0.1 https://shop.example.test{path}; true")
    time.sleep(2)  # nginx writes its log once a second
    lines = call(pair, "logs", "--nginx", "--grep", path).stdout.splitlines()
    assert {line.split()[0] for line in lines} == set(PAIR)
    assert all(f"access 127.0.0.1 GET {path} 404, " in line for line in lines)
    release = pair.ssh("pair-12", "basename $(readlink /srv/storefront/current)").strip()
    answered = call(pair, "logs", "--nginx", "--release", release, "--json", "-n", "5").stdout.splitlines()
    assert {json.loads(line)["entry"]["release"] for line in answered} == {release}
    assert any("systemd: Started nginx.service" in line for line in call(pair, "logs", "--nginx").stdout.splitlines())


def test_what_comes_is_shown_until_ctrl_c_and_nothing_is_left_on_the_hosts(pair: Stack) -> None:
    word = f"mark-{uuid.uuid4().hex[:8]}"
    mark(pair, "pair-12", f"{word} before")
    with running(pair, "logs", "-f", "--grep", word) as follow:
        follow.until(follow.out, f"{word} before")
        for host in PAIR:
            mark(pair, host, f"{word} {host}")
            print(f"seen after {follow.until(follow.out, f'{word} {host}'):.2f} s")
        assert follow.interrupt() == 130
    assert follow.err == []
    for host in PAIR:
        pair.ssh(host, "for i in $(seq 50); do pgrep -x journalctl || exit 0; sleep 0.1; done; exit 1")


def test_a_reader_that_leaves_ends_it(pair: Stack) -> None:
    command = f"{PROVISION} logs -i {pair.path} -n 50 | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], env=pair.environment, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_a_host_that_drops_is_said_and_followed_again_without_a_gap(bare: Stack) -> None:
    ticker = "sh -c 'n=0; while sleep 0.5; do n=$((n + 1)); echo tick $n; done'"
    bare.ssh(HOST.name, f"systemd-run --quiet --unit=ticker {ticker}")
    with running(bare, "logs", HOST.name, "--unit", "ticker", "-f") as follow:
        follow.until(follow.out, "tick")
        nspawn.cut(HOST.name)
        try:
            print(f"said after {follow.until(follow.err, 'hooks-1: the connection broke', 40):.1f} s")
        finally:
            nspawn.heal(HOST.name)
        follow.until(follow.err, "hooks-1: connected again", 60)
        seen = len(follow.out)
        time.sleep(3)
        assert len(follow.out) > seen
        assert follow.interrupt() == 130
    bare.ssh(HOST.name, "systemctl stop ticker")
    numbers = [int(found[1]) for line in follow.out if (found := re.search(r" ticker tick (\d+)$", line))]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_the_logs_of_the_data_tier(grown: Grown) -> None:
    stack = grown.stack
    for component in ("redis", "postgres", "pgbouncer"):
        lines = call(stack, "logs", f"--{component}").stdout.splitlines()
        assert lines, component
        assert {line.split()[0] for line in lines} == {"fleet-data"}
    assert any("redis-server@durable" in line for line in call(stack, "logs", "--redis").stdout.splitlines())
    word = f"no_such_table_{uuid.uuid4().hex[:8]}"
    stack.ssh("fleet-data", f"runuser -u postgres -- psql -qc 'TABLE {word}'", check=False)
    lines = call(stack, "logs", "--postgres", "--grep", word).stdout.splitlines()
    assert any(re.search(rf"Z postgres .*ERROR: +relation \"{word}\" does not exist", line) for line in lines), lines
    assert {line.split()[0] for line in call(stack, "logs").stdout.splitlines()} == {"fleet-app1", "fleet-app2"}
    said = call(stack, "logs", "fleet-web", code=2).stderr
    assert "fleet-web does not have the role app, which --app is about. Hosts with it: fleet-app1, fleet-app2" in said


# exec


def test_words_arrive_as_they_are_on_every_host_and_as_root(pair: Stack) -> None:
    done = call(
        pair, "exec", "--", "sh", "-c", 'echo "$(id -un) on $(hostname): $1"; cat; echo late >&2', "x", "a  b;$X'"
    )
    assert sorted(done.stdout.splitlines()) == [f"{host} root on {host}: a  b;$X'" for host in PAIR]
    assert sorted(done.stderr.splitlines()) == [f"{host} late" for host in PAIR]
    assert call(pair, "exec", "pair-13", "--", "hostname").stdout == "pair-13 pair-13\n"


def test_one_failure_is_exit_code_4_and_says_where(pair: Stack) -> None:
    command = ("exec", "--", "sh", "-c", "hostname; [ $(hostname) = pair-12 ] || exit 9")
    done = call(pair, *command, code=4)
    assert sorted(done.stdout.splitlines()) == [f"{host} {host}" for host in PAIR]
    assert done.stderr.splitlines() == ["  ! pair-13: exit code 9", "failed on 1 of 2 hosts: pair-13"]
    told = json.loads(call(pair, *command[:1], "--json", *command[1:], code=4).stdout)["hosts"]
    good = {"code": 0, "error": None, "stdout": "pair-12\n", "stderr": "", "truncated": False}
    assert told["pair-12"] == good
    assert (told["pair-13"]["code"], told["pair-13"]["error"]) == (9, "pair-13: exit code 9")


def test_the_app_s_user_has_the_app_s_environment(pair: Stack) -> None:
    script = 'id -un; pwd -P; echo "$NODE_ENV $HOME"; node -p "process.execPath + process.env.ROADBED_DRAIN_SECONDS"'
    done = call(pair, "exec", "--as-app", "pair-12", "--", "sh", "-c", script)
    user, folder, environment, node = (line.removeprefix("pair-12 ") for line in done.stdout.splitlines())
    assert (user, environment) == ("storefront", "production /srv/storefront")
    assert re.fullmatch(r"/srv/storefront/releases/[^/]+/app", folder)
    assert re.fullmatch(r"/opt/roadbed/node/.*/bin/node30", node)
    said = call(pair, "exec", "--as-app", "pair-12", "--", "cat", "/etc/shadow", code=4).stderr
    assert "Permission denied" in said


def test_much_output_streams_and_ctrl_c_ends_the_command_on_the_hosts(pair: Stack) -> None:
    with running(pair, "exec", "--", "sh", "-c", "seq 100000; sleep 4716") as work:
        for host in PAIR:
            work.until(work.out, f"{host} 100000", 60)
        assert work.interrupt() == 130
    assert len(work.out) == 200_000
    for host in PAIR:
        pair.ssh(host, "for i in $(seq 50); do pgrep -fx 'sleep 4716' || exit 0; sleep 0.1; done; exit 1")


def test_a_host_out_of_reach_is_exit_code_3_and_the_others_do_it(bare: Stack) -> None:
    done = call(bare, "exec", "--", "uname", "-s", code=3)
    assert done.stdout == "hooks-1 Linux\n"
    assert "! ghost: cannot reach 192.168.60.124 port 22" in done.stderr
    assert done.stderr.rstrip().endswith("failed on 1 of 2 hosts: ghost")
    said = call(bare, "exec", "--as-app", HOST.name, "--", "true", code=4).stderr
    assert "hooks-1 no release runs here yet" in said


# ssh


def test_ssh_logs_in_as_the_inventory_says_and_knows_its_keys(bare: Stack, tmp_path: Path) -> None:
    """A host that was never seen is recorded, in a form that Roadbed reads; a changed key is refused."""
    folder = tmp_path / "my stacks"
    folder.mkdir()
    shutil.copy(bare.path, folder / "stack.yml")
    stack = Stack(folder, bare.data, bare.environment)
    words = ["ssh", "-i", str(folder / "stack.yml"), HOST.name, "--", "sh", "-c", 'echo "$(id -un) $1"', "x", "a  b"]

    def ssh(code: int) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run([PROVISION, *words], env=stack.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    assert ssh(0).stdout == "admin a  b\n"
    known = folder / "stack.known_hosts"
    assert known.read_text().startswith(f"{HOST.address} ssh-ed25519 ")
    command = [PROVISION, "exec", "-i", str(folder / "stack.yml"), HOST.name, "--", "true"]
    subprocess.run(command, env=stack.environment, check=True, timeout=60)
    kept = known.read_text()
    other = nspawn.key_path().with_suffix(".pub").read_text().split()[1]
    known.write_text(f"{HOST.address} ssh-ed25519 {other}\n")
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in ssh(255).stderr
    known.write_text(kept)


def test_ssh_goes_through_the_jump_host(bare: Stack) -> None:
    """The machine itself is the jump host here: the way is the same."""
    bare.write(ssh={"jump": f"root@{HOST.address}"})
    try:
        assert call(bare, "ssh", HOST.name, "--", "id", "-un").stdout == "admin\n"
    finally:
        bare.write(ssh={"jump": None})
