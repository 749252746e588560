"""The lock of a stack: the shell that holds it, by bash itself, and what people are told."""

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from roadbed.cli.locked import outcome
from roadbed.engine import hold, holder, lock
from roadbed.engine.errors import HostUnreachable, OperationFailed, Refused, RoadbedError
from roadbed.engine.hold import Claim, Hold
from roadbed.engine.holder import Holder, duration, holder_on, parse, plain
from roadbed.engine.lock import Lock
from roadbed.engine.process import signature
from roadbed.engine.result import Result

NOON = int(datetime(2026, 11, 26, 14, 3, 5, tzinfo=UTC).timestamp())


class Channel:
    """A process of this machine at the other end of a socket, with the part of paramiko's Channel that is used."""

    def __init__(self, command: str) -> None:
        self._mine, its = socket.socketpair()
        self._process = subprocess.Popen(
            ["sh", "-c", command], stdin=its, stdout=its, stderr=subprocess.PIPE, close_fds=True
        )
        its.close()
        self.closed = self.eof_received = False

    def settimeout(self, seconds: float) -> None:
        self._mine.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        self._mine.sendall(data)

    def recv(self, size: int) -> bytes:
        piece = self._mine.recv(size)
        self.eof_received = self.eof_received or not piece
        return piece

    def makefile_stderr(self, mode: str) -> Any:
        return self._process.stderr

    def close(self) -> None:
        self.closed = True
        self._mine.close()
        self._process.wait(timeout=10)
        assert self._process.stderr is not None
        self._process.stderr.close()


class Host:
    """A session whose host is this machine."""

    alive = True

    def __init__(self, name: str) -> None:
        self.name, self.channels = name, list[Channel]()

    def start(self, command: str, *, forget: bool = True) -> Channel:
        assert not forget, "the lock must not make the answers of the host invalid"
        self.channels.append(Channel(command))
        return self.channels[-1]

    def run(self, command: str, *, check: bool = True) -> Result:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=check)
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What the shell gave logger(1), which writes to a file here; the lock file is in this folder too."""
    bin_folder, log = tmp_path / "bin", tmp_path / "log"
    bin_folder.mkdir()
    (bin_folder / "logger").write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "-t roadbed --" ] && echo "$4" >> {log}\n')
    (bin_folder / "logger").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    for module in (hold, holder):
        monkeypatch.setattr(module, "lock_file", lambda app: str(tmp_path / f"run/{app}.lock"))
    return lambda: log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def host(journal: object) -> Any:
    """This machine as a host."""
    return Host("web-1")


def claim(owner: str = "anna@laptop", what: str = "deploy 1", **more: Any) -> Claim:
    return Claim("shop", owner, what, **{"patience": 30, **more})


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# One host


def test_second_is_told_who_since_when_and_what(host: Any, journal: Callable[[], list[str]]) -> None:
    first = Hold(host, claim()).take()
    with pytest.raises(Refused) as caught:
        Hold(host, claim("bob@desk", "phase1")).take()
    form = r"web-1: locked by anna@laptop since \d\d:\d\d:\d\d UTC \(\d s\): deploy 1\. Wait, or, .* --break-lock"
    assert re.fullmatch(form, str(caught.value))
    first.beat()
    assert not first.ended
    first.end("ok (3.0 s)")
    assert holder_on(host, "shop") is None
    Hold(host, claim("bob@desk", "phase1")).take().end("ok (1.0 s)")
    wait_for(lambda: len(journal()) == 4)
    assert journal() == [
        "anna@laptop: deploy 1: began",
        "anna@laptop: deploy 1: ok (3.0 s)",
        "bob@desk: phase1: began",
        "bob@desk: phase1: ok (1.0 s)",
    ]


def test_record_names_the_holder_and_is_private(host: Any, tmp_path: Path) -> None:
    held = Hold(host, claim(what="deploy 20261126T101500-1a2b3c4")).take()
    found = holder_on(host, "shop")
    assert found is not None
    assert (found.owner, found.what) == ("anna@laptop", "deploy 20261126T101500-1a2b3c4")
    assert abs((datetime.now(UTC) - found.since).total_seconds()) < 5
    assert (tmp_path / "run/shop.lock").stat().st_mode & 0o777 == 0o600
    held.end("ok")


def test_lock_of_another_stack_is_another_lock(host: Any) -> None:
    one, other = Hold(host, claim()).take(), Hold(host, Claim("blog", "bob@desk", "deploy 2", 30)).take()
    one.end("ok")
    other.end("ok")


def test_connection_that_ends_frees_it(host: Any, journal: Callable[[], list[str]]) -> None:
    held = Hold(host, claim()).take()
    host.channels[0].close()
    assert held.ended
    Hold(host, claim("bob@desk", "phase1")).take().end("ok")
    assert journal()[1] == "anna@laptop: deploy 1: interrupted: the connection ended"


@pytest.mark.slow
def test_silence_frees_it(host: Any, journal: Callable[[], list[str]]) -> None:
    held = Hold(host, claim(patience=1)).take()
    wait_for(lambda: holder_on(host, "shop") is None)
    held.beat()
    assert held.ended
    wait_for(lambda: len(journal()) == 2)
    assert journal()[1] == "anna@laptop: deploy 1: interrupted: no sign of life for 1 s"
    held.end("ok")


def test_it_can_be_taken_away(host: Any, journal: Callable[[], list[str]]) -> None:
    first = Hold(host, claim()).take()
    second = Hold(host, claim("bob@desk", "phase1", take="yes")).take()
    assert second.taken_from is not None
    assert second.taken_from.owner == "anna@laptop"
    first.beat()
    assert first.ended
    second.beat()
    assert not second.ended
    second.end("ok")
    wait_for(lambda: len(journal()) == 3)
    assert journal()[1] == "bob@desk: phase1: began, and took the lock from anna@laptop deploy 1"


def test_process_that_has_the_id_of_a_dead_holder_is_left_alone(host: Any, tmp_path: Path) -> None:
    """A record that was left, with the id of a process that is somebody else's by now."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/shop.lock").write_text(f"{stranger.pid}\nabcdef\n1\nanna@laptop\ndeploy 1\n")
        assert holder_on(host, "shop") is None
        Hold(host, claim(take="yes")).take().end("ok")
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.slow
def test_foreign_lock_on_the_file_is_an_error(host: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with subprocess.Popen(["flock", str(tmp_path / "run/shop.lock"), "sleep", "60"], start_new_session=True) as other:
        wait_for((tmp_path / "run/shop.lock").exists)
        time.sleep(0.2)
        with pytest.raises(
            OperationFailed, match=r"web-1: the lock was not taken: .*/shop.lock is locked by something"
        ):
            Hold(host, claim()).take()
        subprocess.run(["pkill", "-P", str(other.pid)], check=True)


def test_values_are_data(host: Any, tmp_path: Path) -> None:
    """Neither shell, nor a second line, nor a terminal gets hold of what a run says of itself."""
    what = f"deploy $(touch {tmp_path}/bad) `id`\nend x \x1b[31m"
    held = Hold(host, claim(what=what)).take()
    found = holder_on(host, "shop")
    assert found is not None
    assert found.what == f"deploy $(touch {tmp_path}/bad) `id` end x [31m"
    held.end("ok\nend again")
    assert not (tmp_path / "bad").exists()


# Several hosts


@pytest.fixture
def hosts(journal: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Three hosts: this machine, with a lock file each, by the order in which they are asked."""

    class Own(Host):
        def start(self, command: str, *, forget: bool = True) -> Channel:
            return super().start(command.replace("/run/", f"/{self.name}/"), forget=forget)

        def run(self, command: str, *, check: bool = True) -> Result:
            return super().run(command.replace("/run/", f"/{self.name}/"), check=check)

    return {name: Own(name) for name in ("web-1", "app-1", "app-2")}


def lock_of(hosts: dict[str, Any], what: str, **more: Any) -> Lock:
    made = Lock("shop", hosts, what, **more)
    for name, session in hosts.items():
        made.opened(session, name)
    return made


def test_first_host_decides_and_nothing_stays_taken(hosts: dict[str, Any], journal: Callable[[], list[str]]) -> None:
    first = lock_of(hosts, "deploy 1")
    assert first.take(hosts) == {}
    first.check()
    wait_for(lambda: len(journal()) == 3)
    second = lock_of(hosts, "deploy 2")
    with pytest.raises(Refused, match=r"^web-1: locked by ") as caught:
        second.take(hosts)
    assert str(caught.value).count("locked by") == 1
    assert len(journal()) == 3, "the other hosts were not even asked"
    first.end("ok")
    third = lock_of(hosts, "deploy 3")
    assert third.take(hosts) == {}
    third.end("ok")


def test_refusal_of_a_later_host_gives_the_first_back(hosts: dict[str, Any]) -> None:
    limited = {"app-2": hosts["app-2"]}
    first = lock_of(limited, "deploy 1")
    first.take(limited)
    second = lock_of(hosts, "deploy 2")
    with pytest.raises(Refused, match=r"^app-2: locked by "):
        second.take(hosts)
    assert holder_on(hosts["web-1"], "shop") is None
    assert holder_on(hosts["app-2"], "shop") is not None
    first.end("ok")


def test_host_that_is_away_is_not_waited_for(hosts: dict[str, Any]) -> None:
    """The first host of the run does not answer: the next one is the first."""
    made = Lock("shop", hosts, "deploy 1")
    there = {name: hosts[name] for name in ("app-1", "app-2")}
    for name, session in there.items():
        made.opened(session, name)
    assert made.take(there) == {}
    made.check()
    made.end("ok")


def test_run_that_lost_its_lock_is_told_by_whom(hosts: dict[str, Any]) -> None:
    first = lock_of(hosts, "deploy 1")
    first.take(hosts)
    second = lock_of(hosts, "deploy 2", break_lock=True)
    second.take(hosts)
    assert set(second.taken_from()) == set(hosts)
    first_hold = first._holds["web-1"]
    first_hold.sent_at -= lock.CERTAIN + 1
    with pytest.raises(Refused, match=r"web-1: the lock of this run was taken by \S+ since .*: deploy 2\. "):
        first.check()
    second.check()
    second.end("ok")
    with pytest.raises(Refused, match="or this machine was silent for 60 s"):
        first.check()
    first.end("refused")


def test_host_that_went_away_stops_nobody(hosts: dict[str, Any]) -> None:
    """Its own operations fail; the run goes on elsewhere."""
    made = lock_of(hosts, "deploy 1")
    made.take(hosts)
    hosts["app-1"].channels[0].close()
    hosts["app-1"].alive = False
    made.check()
    hosts["app-1"].alive = True
    made.retake(hosts["app-1"], "app-1")
    made.check()
    made.end("ok")


def test_dead_run_of_this_machine_is_in_nobodys_way(hosts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is not known to be dead on the host yet. A run of another machine is not judged."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    for machine, taken in (("000000000000", False), (signature().partition(".")[0], True)):
        monkeypatch.setattr(hold, "signature", lambda machine=machine: f"{machine}.{gone.pid}.0123456789ab")
        dead = lock_of(hosts, "deploy 1")
        dead.take(hosts)
        monkeypatch.setattr(hold, "signature", signature)
        second = lock_of(hosts, "deploy 2")
        if taken:
            assert second.take(hosts) == {}
            assert set(second.taken_from()) == set(hosts)
        else:
            with pytest.raises(Refused):
                second.take(hosts)
        second.end("ok")
        dead.end("ok")


def test_dropped_host_is_free(hosts: dict[str, Any]) -> None:
    made = lock_of(hosts, "deploy 1")
    made.take(hosts)
    made.drop({"app-1": "failed: unfit"})
    assert holder_on(hosts["app-1"], "shop") is None
    assert holder_on(hosts["app-2"], "shop") is not None
    made.end("ok")


def test_host_on_which_it_cannot_be_had_is_an_error_of_that_host(hosts: dict[str, Any]) -> None:
    def broken(command: str, *, forget: bool = True) -> Any:
        return Channel("echo 'No space left on device' >&2; exit 1")

    hosts["app-1"].start = broken
    made = lock_of(hosts, "deploy 1")
    errors = made.take(hosts)
    assert {name: str(error) for name, error in errors.items()} == {
        "app-1": "app-1: the lock was not taken: No space left on device"
    }
    made.end("ok")


def test_without_the_lock_nothing_goes_on_whatever_the_reason(hosts: dict[str, Any]) -> None:
    def broken(command: str, *, forget: bool = True) -> Any:
        raise ZeroDivisionError

    hosts["app-1"].start = broken
    made = lock_of(hosts, "deploy 1")
    with pytest.raises(ZeroDivisionError):
        made.take(hosts)
    made.end("failed")


# What people are told


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (f"{NOON} {NOON + 185} 77 ab anna@laptop deploy 1", "anna@laptop since 14:03:05 UTC (3 min): deploy 1"),
        (f"{NOON} {NOON - 9} 77 ab anna@laptop phase1", "anna@laptop since 14:03:05 UTC (0 s): phase1"),
        (f"{NOON} {NOON + 90000} 77 ab a@b x", "a@b since 2026-11-26 14:03:05 UTC (1 d 1 h): x"),
        (f"{NOON} {NOON + 7500} 77 ab a@b x", "a@b since 14:03:05 UTC (2 h 5 min): x"),
        ("", None),
        ("now then 77 ab a@b x", None),
        ("1 2 3", None),
    ],
)
def test_record_is_read(record: str, text: str | None) -> None:
    found = parse(record)
    assert (str(found) if found else None) == text


def test_plain_text_cannot_steer_a_terminal() -> None:
    assert plain("a\tb\x1b]0;title\x07\n c ") == "a b]0;title c"
    assert len(plain("x" * 900)) == 200
    assert duration(59.9) == "59 s"
    assert Holder("a@b", "x", datetime.fromtimestamp(NOON, UTC), 3).as_json()["since"] == "2026-11-26T14:03:05+00:00"


@pytest.mark.parametrize(
    ("error", "failed", "result"),
    [
        (None, {}, ("ok", "")),
        (None, {"b": OperationFailed("b: disk full\nmore"), "c": HostUnreachable("c: away")}, ("failed", "c: away")),
        (None, {"b": OperationFailed("b: disk full\nmore")}, ("failed", "b: disk full")),
        (Refused("web-1: locked"), {}, ("refused", "web-1: locked")),
        (OperationFailed("a: b\nc"), {}, ("failed", "a: b")),
        (ValueError("password=hunter2"), {}, ("failed", "a defect: ValueError")),
        (KeyboardInterrupt(), {}, ("interrupted", "")),
    ],
)
def test_outcome_is_one_line(
    error: BaseException | None, failed: dict[str, RoadbedError], result: tuple[str, str]
) -> None:
    assert outcome(error, failed) == result


@pytest.fixture(autouse=True)
def no_holder_stays(tmp_path: Path) -> Iterator[None]:
    """No shell of a test outlives it."""
    yield
    mine = [read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert [words for words in mine if b"roadbed-lock" in words and str(tmp_path).encode() in words] == []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
