"""The pure parts of the engine: host keys, facts, preflight, errors and reports."""

import errno
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest

from roadbed.cli.phase import raise_for
from roadbed.engine.connect import _reason, key_file
from roadbed.engine.converge import Run
from roadbed.engine.errors import (
    HostUnreachable,
    InventoryError,
    OperationFailed,
    Refused,
    RoadbedError,
    VerificationFailed,
)
from roadbed.engine.fleet import Fleet
from roadbed.engine.hostkeys import KnownHosts, entry_name
from roadbed.engine.load import load
from roadbed.engine.parallel import each
from roadbed.engine.report import Report
from roadbed.engine.roadmap import RecordStep
from roadbed.releases.stages import Stages

Make = Callable[..., Any]


# Host keys


@pytest.mark.parametrize(("port", "name"), [(22, "192.0.2.1"), (2222, "[192.0.2.1]:2222")])
def test_first_key_is_recorded_as_openssh_writes_it(tmp_path: Path, port: int, name: str) -> None:
    path, key = tmp_path / "prod.known_hosts", paramiko.ECDSAKey.generate()
    known = KnownHosts(path)
    assert not known.known("192.0.2.1", port)
    known.check("web-1", "192.0.2.1", port, key)
    known.check("web-1", "192.0.2.1", port, key)
    assert path.read_text() == f"{name} ecdsa-sha2-nistp256 {key.get_base64()}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert KnownHosts(path).known("192.0.2.1", port)
    assert not KnownHosts(path).known("192.0.2.1", 2223)
    assert entry_name("192.0.2.1", port) == name


@pytest.mark.parametrize("other", [paramiko.ECDSAKey.generate, lambda: paramiko.RSAKey.generate(1024)])
def test_another_key_is_refused_with_the_way_out(tmp_path: Path, other: Callable[[], paramiko.PKey]) -> None:
    """Of the same type or of another one: both are a host that is not the known one."""
    path, key = tmp_path / "prod.known_hosts", other()
    KnownHosts(path).check("web-1", "192.0.2.1", 2222, paramiko.ECDSAKey.generate())
    before = path.read_text()
    with pytest.raises(Refused) as caught:
        KnownHosts(path).check("web-1", "192.0.2.1", 2222, key)
    assert str(caught.value).startswith("web-1: the host key of [192.0.2.1]:2222 has changed")
    assert key.fingerprint in str(caught.value)
    assert str(caught.value).endswith(f"ssh-keygen -R '[192.0.2.1]:2222' -f '{path}'")
    assert path.read_text() == before


def test_forgotten_host_may_show_a_new_key_and_the_others_may_not(tmp_path: Path) -> None:
    path, key = tmp_path / "prod.known_hosts", paramiko.ECDSAKey.generate()
    known = KnownHosts(path)
    for address in ("192.0.2.1", "192.0.2.11"):
        known.check(address, address, 22, key)
    known.forget("192.0.2.1")
    known.forget("192.0.2.99")
    assert [line.split()[0] for line in path.read_text().splitlines()] == ["192.0.2.11"]
    assert path.stat().st_mode & 0o777 == 0o600
    known.check("web-1", "192.0.2.1", 22, paramiko.ECDSAKey.generate())
    with pytest.raises(Refused):
        known.check("web-2", "192.0.2.11", 22, paramiko.ECDSAKey.generate())


def test_key_file_starts_at_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "prod.yml").write_text(
        "app: {name: shop, source: ., domain: shop.example.com}\nssh: {key: keys/admin}\n"
        "hosts: {one: {address: 192.0.2.1}}\n"
    )
    inventory = load(str(tmp_path / "prod.yml"))
    with pytest.raises(InventoryError, match=r"ssh/key: .*/keys/admin does not exist. Name the private key file"):
        key_file(inventory)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/admin").touch()
    assert key_file(inventory) == tmp_path / "keys/admin"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), "no answer within 10 s"),
        (socket.gaierror(-2, "Name or service not known"), "the name does not resolve"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "connection refused"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to host"),
        (paramiko.ChannelException(2, "Connect failed"), "connect failed"),
        (EOFError(), "eoferror"),
    ],
)
def test_reason_why_a_host_is_not_reached(error: Exception, text: str) -> None:
    assert _reason(error).lower() == text


# Runs


def test_every_name_is_worked_on_and_an_error_disturbs_nobody() -> None:
    def work(name: str) -> str:
        time.sleep(0.02)
        if name == "bad":
            raise HostUnreachable("bad: no answer")
        return name.upper()

    began = time.monotonic()
    answers = each(["one", "bad", "two"], work)
    assert list(answers) == ["one", "bad", "two"]
    assert (answers["one"], answers["two"]) == ("ONE", "TWO")
    assert isinstance(answers["bad"], HostUnreachable)
    assert time.monotonic() - began < 0.06  # at the same time, not in turn


def test_a_defect_is_raised_when_all_have_ended() -> None:
    ended = []

    def work(name: str) -> None:
        if name == "bad":
            raise ZeroDivisionError
        time.sleep(0.02)
        ended.append(name)

    with pytest.raises(ZeroDivisionError):
        each(["bad", "one"], work)
    assert ended == ["one"]


def test_report_counts_by_host_and_status() -> None:
    report = Report()
    report.step("base", ["web-1", "web-2"])
    report.operation("web-1", "base", "Install curl", "changed", 1.23456)
    report.operation("web-1", "base", "Set the clock", "unchanged")
    report.operation("web-2", "base", "Install curl", "failed", 0.5, "no space left")
    report.step_ended("base")
    assert (report.count("changed"), report.count("changed", "web-2"), report.count("failed")) == (1, 0, 1)
    assert [record.detail for record in report.failures()] == ["no space left"]
    data = report.as_json()
    assert data["hosts"]["web-1"] == {"changed": 1, "unchanged": 1, "failed": 0, "skipped": 0}
    assert data["operations"][0]["seconds"] == 1.2346
    assert [step["name"] for step in data["steps"]] == ["base"]


ERRORS: list[tuple[list[RoadbedError], type[RoadbedError], int]] = [
    ([OperationFailed("a: x"), HostUnreachable("b: y")], HostUnreachable, 3),
    ([Refused("a: x"), OperationFailed("b: y")], OperationFailed, 4),
    ([Refused("a: x")], Refused, 6),
    ([VerificationFailed("a: x"), InventoryError("b: y")], InventoryError, 2),
]


@pytest.mark.parametrize(("errors", "kind", "code"), ERRORS)
def test_exit_code_is_that_of_what_went_wrong_first(
    make_context: Make, errors: list[RoadbedError], kind: type[RoadbedError], code: int
) -> None:
    """First in the order of a run: inventory, connection, operation, verification."""
    run = Run(unconnected(make_context), "phase1", {}, Report())
    raise_for(run)
    run.failed = dict(zip("abc", errors, strict=False))
    with pytest.raises(kind) as caught:
        raise_for(run)
    assert caught.value.exit_code == code
    assert str(caught.value) == "\n".join(str(error) for error in errors)


HOSTS = {
    "web-1": {"address": "192.0.2.1", "roles": ["web"]},
    "app-1": {"address": "192.0.2.2", "roles": ["app"]},
    "app-2": {"address": "192.0.2.3", "roles": ["app"]},
}


def unconnected(make_context: Make, **blocks: Any) -> Fleet:
    """A fleet of an inventory on disk, before it connects."""
    inventory = make_context(**blocks).inventory
    inventory._path = Path("/nowhere/prod.yml")
    return Fleet(inventory)


class Step:
    """A component that web hosts get, and that needs the app."""

    name, roles, needs = "nginx", ("web",), ("app",)

    def run(self, run: Run, hosts: list[str]) -> dict[str, RoadbedError]:
        return {}


@pytest.mark.parametrize(
    ("failed", "lost", "reason"),
    [
        ({}, {}, ""),
        ({"app-1": OperationFailed("x")}, {"app": {"app-1"}}, ""),
        ({}, {"app": {"app-1", "app-2"}}, "needs app, which failed on app-1, app-2"),
        ({"web-1": HostUnreachable("x")}, {}, "the host is unreachable"),
        ({"web-1": OperationFailed("x")}, {}, "an earlier step failed on this host"),
    ],
)
def test_dependent_hosts_are_skipped_with_a_reason(
    make_context: Make, failed: dict[str, RoadbedError], lost: dict[str, set[str]], reason: str
) -> None:
    """A web host goes on while one of its app hosts is left."""
    fleet = unconnected(make_context, hosts=HOSTS, name="web-1")
    context = make_context(hosts=HOSTS, name="web-1")
    fleet.facts.update(context.facts)
    run = Run(fleet, "phase1", {"web-1": context}, Report(), failed=failed, lost=lost)
    assert run._blocked(Step(), "web-1") == reason


def test_run_that_lost_its_lock_stops_before_the_next_step(make_context: Make) -> None:
    """And so does a stage of a rollout."""
    begun: list[str] = []

    def guard(name: str) -> None:
        if name in ("phase", "Switch traffic"):
            raise Refused("web-1: the lock of this run was taken")
        begun.append(name)

    away: dict[str, RoadbedError] = {"web-1": HostUnreachable("web-1: away")}
    run = Run(unconnected(make_context), "phase1", {}, Report(), failed=away, guard=guard)
    with pytest.raises(Refused, match="was taken"):
        run.execute([Step(), RecordStep("phase1")])
    stages: Any = Stages(run, "release")
    stages.stage([], "Switch traffic", begun.append)
    for work in (stages.stage, stages.ask):
        with pytest.raises(Refused):
            work(["web-1"], "Switch traffic", lambda session, host: begun.append("at work"))
    with pytest.raises(Refused):
        stages.here("web-1", "Switch traffic", lambda: begun.append("at work") or "")
    assert begun == ["nginx"]
    assert [name for name, _ in run.report.steps] == ["nginx"]


class DataStep(Step):
    """The app, which needs the group of Redis."""

    name, roles, needs = "app", ("app",), ("redis",)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (("app-1", "c-1", "c-2", "c-3"), ""),
        (("app-1", "c-1", "c-2"), ""),
        (("app-1",), "needs redis on c-1, c-2, c-3, which is unreachable"),
    ],
)
def test_a_group_may_lack_a_host(make_context: Make, answer: tuple[str, ...], reason: str) -> None:
    """What Sentinel survives does not keep a release from going out."""
    caches = {f"c-{n}": {"address": f"192.0.2.1{n}", "roles": ["cache"]} for n in (1, 2, 3)}
    hosts = {"app-1": {"address": "192.0.2.2", "roles": ["web", "app"]}, **caches}
    fleet = unconnected(make_context, hosts=hosts, name="app-1")
    context = make_context(hosts=hosts, name="app-1", phase="phase2")
    fleet.facts.update({name: context.facts[name] for name in answer})
    run = Run(fleet, "phase2", {"app-1": context}, Report())
    assert run._blocked(DataStep(), "app-1") == reason
