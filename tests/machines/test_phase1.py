"""`provision phase1` and `provision verify` on a converged pair: what a second run, a plan and a repair do."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx

from roadbed.engine.answers import list_path
from roadbed.engine.batch import answer_all
from roadbed.engine.fleet import Fleet
from roadbed.engine.load import load
from roadbed.engine.result import Result
from roadbed.engine.session import Session
from roadbed.machines.model import MachineSpec

from .conftest import BOOT, NO_BOOT, Stack, make_stack, spec
from .visit import Site

PAIR = ("pair-12", "pair-13")
PHASE1 = ("base", "firewall", "node", "app", "release", "nginx")
UNITS = "systemctl show '*.service' '*.target' '*.socket' -p Id,ActiveState,MainPID,ActiveEnterTimestampMonotonic"
COMES_AND_GOES = ("user@", "user-runtime-dir@", "ssh@", "systemd-hostnamed", "systemd-timedated", "systemd-localed")
"""Units that a login starts, or that systemd starts when somebody asks over D-Bus."""
WORKERS = 'pgrep -P "$(cat /run/nginx.pid)"'
TREE = "find /etc /srv /usr/local /var/lib/roadbed /root -xdev -printf '%p %i %m %U:%G %s %C@\\n' | sort"
CHANGED_BODY = {"Write /etc/nginx/nginx.conf", "Reload nginx on new settings"}


def changed(result: dict[str, Any], host: str | None = None, but: str = "") -> list[str]:
    """Names of the operations that changed something, or would, of all components ``but`` one."""
    found = [item for item in result["operations"] if item["status"] == "changed" and item["component"] != but]
    return [item["name"] for item in found if host in (None, item["host"])]


def units(stack: Stack, name: str) -> dict[str, str]:
    """Active unit -> its process and the moment it started."""
    found = {}
    for block in stack.ssh(name, UNITS).strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines())
        if unit["ActiveState"] == "active" and not unit["Id"].startswith(COMES_AND_GOES):
            found[unit["Id"]] = f"{unit.get('MainPID')} since {unit['ActiveEnterTimestampMonotonic']}"
    assert len(found) > 30
    return found


def look(stack: Stack, name: str) -> tuple[dict[str, str], list[str], list[str]]:
    """Units, nginx workers and files of a machine, as they are now."""
    return units(stack, name), stack.ssh(name, WORKERS).split(), stack.ssh(name, TREE).splitlines()


@contextmanager
def untouched(stack: Stack, names: tuple[str, ...] = PAIR) -> Iterator[None]:
    """Inside, no unit of the machines starts or stops, no nginx worker is replaced, no file is written."""
    before = {name: look(stack, name) for name in names}
    yield
    assert {name: look(stack, name) for name in names} == before


def test_first_run_changed_the_machines_and_nothing_failed(pair: Stack) -> None:
    first = pair.first
    assert first["phase"] == "phase1"
    assert first["failed"] == {}
    assert [step["name"] for step in first["steps"]] == [*PHASE1, "phase"]
    for name in PAIR:
        assert first["hosts"][name]["changed"] > 30
        assert first["hosts"][name]["failed"] == first["hosts"][name]["skipped"] == 0


def test_second_run_changes_nothing_and_restarts_nothing(pair: Stack) -> None:
    with untouched(pair):
        result = pair.converge()
    assert changed(result) == []
    assert result["hosts"]["pair-13"]["unchanged"] > 40


def test_what_is_asked_together_is_what_each_question_gets_alone(pair: Stack) -> None:
    """The commands of Debian 12 and 13 print for many what they print for each (engine/batch.py)."""
    inventory = load(str(pair.path))
    with Fleet(inventory) as fleet:
        fleet.connect()
        for name in PAIR:
            session = fleet.session(name)
            questions = json.loads(list_path(inventory.path, name).read_text())
            alone = dict(zip(questions, session.run_words(questions), strict=True))
            trips: list[int] = []

            def ask(texts: list[str], session: Session = session, trips: list[int] = trips) -> list[Result]:
                trips.append(len(texts))
                return session.run_words(texts)

            together = answer_all(ask, questions)
            volatile = ("now=", "free ")  # the clock, and the free space of a disk
            said = {
                text: (result.rc, result.out)
                for text, result in alone.items()
                if not any(word in result.out for word in volatile)
            }
            assert len(said) > 50
            assert {text: (together[text].rc, together[text].out) for text in said} == said
            assert len(trips) == 1, "a batch did not fit"
            assert trips[0] < len(questions) / 2


def test_root_converges_to_the_same(pair: Stack) -> None:
    pair.write(ssh={"user": "root"})
    try:
        with untouched(pair):
            assert changed(pair.converge()) == []
    finally:
        pair.write(ssh={"user": "admin"})


def test_dry_run_on_converged_machines_predicts_nothing(pair: Stack) -> None:
    with untouched(pair):
        result = pair.converge("--dry-run")
    assert changed(result) == []
    assert sum(host["unchanged"] for host in result["hosts"].values()) > 80


def test_dry_run_predicts_what_the_run_then_does(pair: Stack) -> None:
    pair.write(nginx={"body": "20m"})
    try:
        with untouched(pair):
            predicted = pair.converge("--dry-run")
        done = pair.converge()
    finally:
        pair.write(nginx={"body": "10m"})
    for name in PAIR:
        assert set(changed(predicted, name)) == set(changed(done, name)) == CHANGED_BODY
        assert "client_max_body_size 20m;" in pair.ssh(name, "cat /etc/nginx/nginx.conf")
    with untouched(pair, PAIR[1:]):
        limited = pair.converge("--limit", "pair-12")
    assert set(changed(limited)) == CHANGED_BODY
    assert list(limited["hosts"]) == ["pair-12"]
    assert set(changed(pair.converge(), "pair-13")) == CHANGED_BODY


def test_dry_run_on_a_bare_machine_leaves_it_bare(
    booted: Callable[[list[MachineSpec]], None], pair: Stack, tmp_path: Path
) -> None:
    """It predicts the operations of a first run, although nothing that they ask for is installed yet."""
    booted([spec("bare", 114)])
    bare = make_stack(tmp_path, [spec("bare", 114)])
    before = bare.ssh("bare", TREE)
    predicted = bare.converge("--dry-run")
    assert bare.ssh("bare", TREE) == before
    assert bare.ssh("bare", "ls -A /var/lib/roadbed /srv 2>/dev/null; true").split() == ["/srv:"]
    did = {item["name"] for item in pair.first["operations"] if item["component"] not in ("release", "base")}
    missed = did - {item["name"] for item in predicted["operations"]}
    assert missed == set()
    assert len(changed(predicted)) > 40


def test_limit_to_an_unknown_host_is_refused(pair: Stack) -> None:
    done = pair.provision("phase1", "--limit", "pair-12,nobody", code=2)
    assert "--limit: there is no host nobody. Hosts: pair-12, pair-13" in done.stderr


def test_people_read_stderr_and_programs_read_stdout(pair: Stack) -> None:
    plain = pair.provision("phase1", "--verbose")
    assert plain.stdout == ""
    assert "pair-12: 0 changed" in plain.stderr
    assert "https://shop.example.test/" in plain.stderr
    result = pair.provision("phase1", "--json")
    assert json.loads(result.stdout)["hosts"]["pair-12"]["changed"] == 0


def test_verify_holds_and_writes_what_it_found(pair: Stack, tmp_path: Path) -> None:
    done = pair.provision("verify", "phase1", "--json", "--junit", str(tmp_path / "verify.xml"))
    checks = json.loads(done.stdout)["checks"]
    print(f"\n{len(checks)} checks")
    assert len(checks) > 80
    assert all(check["passed"] and check["claim"] for check in checks)
    assert {(check["host"], check["component"]) for check in checks} >= {
        (name, component) for name in PAIR for component in ("base", "firewall", "node", "app", "nginx", "streaming")
    }
    suite = ElementTree.parse(tmp_path / "verify.xml").getroot().find("testsuite")  # noqa: S314
    assert suite is not None
    assert (int(suite.attrib["tests"]), suite.attrib["failures"], suite.attrib["errors"]) == (len(checks), "0", "0")


def test_verify_names_what_was_spoilt_and_the_next_run_repairs_it(pair: Stack) -> None:
    pair.ssh("pair-12", "systemctl stop nginx")
    pair.ssh("pair-13", "chmod 644 /etc/roadbed/storefront/env; nft delete table inet roadbed")
    done = pair.provision("verify", "phase1", "--json", code=5)
    bad = [check for check in json.loads(done.stdout)["checks"] if not check["passed"]]
    found = {(check["host"], check["component"]) for check in bad}
    assert {("pair-12", "nginx"), ("pair-13", "app"), ("pair-13", "firewall")} <= found
    assert not {("pair-13", "nginx"), ("pair-12", "app"), ("pair-12", "firewall")} & found
    for check in bad:
        assert f"! {check['host']}: {check['component']}: {check['claim']}" in done.stderr
        assert check["problem"]
    repaired = pair.converge()
    # A written environment is a reason to start the instances anew, on all hosts at once: component release.
    assert changed(repaired, "pair-12", but="release") == ["Start nginx now and at boot"]
    assert changed(repaired, "pair-13", but="release") == [
        "Close every port that is not declared",
        "Write the environment of the instances",
    ]
    assert changed(pair.converge()) == []


def answers(address: str) -> bool:
    """Whether the app answers through nginx."""
    try:
        with Site(address) as site:
            return site.get("/api/info").status_code == 200
    except httpx.TransportError:
        return False


def test_machine_comes_back_by_itself_after_a_reboot(pair: Stack) -> None:
    before = pair.ssh("pair-13", BOOT)
    pair.ssh("pair-13", "systemctl reboot", check=False)
    began = time.monotonic()
    while time.monotonic() - began < 90:
        if pair.ssh("pair-13", BOOT, check=False) not in (*NO_BOOT, before) and answers(pair.address("pair-13")):
            break
        time.sleep(0.3)
    print(f"\nreboot to the first page: {time.monotonic() - began:.1f} s")
    assert pair.ssh("pair-13", BOOT) != before
    assert pair.ssh("pair-13", "systemctl is-system-running --wait", check=False).strip() == "running"
    with Site(pair.address("pair-13"), http2=True) as site:
        assert re.search("<h1>", site.get("/").text)
    assert changed(pair.converge()) == []
