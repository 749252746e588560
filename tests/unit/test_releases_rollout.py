"""The state machine of a rollout: from what the hosts have, also after a crash, to what is done."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roadbed.releases import scripts
from roadbed.releases.decide import decide
from roadbed.releases.host_state import HostState, ReleaseOnHost, parse
from roadbed.releases.plan import Plan

OLD, NEW = "20260101T000000-0000000", "20260102T000000-1111111"


def host(**facts: Any) -> HostState:
    """One host that has both roles and two instances of the old release in slot a, all as it should be."""
    complete = ReleaseOnHost("healthy", "d")
    normal = HostState(
        arch="x86_64",
        releases={OLD: complete, NEW: complete},
        slots={"a": OLD},
        current=OLD,
        public=OLD,
        static=OLD,
        flags=frozenset({"active.a"}),
        instances={"a-0": "active", "a-1": "active"},
        enabled=frozenset({"a-0", "a-1"}),
    )
    return replace(normal, **facts)


BARE = HostState(arch="x86_64")
STARTED = {"slots": {"a": OLD, "b": NEW}, "instances": {f"{s}-{n}": "active" for s in "ab" for n in (0, 1)}}
BOTH_AT_BOOT = {"enabled": frozenset({"a-0", "a-1", "b-0", "b-1"})}
SWITCHED = {"flags": frozenset({"active.b"}), "public": NEW, "static": NEW}


def plan(release: str, replicas: int = 2, **states: HostState) -> Plan:
    """The plan for hosts that have both roles."""
    digests = dict.fromkeys(states, "d")
    return decide(release, digests, states, dict.fromkeys(states, replicas), tuple(states))


def changes(found: Plan) -> dict[str, Any]:
    """The stages that have something to do, for a single host as plain values."""
    stages = ["stop_first", "start", "enable", "retire", "disable"]
    units = {name: getattr(found, name).get("one", ()) for name in stages}
    hosts = {name: bool(getattr(found, name)) for name in ("upload", "link", "publish", "switch", "current", "pay")}
    return {name: value for name, value in {**units, **hosts}.items() if value}


A, B, C = (("a-0", "a-1"), ("b-0", "b-1"), ("c-0", "c-1"))
ALL_NEW = {"link": True, "publish": True, "switch": True, "current": True}


@pytest.mark.parametrize(
    ("state", "release", "slot", "expected"),
    [
        pytest.param(host(), OLD, "a", {}, id="as it should be"),
        pytest.param(
            BARE, NEW, "a", {"upload": True, "start": A, "enable": A, **ALL_NEW}, id="first release on a bare host"
        ),
        pytest.param(
            host(), NEW, "b", {"start": B, "enable": B, "retire": A, "disable": A, **ALL_NEW}, id="a new release"
        ),
        pytest.param(
            host(debt=True),
            OLD,
            "b",
            {"start": B, "enable": B, "retire": A, "disable": A, "link": True, "switch": True, "pay": True},
            id="environment changed: the same release in the next slot",
        ),
        pytest.param(
            host(instances={**dict.fromkeys((*A, "a-2"), "active")}),
            OLD,
            "b",
            {"start": B, "enable": B, "retire": (*A, "a-2"), "disable": A, "link": True, "switch": True},
            id="fewer replicas: the surplus is not pulled from under its requests",
        ),
        pytest.param(
            host(instances={"a-0": "active", "a-1": "failed"}), OLD, "a", {"start": ("a-1",)}, id="an instance died"
        ),
        pytest.param(
            host(instances={"a-0": "active"}, enabled=frozenset({"a-0"})),
            OLD,
            "a",
            {"start": ("a-1",), "enable": ("a-1",)},
            id="more replicas",
        ),
        pytest.param(host(enabled=frozenset()), OLD, "a", {"enable": A}, id="would not come back after a reboot"),
        pytest.param(host(current=None), OLD, "a", {"current": True}, id="died before the last link"),
        pytest.param(
            host(**{**STARTED, "instances": {**dict.fromkeys(A, "active"), "b-0": "activating"}}),
            NEW,
            "c",
            {"stop_first": ("b-0",), "start": C, "enable": C, "retire": A, "disable": A, **ALL_NEW},
            id="died while starting: the half-started slot is cleared, another one taken",
        ),
        pytest.param(
            host(**STARTED),
            OLD,
            "a",
            {"stop_first": B},
            id="died while starting, and the old release is wanted again",
        ),
        pytest.param(
            host(**STARTED, **BOTH_AT_BOOT, flags=frozenset({"active.a", "active.b"}), public=NEW, static=NEW),
            NEW,
            "b",
            {"switch": True, "stop_first": A, "disable": A, "current": True},
            id="died between the flags: b serves already",
        ),
        pytest.param(
            host(
                slots={"c": OLD, "a": NEW},
                instances=dict.fromkeys((*A, *C), "active"),
                enabled=frozenset((*A, *C)),
                flags=frozenset({"active.a", "active.c"}),
            ),
            NEW,
            "b",
            {"stop_first": A, "start": B, "enable": B, "retire": C, "disable": (*A, *C), **ALL_NEW},
            id="died between the flags: c still serves",
        ),
        pytest.param(
            host(**STARTED, **BOTH_AT_BOOT, **SWITCHED),
            NEW,
            "b",
            {"stop_first": A, "disable": A, "current": True},
            id="died before stopping the old instances",
        ),
        pytest.param(
            host(
                slots={"a": OLD, "b": NEW},
                instances={**dict.fromkeys(B, "active"), "a-0": "deactivating"},
                enabled=frozenset(B),
                current=NEW,
                **SWITCHED,
            ),
            NEW,
            "b",
            {"stop_first": ("a-0",)},
            id="an old instance is still finishing its requests",
        ),
        pytest.param(
            host(releases={OLD: ReleaseOnHost("healthy", "d"), NEW: ReleaseOnHost("failed", "d")}),
            NEW,
            "b",
            {"start": B, "enable": B, "retire": A, "disable": A, **ALL_NEW},
            id="a release that failed may be tried again",
        ),
        pytest.param(
            host(releases={OLD: ReleaseOnHost("healthy", "other")}), OLD, "a", {"upload": True}, id="files differ"
        ),
    ],
)
def test_a_plan_brings_every_state_to_the_wanted_one(
    state: HostState, release: str, slot: str, expected: dict[str, Any]
) -> None:
    found = plan(release, one=state)
    assert (found.slot, changes(found)) == (slot, expected)
    assert found.unchanged == (not expected)


def test_all_hosts_use_the_same_slot() -> None:
    found = plan(NEW, one=host(), two=host(instances={"a-0": "active", "b-1": "activating"}))
    assert found.slot == "c"
    assert found.stop_first == {"two": ("b-1",)}
    assert found.start == {"one": C, "two": C}


def test_an_app_host_that_joins_gets_the_release_and_the_others_keep_running() -> None:
    found = plan(OLD, one=host(), two=BARE)
    assert (found.slot, found.upload, found.start, found.retire) == ("a", ("two",), {"two": A}, {})


def test_web_hosts_that_disagree_are_brought_together_before_anything_stops() -> None:
    """web one has switched, web two has not when the run dies: both slots serve, so neither is stopped first."""
    one = host(**STARTED, **BOTH_AT_BOOT, **SWITCHED)
    two = host(**STARTED, **BOTH_AT_BOOT)
    found = plan(NEW, one=one, two=two)
    assert (found.slot, found.stop_first, found.switch) == ("b", {}, ("two",))
    assert found.retire == {"one": A, "two": A}


def test_a_web_host_without_the_app_gets_files_and_flags_and_no_instances() -> None:
    states = {"web": replace(BARE, flags=frozenset({"active.a"})), "app": host(flags=frozenset())}
    found = decide(NEW, {"web": "p", "app": "d"}, states, {"app": 2}, ("web",))
    assert (found.slot, found.upload, found.publish, found.switch) == ("b", ("web",), ("web",), ("web",))
    assert (found.start, found.retire) == ({"app": B}, {"app": A})


def test_what_a_host_prints_is_understood() -> None:
    lines = [
        "arch x86_64", "free 1048576", f"release {OLD} healthy aa -", f"release {NEW} unknown bb v2", f"slot a {OLD}",
        f"current {OLD}", f"public {OLD}", f"static {OLD}", "flag active.a", f"flag old.{NEW}.b",
        "instance a-0 active", "instance b-0 deactivating", "instance c-0 inactive", "enabled a-0", "debt shop",
        f"migrated aa {OLD}", f"migrated bb {NEW}", "kept c", "nginx shop.example.com", "available 2097152",
    ]  # fmt: skip
    state = parse(lines)
    assert state.releases == {OLD: ReleaseOnHost("healthy", "aa"), NEW: ReleaseOnHost("unknown", "bb", "v2")}
    assert (state.slots, state.current, state.static, state.free_kb) == ({"a": OLD}, OLD, OLD, 1048576)
    assert (state.serving(), state.running(), state.enabled) == ("a", {"a-0", "b-0"}, {"a-0"})
    assert state.debt
    assert state.migrated == (f"aa {OLD}", f"bb {NEW}")
    assert (state.kept, state.nginx, state.available_kb) == ({"c"}, True, 2097152)
    assert (parse([]).nginx, parse([]).available_kb) == (False, None)


@pytest.mark.parametrize(
    ("line", "deployment"),
    [(f' "deployment_id": "{NEW}",', NEW), (' "deployment_id": null,', None), (' "deployment_id": "a b",', None)],
)
def test_the_script_that_looks_at_a_host_finds_what_is_there(tmp_path: Path, line: str, deployment: str | None) -> None:
    root, route, skewed = tmp_path / "srv", tmp_path / "route", tmp_path / "skew"
    meta = root / "releases" / NEW / ".roadbed"
    for folder in (meta, root / "slots", route, skewed):
        folder.mkdir(parents=True)
    (meta / "manifest.json").write_text('{\n "app": "shop",\n' + line + '\n "files": {"deployment_id": "x"}\n}\n')
    (root / "slots/b").symlink_to(f"../releases/{NEW}")
    (root / "current").symlink_to(f"releases/{NEW}")
    (route / f"old.{OLD}.a").touch()
    (skewed / "a").write_text("1790000000\n")
    (skewed / ".lock").touch()
    given = {"app": "no-such-app", "root": str(root), "route": str(route), "skewed": str(skewed)}
    text = scripts.script("inspect", **given, migrated=str(tmp_path / "none"), domain="shop.example.com", port="5000")
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    state = parse(done.stdout.splitlines())
    assert (state.releases[NEW].deployment, state.slots, state.current) == (deployment, {"b": NEW}, NEW)
    assert (state.flags, state.kept, state.nginx) == ({f"old.{OLD}.a"}, {"a"}, False)
    assert 0 < (state.available_kb or 0) < 2**40


@pytest.mark.parametrize(
    ("flags", "slot"), [("", None), ("a", "a"), ("b", "b"), ("ab", "b"), ("ac", "c"), ("abc", "c")]
)
def test_the_slot_that_serves_is_the_one_nginx_takes(flags: str, slot: str | None) -> None:
    assert host(flags=frozenset(f"active.{one}" for one in flags)).serving() == slot


def test_the_release_and_the_one_it_replaces_are_always_kept() -> None:
    ids = [f"2026010{day}T000000-0000000" for day in range(1, 7)]
    state = host(releases={one: ReleaseOnHost("healthy", "d") for one in ids}, current=ids[0])
    found = plan(ids[2], one=state)
    assert found.releases_to_keep(state, 2) == [ids[2], ids[0]]
    assert found.releases_to_keep(state, 4) == [ids[2], ids[0], ids[5], ids[4]]


def given(text: str) -> list[str]:
    """The names after "Given:" in the comment that a script begins with; what stands in brackets explains them."""
    head = " ".join(line.removeprefix("#") for line in text.partition("\n\n")[0].splitlines() if line.startswith("#"))
    listed = re.sub(r"\([^)]*\)", "", head.partition("Given:")[2]).partition(".")[0].partition(", for ")[0]
    return [word for word in re.findall(r"[a-z_]+", listed) if word not in ("and", "default")]


@pytest.mark.parametrize("name", sorted(path.stem for path in scripts.FOLDER.glob("*.sh")))
def test_every_script_for_hosts_is_posix_shell_without_findings(name: str) -> None:
    """With the values that its head says are given, and no others."""
    words = given((scripts.FOLDER / f"{name}.sh").read_text())
    text = "#!/bin/sh\n" + scripts.script(name, **dict.fromkeys(words, "it's a value"))
    command = [str(Path(sys.executable).with_name("shellcheck")), "--shell=sh", "--exclude=SC2034", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.stdout == ""
