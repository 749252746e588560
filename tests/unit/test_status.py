"""The journal of runs on this machine, and what `provision status` makes of it and of the hosts."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from roadbed.cli.status import notes, run_lines, table
from roadbed.engine.errors import HostUnreachable
from roadbed.engine.holder import Holder
from roadbed.engine.journal import KEPT, Journal, folder_of
from roadbed.engine.past_runs import PastRun, last_run, runs
from roadbed.engine.process import died_here, process_mark, signature
from roadbed.engine.report import Report
from roadbed.releases.host_state import HostState
from roadbed.releases.status import HostStatus, as_json, leftovers, slots

Make = Callable[..., Any]
NEW, OLD, OLDER = "20261126T101500-1a2b3c4", "20261125T220101-5d6e7f8", "20261124T080000-9a8b7c6"

# The journal


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an inventory would be; journals go to the same folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "prod.yml"


def begun(inventory: Path, what: str = "deploy 1") -> tuple[Journal, Report]:
    made, report = Journal(inventory, what, "anna@laptop", ["web-1", "app-1"]), Report()
    report.watchers.append(made)
    return made, report


def lines(inventory: Path) -> list[dict[str, Any]]:
    (path,) = folder_of(inventory).glob("*.jsonl")
    assert path.stat().st_mode & 0o777 == 0o600
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_journal_of_a_run(inventory: Path) -> None:
    made, report = begun(inventory)
    made.begins("release")
    report.step("release", ["web-1", "app-1"])
    made.begins("Start release 1 in slot b")
    report.operation("app-1", "release", "Start release 1 in slot b", "changed", 2.5)
    made.begins("Switch traffic")
    made.begins("Switch traffic")
    report.operation("web-1", "release", "Write a file", "changed")
    report.operation("web-1", "release", "Switch traffic", "failed", 0.5, "no\nroute")
    report.step_ended("release")
    made.ended("failed", "web-1: no route")
    told = lines(inventory)
    assert {line["event"] for line in told} == {
        "begun", "stage", "step", "stage ended", "failed", "step ended", "ended"
    }  # fmt: skip
    first, last = told[0], told[-1]
    assert (first["what"], first["owner"], first["pid"]) == ("deploy 1", "anna@laptop", os.getpid())
    assert first["hosts"] == ["web-1", "app-1"]
    assert [line["name"] for line in told if line["event"] == "stage"] == [
        "release", "Start release 1 in slot b", "Switch traffic"
    ]  # fmt: skip
    (failed,) = [line for line in told if line["event"] == "failed"]
    assert (failed["host"], failed["error"]) == ("web-1", "no route")
    assert (last["result"], last["error"]) == ("failed", "web-1: no route")


def test_only_the_newest_stay(inventory: Path) -> None:
    for number in range(KEPT + 5):
        begun(inventory, f"deploy {number}")[0].ended("ok")
    found = list(runs(inventory))
    assert [run.what for run in found] == [f"deploy {number}" for number in range(KEPT + 4, 4, -1)]


def test_inventories_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    assert folder_of(tmp_path / "a/prod.yml") != folder_of(tmp_path / "b/prod.yml")
    assert folder_of(tmp_path / "a/prod.yml").name.startswith("prod-")


def test_journal_that_cannot_be_written_disturbs_nobody(inventory: Path) -> None:
    folder_of(inventory).parent.mkdir(parents=True)
    folder_of(inventory).touch()
    made, report = begun(inventory)
    report.step("base", ["web-1"])
    made.ended("ok")
    assert last_run(inventory) is None


def test_run_that_lives_is_at_work(inventory: Path) -> None:
    _, report = begun(inventory)
    report.step("base", ["web-1"])
    found = last_run(inventory)
    assert found is not None
    assert (found.outcome, found.stage, found.ended) == ("running", "base", None)


KILLED = """
import os, signal, sys
from pathlib import Path
from roadbed.engine import journal
from roadbed.engine.report import Report
made, report = journal.Journal(Path(sys.argv[1]), "deploy 7", "anna@laptop", ["web-1"]), Report()
report.watchers.append(made)
report.step("base", ["web-1"]); report.step_ended("base")
made.begins("release"); report.step("release", ["web-1"]); made.begins("Start release 7 in slot b")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_run_that_was_killed_was_interrupted(inventory: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(inventory)], check=False)
    (path,) = folder_of(inventory).glob("*.jsonl")
    path.write_text(path.read_text() + '{"at": "2026-11-2')
    found = last_run(inventory)
    assert found is not None
    assert (found.outcome, found.stage) == ("interrupted", "release: Start release 7 in slot b")
    assert (found.command, found.what) == ("deploy", "deploy 7")
    assert found.ended is not None


def test_process_that_got_the_id_of_a_killed_run_is_not_that_run(inventory: Path) -> None:
    begun(inventory)
    (path,) = folder_of(inventory).glob("*.jsonl")
    assert f'"pid": {os.getpid()}' in path.read_text()
    path.write_text(path.read_text().replace(str(process_mark(os.getpid())), "another-boot/123"))
    found = last_run(inventory)
    assert found is not None
    assert found.outcome == "interrupted"


def test_process_that_is_gone_has_no_mark() -> None:
    child = subprocess.Popen(["true"])
    assert process_mark(child.pid) != process_mark(os.getpid())
    child.wait()
    assert process_mark(child.pid) is None


def test_signature_tells_whether_a_process_of_this_machine_lives() -> None:
    """One of another machine, or of another container, is not ours to judge: it never counts as dead."""
    mine = signature()
    machine, pid, mark = mine.split(".")
    child = subprocess.Popen(["true"])
    child.wait()
    assert not died_here(mine)
    assert died_here(f"{machine}.{child.pid}.{mark}")
    assert died_here(f"{machine}.{pid}.{'0' * 12}")
    for word in (f"{'0' * 12}.{child.pid}.{mark}", f".{child.pid}.{mark}", f"{machine}..{mark}", f"{machine}.1.", ""):
        assert not died_here(word)


def test_refused_runs_and_files_of_others_are_passed_over(inventory: Path) -> None:
    begun(inventory, "deploy 1")[0].ended("ok")
    begun(inventory, "deploy 2")[0].ended("refused", "Nothing was changed")
    for number, text in enumerate(("", "[]\n", '{"event": "begun"}\n', "\0\0")):
        (folder_of(inventory) / f"20991126T00000{number}Z-x.jsonl").write_text(text)
    found = last_run(inventory)
    assert found is not None
    assert (found.what, found.outcome, found.stage) == ("deploy 1", "ok", "")


# The hosts

HOSTS = {
    "web-1": {"address": "192.0.2.1", "roles": ["web"]},
    "web-2": {"address": "192.0.2.2", "roles": ["web"]},
    "app-1": {"address": "192.0.2.3", "roles": ["app"]},
    "data-1": {"address": "192.0.2.4", "roles": ["cache", "pooler", "database"]},
}
WEB = HostState(free_kb=12 * 2**20, flags=frozenset({"active.b"}), static=NEW, public=NEW)
APP = HostState(
    free_kb=8 * 2**20,
    slots={"a": OLDER, "b": NEW, "c": OLD},
    current=NEW,
    instances={"b-0": "active", "b-1": "active", "a-0": "inactive"},
)


@pytest.fixture
def stack(make_context: Make, tmp_path: Path) -> Any:
    found = make_context(hosts=HOSTS).inventory
    found._path = tmp_path / "prod.yml"
    return found


def hosts(web: HostState = WEB, app: HostState = APP, **more: Any) -> dict[str, HostStatus]:
    web_2 = more.pop("web_2", web)
    states = {"web-1": web, "web-2": web_2, "app-1": app, "data-1": HostState(free_kb=30 * 2**20)}
    return {name: HostStatus(state, phase="phase3", **more.get(name, {})) for name, state in states.items()}


def test_all_is_well(stack: Any) -> None:
    found = hosts()
    assert list(leftovers(stack, found)) == []
    (slot,) = slots(stack, found, "app-1")
    assert (slot.slot, slot.release, slot.counts, slot.use) == ("b", NEW, {"active": 2}, "live")
    (sends,) = slots(stack, found, "web-1")
    assert (sends.slot, sends.release, sends.use) == ("b", NEW, "sends there")
    assert slots(stack, found, "data-1") == []
    told = as_json(stack, found, "app-1")
    assert told["instances"]["b-1"] == {"state": "active", "release": NEW}
    assert (told["release"], told["slot"], told["left"], told["lock"]) == (NEW, None, [], None)
    assert as_json(stack, found, "web-1")["slot"] == "b"


def test_what_should_run_and_does_not_is_told(stack: Any) -> None:
    app = replace(APP, enabled=frozenset({"b-0", "b-1"}), instances={**APP.instances, "b-1": "failed"})
    found = hosts(app=app, **{"data-1": {"down": ("redis-server@cache.service inactive",)}})
    told = list(notes(stack, found))
    assert (
        "  ! app-1: shop@b-1.service does not run (failed): provision logs app-1 --unit shop@b-1.service -i prod"
        in told
    )
    assert any(line.startswith("  ! data-1: redis-server@cache.service does not run (inactive)") for line in told)
    assert as_json(stack, found, "data-1")["down"] == ["redis-server@cache.service inactive"]
    assert [line for line in notes(stack, hosts()) if "does not run" in line] == []


def test_release_that_is_kept_for_old_pages_is_no_leftover(stack: Any) -> None:
    web = replace(WEB, flags=WEB.flags | {f"old.{OLD}.c"})
    found = hosts(web, replace(APP, instances={**APP.instances, "c-0": "active"}))
    assert list(leftovers(stack, found)) == []
    assert [(slot.slot, slot.use) for slot in slots(stack, found, "app-1")] == [("b", "live"), ("c", "kept for skew")]


def test_release_that_the_host_itself_will_stop_is_no_leftover(stack: Any) -> None:
    found = hosts(app=replace(APP, instances={**APP.instances, "c-0": "active"}, kept=frozenset("c")))
    assert list(leftovers(stack, found)) == []
    assert slots(stack, found, "app-1")[1].use == "kept for skew"


def test_share_of_a_canary_and_maintenance_are_told(stack: Any) -> None:
    flags = {"canary.on", *(f"canary.{bucket}.c" for bucket in range(5)), "maintenance"}
    found = hosts(
        replace(WEB, flags=WEB.flags | flags), replace(APP, instances={**APP.instances, "c-0": "active"}), web_2=WEB
    )
    assert [slot.use for slot in slots(stack, found, "app-1")] == ["live", "5 % of visitors"]
    assert list(leftovers(stack, found)) == [("web-1", "sends 5 % of the visitors to slot c")]
    told = as_json(stack, found, "web-1")
    assert (told["shares"], told["maintenance"], told["flags"]) == ({"c": 5}, True, ["active.b", "maintenance"])
    assert "web-1: shows the maintenance page. `provision maintenance off -i prod` ends that" in notes(stack, found)


@pytest.mark.parametrize(
    ("found", "left"),
    [
        (
            hosts(app=replace(APP, instances={**APP.instances, "c-0": "active", "c-1": "activating", "a-0": "failed"})),
            [("app-1", f"c-0, c-1 of release {OLD} run in a slot that serves nothing")],
        ),
        (
            hosts(replace(WEB, flags=frozenset({"active.a", "active.b"}))),
            [
                ("web-1", "has flags of the slots a, b; requests go to b"),
                ("web-2", "has flags of the slots a, b; requests go to b"),
            ],
        ),
        (
            hosts(web_2=replace(WEB, flags=frozenset({"active.c"}))),
            [
                ("web-1", "sends requests to slot b, and other web hosts to another one"),
                ("web-2", "sends requests to slot c, and other web hosts to another one"),
            ],
        ),
        (hosts(**{"app-1": {"partial": (OLD,)}}), [("app-1", f"has a part of release {OLD}")]),
    ],
)
def test_what_an_interrupted_run_left(stack: Any, found: dict[str, HostStatus], left: list[tuple[str, str]]) -> None:
    assert list(leftovers(stack, found)) == left


def test_without_every_web_host_no_instance_is_called_a_leftover(stack: Any) -> None:
    """The one that is away may be the one that sends requests there."""
    found = hosts(app=replace(APP, instances={**APP.instances, "c-0": "active"}))
    del found["web-2"]
    assert list(leftovers(stack, found)) == []


# What is printed


@pytest.fixture(autouse=True)
def called(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``provision`` of the PATH."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/provision", "status"])


def shown(stack: Any, found: dict[str, HostStatus], failures: dict[str, Any] | None = None) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=80).print(table(stack, found, failures or {}))
    assert "\x1b" not in text.getvalue(), "plain in a pipe"
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_table_fits_80_columns(stack: Any) -> None:
    web = replace(WEB, flags=WEB.flags | {f"old.{OLD}.c"})
    found = hosts(web, replace(APP, instances={**APP.instances, "b-1": "failed", "c-0": "active", "a-0": "failed"}))
    del found["web-2"]
    said = shown(stack, found, {"web-2": HostUnreachable("web-2: away")})
    assert max(map(len, said)) <= 80
    assert [line.split()[:4] for line in said if line.startswith(("web", "data"))] == [
        ["web-1", "phase3", "b", NEW],
        ["web-2", "-", "-", "unreachable"],
        ["data-1", "phase3", "-", "-"],
    ]
    whole = " ".join(said)
    for text in ("12.0 GB", "30.0 GB", NEW, OLD, OLDER, "1 failed", "kept for", "idle"):
        assert text in whole


def test_lock_and_debts_are_told(stack: Any) -> None:
    holder = Holder("anna@laptop", "deploy 7", datetime(2026, 11, 26, 14, 3, 5, tzinfo=UTC), 185)
    found = hosts(**{"web-1": {"holder": holder}, "app-1": {"holder": holder, "pending": ("nginx", "storefront")}})
    assert list(notes(stack, found)) == [
        "locked: web-1, app-1, by anna@laptop since 14:03:05 UTC (3 min): deploy 7",
        "app-1: a restart is owed: nginx, storefront. `provision phase3 -i prod` does it",
    ]
    assert list(notes(stack, hosts())) == ["locked: no"]


def past(outcome: Any, stage: str = "", error: str = "", what: str = "rollback") -> PastRun:
    begun, ended = (datetime(2026, 11, 26, 14, minute, tzinfo=UTC) for minute in (3, 5))
    return PastRun(what, "anna@laptop", begun, None if outcome == "running" else ended, outcome, error, stage, ())


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (None, ["last run from this machine: none yet"]),
        (past("ok"), ["last run from this machine: rollback, 2026-11-26 14:03 UTC, ok after 2 min"]),
        (
            past("failed", "release: Start", "app-1: disk full", "deploy 7"),
            [
                "last run from this machine: deploy 7, 2026-11-26 14:03 UTC, failed in release: Start, after 2 min: "
                "app-1: disk full"
            ],
        ),
        (
            past("interrupted", "release: Start"),
            [
                "last run from this machine: rollback, 2026-11-26 14:03 UTC, interrupted in release: Start, "
                "after 2 min",
                "`provision rollback -i prod` finishes what was begun",
            ],
        ),
        (past("running", "base"), ["last run from this machine: rollback, 2026-11-26 14:03 UTC, at work in base"]),
    ],
)
def test_last_run_is_told(stack: Any, last: PastRun | None, said: list[str]) -> None:
    assert list(run_lines(stack, hosts(), last)) == said


def test_leftovers_come_with_the_command_that_cleans_up(stack: Any) -> None:
    found = hosts(**{"app-1": {"partial": (OLD,)}})
    assert list(run_lines(stack, found, past("interrupted", what="phase2")))[1:] == [
        f"app-1: has a part of release {OLD}",
        "The next `provision phase2 -i prod` cleans up and finishes",
    ]
    assert list(run_lines(stack, found, None))[-1] == "The next `provision deploy -i prod` cleans up and finishes"


def test_nothing_is_called_left_while_a_run_is_at_work(stack: Any) -> None:
    holder = Holder("bob@desk", "deploy 8", datetime(2026, 11, 26, 14, 3, 5, tzinfo=UTC), 1)
    found = hosts(**{"app-1": {"partial": (OLD,), "holder": holder}})
    assert len(list(run_lines(stack, found, past("ok")))) == 1
