"""The health component without a host: whom it asks, and what its program makes of the answers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from roadbed.deploys import health, nginx
from roadbed.deploys.app import SLOTS
from roadbed.deploys.health import HealthSettings
from roadbed.deploys.render import render

MakeContext = Callable[..., Any]
SPLIT = {
    "web-1": {"address": "192.0.2.10", "private": "10.0.0.10", "roles": ["web"]},
    "app-1": {"address": "192.0.2.11", "private": "10.0.0.11", "roles": ["app"]},
    "app-2": {"address": "192.0.2.12", "private": "2001:db8::12", "roles": ["app"]},
}
ONE, TWO, THREE = "10.0.0.11:5000", "10.0.0.11:5001", "[2001:db8::12]:5000"


def test_all_that_nginx_may_send_to_is_asked(make_context: MakeContext) -> None:
    ctx = make_context(hosts=SPLIT, app={"replicas": 2}, phase="phase2")
    asked: dict[str, list[str]] = {}
    for group, server, _, _ in health.instances(ctx):
        asked.setdefault(f"shop_{group}", []).append(server)
    groups = nginx.upstreams(ctx)
    for slot, other in zip(SLOTS, (*SLOTS[1:], SLOTS[0]), strict=True):
        assert asked[f"shop_{slot}"] == groups[f"shop_{slot}"]
        kept = [server for server in groups[f"shop_{other}_after_{slot}_old"] if not server.endswith(" backup")]
        assert asked[f"shop_{slot}_old"] == kept
    assert len(asked) == 2 * len(SLOTS)


def test_own_instances_are_asked_on_loopback(make_context: MakeContext) -> None:
    assert health.instances(make_context(app={"replicas": 1}))[0] == ("a", "127.0.0.1:5000", "web-1", "a-0")


def test_a_name_cannot_be_refused_by_address(make_context: MakeContext) -> None:
    hosts = {**SPLIT, "app-1": {"address": "app-1.example.com", "roles": ["app"]}}
    with pytest.raises(ValueError, match=r"hosts/app-1/private: 'app-1.*' is a name, but health"):
        health.instances(make_context(hosts=hosts))


def test_settings(make_context: MakeContext) -> None:
    assert HealthSettings.model_validate({}).longest == 6
    assert HealthSettings.model_validate({"interval": 10, "timeout": 3}).longest == 30
    for block in ({"interval": 0}, {"timeout": 11}, {"interval": 0.5}):
        with pytest.raises(ValidationError):
            make_context(health=block)


def test_nginx_tries_elsewhere_until_an_instance_that_hangs_is_put_aside(make_context: MakeContext) -> None:
    for block in ({}, {"interval": 10, "timeout": 10}):
        ctx = make_context(health=block)
        assert nginx.values(ctx, ipv6=True)["retry_seconds"] > ctx.inventory.health.longest


def test_a_refusal_outlives_the_time_until_it_is_renewed() -> None:
    for interval in range(1, 11):
        for timeout in range(1, 11):
            settings = HealthSettings.model_validate({"interval": interval, "timeout": timeout})
            assert settings.hold > interval + timeout + 1


def program(make_context: MakeContext, folder: Path) -> Path:
    """The rendered program."""
    file = folder / "health"
    file.write_text(render("health", health.PROGRAM, make_context(), slots=SLOTS))
    return file


def test_program_is_clean(make_context: MakeContext, tmp_path: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, program(make_context, tmp_path)], check=True)


@dataclass
class Judge:
    """The program with answers that the test makes up, and without a kernel: ``nft`` and ``ss`` only write down."""

    folder: Path
    output: Path

    def answers(self, **codes: str) -> None:
        """Lets curl answer with these status codes from the next round on: a whole round passes before it returns."""
        servers = {"one": ONE, "two": TWO, "three": THREE}
        kinds = {"gone": "000 0.000000"}  # nobody can connect; what only is silent has been connected to
        said = {name: kinds.get(code, f"{code} 0.000312") for name, code in codes.items()}
        lines = [
            f"a {said.get(n, '200 0.000312')} http://{one}/.roadbed/health why {n}\n" for n, one in servers.items()
        ]
        (self.folder / "answers.new").write_text("".join(lines))
        (self.folder / "answers.new").rename(self.folder / "answers")
        self.rounds(2)

    def rounds(self, number: int) -> None:
        """Waits until the program has asked that often."""
        wanted = len(self._said("rounds")) + number
        for _ in range(1000):
            if len(self._said("rounds")) >= wanted:
                return
            time.sleep(0.01)
        raise AssertionError(f"the program does not ask: {self.output.read_text()}")

    def _said(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    @property
    def aside(self) -> list[str]:
        """What the last transaction refuses."""
        text = (self.folder / "nft").read_text() if (self.folder / "nft").exists() else ""
        return [line.split("{ ")[1].split(" timeout")[0] for line in text.splitlines() if line.startswith("add")]

    @property
    def closed(self) -> list[str]:
        """To what connections were closed."""
        return self._said("ss")

    @property
    def state(self) -> dict[str, bool]:
        """Server -> whether it is used, in the file for monitoring."""
        found = json.loads((self.folder / "run/instances.json").read_text())
        return {each["server"]: each["used"] for each in found["instances"]}

    @property
    def log(self) -> list[str]:
        """What it said."""
        return self.output.read_text().splitlines()


@pytest.fixture
def judge(make_context: MakeContext, tmp_path: Path) -> Iterator[Judge]:
    """The program at work: three instances, a round every 50 ms."""
    commands = {
        "curl": f"cat > {tmp_path}/asked; cat {tmp_path}/answers; echo >> {tmp_path}/rounds",
        "nft": f"cat > {tmp_path}/nft.new; mv {tmp_path}/nft.new {tmp_path}/nft",
        "ss": f'echo "$6 $9" >> {tmp_path}/ss',
        "sleep": "exec /bin/sleep 0.05",
    }
    for folder in ("bin", "run", "route"):
        (tmp_path / folder).mkdir()
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    lines = [("a", ONE, "app-1", "a-0"), ("a_old", ONE, "app-1", "a-0"), ("a", TWO, "app-1", "a-1")]
    lines += [("a", THREE, "app-2", "a-0"), ("b", "10.0.0.11:5020", "app-1", "b-0")]
    (tmp_path / "instances").write_text("# Written by hand\n" + "".join(f"{' '.join(line)}\n" for line in lines))
    good = [f"a 200 0.000312 http://{server}/.roadbed/health\n" for server in (ONE, TWO, THREE)]
    (tmp_path / "answers").write_text("".join(good))
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "RUNTIME_DIRECTORY": f"{tmp_path}/run"}
    words = ["sh", str(program(make_context, tmp_path)), f"{tmp_path}/instances", "table", f"{tmp_path}/route"]
    with (tmp_path / "output").open("w") as output:
        child = subprocess.Popen(
            [*words, "1", "2", "10"], env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield Judge(tmp_path, tmp_path / "output")
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def test_an_instance_that_misses_twice_is_put_aside_until_it_answers(judge: Judge) -> None:
    judge.answers(two="000")
    judge.rounds(2)
    assert judge.aside == ["10.0.0.11 . 5001"]
    assert judge.closed == ["10.0.0.11 :5001"]
    assert judge.state == {ONE: True, TWO: False, THREE: True}
    judge.answers()
    judge.rounds(1)
    assert judge.aside == []
    assert judge.state == {ONE: True, TWO: True, THREE: True}
    assert judge.log == [
        "app-1 a-1 (10.0.0.11:5001) is put aside: why two",
        "app-1 a-1 (10.0.0.11:5001) is used again",
    ]


def test_one_that_is_not_ready_keeps_its_connections(judge: Judge) -> None:
    judge.answers(three="503")
    judge.rounds(2)
    assert judge.aside == ["2001:db8::12 . 5000"]
    assert judge.closed == []
    assert "is not ready" in judge.log[0]


@pytest.mark.slow
def test_never_all(judge: Judge) -> None:
    judge.answers(one="gone", two="gone")
    judge.rounds(2)
    assert judge.aside == ["10.0.0.11 . 5000", "10.0.0.11 . 5001"]
    judge.answers(one="gone", two="gone", three="503")
    judge.rounds(2)
    assert judge.aside == ["10.0.0.11 . 5000", "10.0.0.11 . 5001"]
    assert judge.log[-1] == "too many of a do not answer: they are used, for the fault may be here"
    judge.answers(one="gone", two="gone", three="gone")
    judge.rounds(2)
    assert judge.aside == []
    judge.answers(one="gone", two="gone")
    judge.rounds(1)
    assert judge.aside == ["10.0.0.11 . 5000", "10.0.0.11 . 5001"]


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["000 0.000000", "000 0.000312", "503 0.000312"])
def test_all_that_is_kept_of_an_old_release_if_need_be(judge: Judge, answer: str) -> None:
    """nginx asks the active release instead."""
    for flag in ("active.b", "old.release-1.a"):
        (judge.folder / "route" / flag).touch()
    judge.rounds(2)  # the round under way has not seen the flags
    good = "b 200 0.000312 http://10.0.0.11:5020/.roadbed/health\n"
    (judge.folder / "answers.new").write_text(f"{good}a_old {answer} http://{ONE}/.roadbed/health why\n")
    (judge.folder / "answers.new").rename(judge.folder / "answers")
    judge.rounds(5)
    assert judge.aside == ["10.0.0.11 . 5000"]


@pytest.mark.slow
def test_what_is_slow_is_not_given_to_fewer(judge: Judge) -> None:
    """More than half of those that can be connected to are slow: there is too much to do, and nobody is put aside."""
    judge.answers(one="000")
    judge.rounds(2)
    assert judge.aside == ["10.0.0.11 . 5000"]
    judge.answers(one="000", two="000")
    judge.rounds(2)
    assert judge.aside == []
    judge.answers(one="gone", two="000")
    judge.rounds(2)
    assert judge.aside == ["10.0.0.11 . 5000", "10.0.0.11 . 5001"]


def test_without_curl_nothing_changes(judge: Judge) -> None:
    judge.answers(two="000")
    judge.rounds(2)
    (judge.folder / "answers").write_text("")
    judge.rounds(3)
    assert judge.aside == ["10.0.0.11 . 5001"]
    assert judge.log[-1].startswith("curl tells nothing")


def test_it_asks_the_slot_that_nginx_uses_and_what_outlives_its_release(judge: Judge) -> None:
    judge.rounds(2)
    urls = [line for line in (judge.folder / "asked").read_text().splitlines() if line.startswith("url")]
    assert urls == [f'url = "http://{server}/.roadbed/health"' for server in (ONE, TWO, THREE)]
    for flag in ("active.b", "old.release-1.a", "old.of $(touch x).zzz"):
        (judge.folder / "route" / flag).touch()
    judge.rounds(3)
    urls = [line for line in (judge.folder / "asked").read_text().splitlines() if line.startswith("url")]
    assert urls == [f'url = "http://{server}/.roadbed/health"' for server in ("10.0.0.11:5020", ONE)]
    assert judge.state == {"10.0.0.11:5020": True, ONE: True}
