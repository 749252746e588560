"""The releases that hosts have: read, told apart, and which one a rollback brings back."""

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadbed.engine.errors import InventoryError, OperationFailed
from roadbed.releases import history, on_hosts
from roadbed.releases.history import Switch
from roadbed.releases.host_state import HostState
from roadbed.releases.manifest import Manifest
from roadbed.releases.scripts import script

FIRST, SECOND, THIRD, SICK = (f"2026010{day}T000000-{'0123456'[day] * 7}" for day in (1, 2, 3, 4))


def manifest(release: str) -> Manifest:
    """A manifest as a build writes it."""
    words = {"app": "shop", "release": release, "source_hash": "f" * 64, "created": "2026-01-01T00:00:00Z"}
    words |= {"next": "16.0.0", "node": "24.1.0", "platform": "linux-x86_64", "build_id": "b", "deployment_id": release}
    words |= {"key_fingerprint": "k", "server": "", "dist": ".next", "base_path": "", "asset_prefix": ""}
    files = {"app/server.js": {"sha256": "0" * 64, "mode": "640", "size": 3}}
    rest = {"commit": "c0ffee1234", "dirty": True, "writable": (), "routes": (), "files": files, "links": {}}
    return Manifest.model_validate({**words, **rest})


def listed(marks: dict[str, str], *served: str) -> on_hosts.Listed:
    """A host with releases in these states, which served in this order, a day each."""
    heads = {name: json.loads(manifest(name).model_dump_json(exclude={"routes", "files", "links"})) for name in marks}
    switches = [
        Switch(datetime(2026, 2, day, tzinfo=UTC), name, "deploy", "anna@desk") for day, name in enumerate(served, 1)
    ]
    return on_hosts.Listed(marks, heads, tuple(switches))


def serving(slot: str, **slots: str) -> HostState:
    """A host whose nginx uses ``slot``; every slot named runs an instance."""
    instances = {f"{name}-0": "active" for name in slots}
    return HostState(slots=slots, flags=frozenset({f"active.{slot}"}), instances=instances)


ONE = listed({FIRST: "healthy", SECOND: "healthy", THIRD: "healthy", SICK: "failed"}, FIRST, SECOND, THIRD)
NOW = serving("b", a=SECOND, b=THIRD)


def states(*hosts: tuple[on_hosts.Listed, HostState]) -> dict[str, str]:
    """What each release is to a stack of these hosts."""
    return {one.release: one.state for one in stack(*hosts)}


def stack(*hosts: tuple[on_hosts.Listed, HostState]) -> list[on_hosts.Known]:
    """The releases of these hosts, app-1 ..."""
    names = [f"app-{number}" for number, _ in enumerate(hosts, 1)]
    return on_hosts.known(
        {name: one for name, (one, _) in zip(names, hosts, strict=True)},
        {name: state for name, (_, state) in zip(names, hosts, strict=True)},
    )


def test_the_script_tells_what_is_parsed(tmp_path: Path) -> None:
    for release in (FIRST, SECOND):
        meta = tmp_path / "releases" / release / ".roadbed"
        meta.mkdir(parents=True)
        (meta / "manifest.json").write_text(manifest(release).model_dump_json(indent=1))
    (tmp_path / "releases" / FIRST / ".roadbed/state").write_text("healthy\n")
    broken = tmp_path / "releases" / SICK / ".roadbed"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text('{"app": ')
    (tmp_path / "history").write_text(f"2026-02-01T00:00:00Z {FIRST} phase1 anna@desk\nnonsense\n")
    done = subprocess.run(
        ["sh", "-c", script("releases", root=str(tmp_path))], capture_output=True, text=True, check=True
    )
    found = on_hosts.parse(done.stdout.splitlines())
    assert found.states == {FIRST: "healthy", SECOND: "unknown"}
    assert found.heads[SECOND]["commit"] == "c0ffee1234"
    assert "files" not in found.heads[FIRST]
    assert found.switches == (Switch(datetime(2026, 2, 1, tzinfo=UTC), FIRST, "phase1", "anna@desk"),)


def test_history_has_a_line_a_switch(tmp_path: Path) -> None:
    texts: list[str] = []
    session: Any = SimpleNamespace(run=texts.append)
    app: Any = SimpleNamespace(root=str(tmp_path))
    when = datetime(2026, 2, 1, 12, 30, tzinfo=UTC)
    for release in (FIRST, FIRST, SECOND, FIRST):
        history.record(session, app, Switch(when, release, "deploy", "ci job"))
        subprocess.run(["sh", "-c", texts[-1]], check=True)
    lines = (tmp_path / "history").read_text().splitlines()
    assert [switch.release for switch in history.parse(lines)] == [FIRST, SECOND, FIRST]
    assert lines[0] == f"2026-02-01T12:30:00Z {FIRST} deploy ci job"


def test_every_release_has_one_state() -> None:
    assert states((ONE, NOW)) == {THIRD: "live", SECOND: "kept for skew", FIRST: "good", SICK: "never healthy"}
    retired = serving("b", b=THIRD)
    assert states((ONE, retired))[SECOND] == "good"
    sick_again = listed({FIRST: "failed", THIRD: "healthy", SICK: "unknown"}, FIRST, THIRD)
    assert states((sick_again, retired)) == {THIRD: "live", FIRST: "failed", SICK: "uploaded"}


def test_the_order_is_that_of_service() -> None:
    again = listed({FIRST: "healthy", SECOND: "healthy", SICK: "failed"}, FIRST, SECOND, FIRST)
    assert [one.release for one in stack((again, serving("a", a=FIRST)))] == [FIRST, SECOND, SICK]


def test_a_rollback_goes_to_what_served_before() -> None:
    assert on_hosts.to_roll_back_to(stack((ONE, NOW)), ["app-1"], None).release == SECOND
    assert on_hosts.to_roll_back_to(stack((ONE, NOW)), ["app-1"], FIRST).release == FIRST


def test_a_rollback_never_goes_to_a_release_that_was_not_healthy() -> None:
    sick = listed({FIRST: "healthy", SICK: "failed", THIRD: "healthy"}, FIRST, THIRD)
    assert on_hosts.to_roll_back_to(stack((sick, serving("b", b=THIRD))), ["app-1"], None).release == FIRST
    with pytest.raises(OperationFailed, match=f"{SICK} is marked: never healthy, so a rollback does not go there"):
        on_hosts.to_roll_back_to(stack((ONE, NOW)), ["app-1"], SICK)
    alone = listed({SICK: "failed", THIRD: "healthy"}, THIRD)
    with pytest.raises(OperationFailed, match="there is no release to roll back to"):
        on_hosts.to_roll_back_to(stack((alone, serving("b", b=THIRD))), ["app-1"], None)


def test_a_rollback_needs_the_release_on_every_app_host() -> None:
    new_host = (listed({THIRD: "healthy"}, THIRD), serving("b", b=THIRD))
    with pytest.raises(OperationFailed, match="no release to roll back to"):
        on_hosts.to_roll_back_to(stack((ONE, NOW), new_host), ["app-1", "app-2"], None)
    with pytest.raises(OperationFailed, match=f"{SECOND} is not on app-2"):
        on_hosts.to_roll_back_to(stack((ONE, NOW), new_host), ["app-1", "app-2"], SECOND)


@pytest.mark.parametrize(("wanted", "message"), [("nothing", "there is no release nothing"), (THIRD, "is live")])
def test_a_mistake_is_told(wanted: str, message: str) -> None:
    with pytest.raises(InventoryError, match=message):
        on_hosts.to_roll_back_to(stack((ONE, NOW)), ["app-1"], wanted)


def amid(*hosts: HostState) -> str | None:
    return on_hosts.interrupted({f"app-{number}": host for number, host in enumerate(hosts)})


def test_a_run_that_ended_amid_its_switch_is_noticed() -> None:
    """Which release serves by the flags, and which is current: they differ until the last step of a rollout."""
    done = replace(serving("b", a=SECOND, b=THIRD), current=THIRD)
    deployed = replace(done, current=SECOND, switching=("deploy", THIRD))
    back = replace(serving("a", a=SECOND, b=THIRD), current=THIRD, switching=("rollback", SECOND))
    half = replace(deployed, flags=frozenset({"active.a"}))
    assert amid(done) is None
    assert amid(replace(done, switching=("rollback", THIRD))) is None, "only its last word is missing"
    assert amid(deployed) == SECOND, "a deploy is taken back"
    assert amid(back) == SECOND, "a rollback is finished, not taken back"
    assert amid(deployed, half) == SECOND
    assert amid(deployed, done) == SECOND, "some hosts have come to the end"
    assert amid(replace(deployed, current=None)) is None, "the first release of all"


def test_a_rollback_after_it_goes_where_it_should() -> None:
    now = replace(serving("a", a=SECOND, b=THIRD), current=THIRD, switching=("rollback", SECOND))
    releases = stack((ONE, now))
    assert on_hosts.to_roll_back_to(releases, ["app-1"], None, SECOND).release == SECOND
    assert on_hosts.to_roll_back_to(releases, ["app-1"], SECOND, SECOND).release == SECOND
    assert on_hosts.to_roll_back_to(releases, ["app-1"], FIRST, SECOND).release == FIRST
