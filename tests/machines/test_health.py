"""Instances and hosts that fail under load: what it costs, and that all is as before when they are back."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from roadbed.deploys.health import INSTANCES, PROGRAM, STATE, TABLE, UNIT, UNIT_FILE, HealthSettings
from roadbed.machines import nspawn
from roadbed.machines.model import MachineSpec

from .conftest import Stack, spec
from .load import Load, failures, table
from .tiny import DOMAIN, tiny_stack

WEB, FIRST, SECOND = "he-web", "he-1", "he-2"
ROUTES = Path(__file__).with_name("projects") / "orders" / "app"
SCRIPT = Path(__file__).with_name("data_tier.py")
FILES = (INSTANCES, TABLE, UNIT_FILE, PROGRAM)
"""In the order of ls."""
SETTINGS = HealthSettings.model_validate({})
QUIET, OUT, AFTER = 5.0, 15.0, 5.0
"""Seconds of load before a fault, while it lasts, and after it."""
SPARE = 2.0
"""Seconds that a busy test computer may be late."""
SLOW = 3.0
"""Longest answer, in seconds, once an instance is put aside. Waiting for one that hangs takes 4 to 6."""
NOT_REPEATABLE = {"POST", "POST h2", "stream"}
"""What must fail when it is lost on its way: it was sent, or its answer has begun."""
IN_FLIGHT = 12
"""Most such requests: those of 2 s of streams and of 1 s of POSTs, and those sent to a host before it is missed."""


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A web host, which has the data tier too, and two app hosts with two instances each."""
    specs = [spec(WEB, 50, "bookworm"), spec(FIRST, 51, "trixie"), spec(SECOND, 52, "bookworm")]
    booted(specs)
    stack = tiny_stack(tmp_path_factory.mktemp("health"), specs, app={"replicas": 2})
    shutil.copytree(ROUTES, stack.folder / "tiny/app", dirs_exist_ok=True)
    for name, roles in {WEB: ["web", "cache", "pooler", "database"], FIRST: ["app"], SECOND: ["app"]}.items():
        stack.data["hosts"][name]["roles"] = roles
    stack.write()
    stack.provision("phase2", "--yes")
    return stack


def slot(stack: Stack) -> str:
    """The slot that gets the requests."""
    return stack.ssh(WEB, "ls -d /var/lib/roadbed/tiny/route/active.*").split()[-1][-1]


def unit(stack: Stack, number: int) -> str:
    """An instance of the active slot."""
    return f"tiny@{slot(stack)}-{number}.service"


def server(stack: Stack, host: str, number: int) -> str:
    """The same instance as nginx calls it."""
    return f"{stack.address(host)}:{5000 + 20 * 'abc'.index(slot(stack)) + number}"


def signal(stack: Stack, host: str, name: str, number: int) -> int:
    """Sends a signal to the process of an instance, and to no other; returns its process id."""
    found = int(stack.ssh(host, f"systemctl show -p MainPID --value {unit(stack, number)}"))
    stack.ssh(host, f"kill -{name} {found}")
    return found


def aside(stack: Stack) -> set[str]:
    """Servers that get no requests at the moment."""
    state = json.loads(stack.ssh(WEB, f"cat {STATE}"))
    return {each["server"] for each in state["instances"] if not each["used"]}


def refused(stack: Stack) -> int:
    """How many servers the kernel refuses to nginx."""
    return stack.ssh(WEB, "nft list set inet roadbed_health out4").count(" expires ")


def wait(good: Callable[[], bool], seconds: float) -> float:
    """Waits for ``good``; returns the moment (``time.monotonic``) at which it was so."""
    end = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)
    return time.monotonic()


def reached(stack: Stack, name: str) -> int:
    """Requests of the last seconds that ended at a server."""
    log = stack.ssh(WEB, "tail -n 60 /var/log/nginx/access.log")
    return len(re.findall(rf'"upstream":"(?:[^"]*, )?{re.escape(name)}"', log))


def orders(stack: Stack, load: Load) -> list[str]:
    """The POSTs that were carried out, on both hosts."""
    command = f"journalctl --quiet --output cat --unit 'tiny@*' | grep -o '^order {load.name}-.*' || true"
    return [line.split()[1] for host in (FIRST, SECOND) for line in stack.ssh(host, command).splitlines()]


@contextmanager
def load(stack: Stack) -> Iterator[Load]:
    """Load for a while before, during and after what happens inside."""
    with Load(stack.address(WEB), DOMAIN) as running:
        time.sleep(QUIET)
        yield running
        time.sleep(AFTER)


def judge(stack: Stack, load: Load, began: float, out: float) -> None:
    """Lost is only what was on its way, nothing waits once the instance is put aside, and no POST was repeated."""
    print(table(load.samples), *failures(load.samples, began), sep="\n")
    failed = [sample for sample in load.samples if sample.error]
    assert {sample.kind for sample in failed} <= NOT_REPEATABLE
    assert [sample for sample in failed if not began - 3 < sample.began < out] == []
    assert len(failed) <= IN_FLIGHT
    after = load.since(out)
    assert len(after) > 100
    assert max(sample.seconds for sample in after) < SLOW
    done = orders(stack, load)
    assert len(done) == len(set(done)), "a POST was carried out twice"
    assert {sample.order for sample in load.samples if sample.order and not sample.error} <= set(done)


def test_checks_hold(stack: Stack) -> None:
    for component in ("health", "app"):
        done = stack.provision("verify", "phase2", "--only", component, "--json")
        assert len(json.loads(done.stdout)["checks"]) >= 7


def test_killed_instance(stack: Stack) -> None:
    """Passed over from the first moment, since its port refuses; back when systemd has started it anew."""
    with load(stack) as running:
        began = time.monotonic()
        signal(stack, FIRST, "KILL", 0)
        time.sleep(OUT)
        assert aside(stack) == set()
        assert reached(stack, server(stack, FIRST, 0)) > 0
    judge(stack, running, began, began + 3)


def test_frozen_instance(stack: Stack) -> None:
    """Put aside after two misses; what waits there is tried elsewhere; back with its first answer."""
    with load(stack) as running:
        began, name = time.monotonic(), server(stack, FIRST, 0)
        signal(stack, FIRST, "STOP", 0)
        out = wait(lambda: aside(stack) == {name}, SETTINGS.longest + SPARE)
        assert refused(stack) == 1
        time.sleep(OUT)
        assert reached(stack, name) == 0
        signal(stack, FIRST, "CONT", 0)
        wait(lambda: aside(stack) == set(), SETTINGS.interval + SETTINGS.timeout + SPARE)
        time.sleep(AFTER)
        assert reached(stack, name) > 0
    judge(stack, running, began, out)


def test_unplugged_host(stack: Stack) -> None:
    """All its instances are put aside, and come back when it does."""
    with load(stack) as running:
        began, names = time.monotonic(), {server(stack, SECOND, number) for number in (0, 1)}
        nspawn.cut(SECOND)
        try:
            out = wait(lambda: aside(stack) == names, SETTINGS.longest + SPARE)
            time.sleep(OUT)
        finally:
            nspawn.heal(SECOND)
        wait(lambda: aside(stack) == set(), 2 * (SETTINGS.interval + SETTINGS.timeout) + SPARE)
        time.sleep(AFTER)
        assert all(reached(stack, name) > 0 for name in names)
    judge(stack, running, began, out)


@pytest.mark.mutation
def test_without_it_requests_wait(stack: Stack) -> None:
    """What the two before prove would not be so without the service."""
    stack.ssh(WEB, f"systemctl stop {UNIT}")
    try:
        with load(stack) as running:
            began = time.monotonic()
            signal(stack, FIRST, "STOP", 0)
            time.sleep(SETTINGS.longest + 2 * SPARE)
            signal(stack, FIRST, "CONT", 0)
        assert max(sample.seconds for sample in running.since(began)) > SETTINGS.longest + SPARE
    finally:
        stack.ssh(WEB, f"systemctl start {UNIT}")


def test_never_all(stack: Stack) -> None:
    """If no instance answers, none is put aside."""
    everywhere = [(host, number) for host in (FIRST, SECOND) for number in (0, 1)]
    for host, number in everywhere:
        signal(stack, host, "STOP", number)
    try:
        journal = f"journalctl --quiet --output cat --unit {UNIT} --lines 1"
        wait(lambda: stack.ssh(WEB, journal).startswith("too many of "), SETTINGS.longest + SPARE)
        assert aside(stack) == set()
        assert refused(stack) == 0
    finally:
        for host, number in everywhere:
            signal(stack, host, "CONT", number)
    assert "ready" in stack.ssh(WEB, f"curl -sS -m 10 http://{server(stack, FIRST, 0)}/.roadbed/health")


def test_refusals_end_with_the_service(stack: Stack) -> None:
    """When it hangs, after some seconds; when it stops, at once. Started again, it looks anew."""
    name = server(stack, FIRST, 1)
    signal(stack, FIRST, "STOP", 1)
    try:
        wait(lambda: aside(stack) == {name}, SETTINGS.longest + SPARE)
        stack.ssh(WEB, f"systemctl kill --signal=STOP {UNIT}")
        wait(lambda: refused(stack) == 0, SETTINGS.hold + SPARE)
        stack.ssh(WEB, f"systemctl kill --signal=CONT {UNIT}")
        wait(lambda: refused(stack) == 1, SETTINGS.longest + SPARE)
        stack.ssh(WEB, f"systemctl stop {UNIT}")
        assert "roadbed_health" not in stack.ssh(WEB, "nft list tables")
        stack.ssh(WEB, f"systemctl start {UNIT}")
        wait(lambda: refused(stack) == 1, SETTINGS.longest + SPARE)
    finally:
        signal(stack, FIRST, "CONT", 1)
    wait(lambda: aside(stack) == set(), SETTINGS.longest)


def test_its_table_is_made_again(stack: Stack) -> None:
    """Somebody who loads rules for the whole host, such as Debian's nftables.service, removes the table."""
    name = server(stack, SECOND, 1)
    signal(stack, SECOND, "STOP", 1)
    try:
        wait(lambda: aside(stack) == {name}, SETTINGS.longest + SPARE)
        stack.ssh(WEB, "nft delete table inet roadbed_health")
        wait(lambda: "roadbed_health" in stack.ssh(WEB, "nft list tables") and refused(stack) == 1, SETTINGS.longest)
    finally:
        signal(stack, SECOND, "CONT", 1)
    wait(lambda: aside(stack) == set(), SETTINGS.longest)


def test_switched_off_and_on(stack: Stack) -> None:
    """Switched off, nothing of it is left; on again, it works as before."""
    for enabled in (False, True):
        stack.write(health={"enabled": enabled})
        words = [sys.executable, str(SCRIPT), str(stack.path), "health"]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=stack.environment, timeout=300)
        assert json.loads(done.stdout)["failed"] == {}
        assert ("roadbed_health" in stack.ssh(WEB, "nft list tables")) == enabled
        left = stack.ssh(WEB, f"ls {' '.join(FILES)} 2>/dev/null; systemctl is-active {UNIT}; true").split()
        assert left == [*(FILES if enabled else ()), "active" if enabled else "inactive"]
    wait(lambda: aside(stack) == set(), SETTINGS.longest)


@pytest.mark.parametrize("host", [FIRST, SECOND])
def test_instance_that_stays_frozen_is_started_anew(stack: Stack, host: str) -> None:
    """By systemd's watchdog, here with a shorter time than the minute it has."""
    name, folder = unit(stack, 1), f"/run/systemd/system/{unit(stack, 1)}.d"
    shorter = f"mkdir -p {folder} && printf '[Service]\\nWatchdogSec=6\\n' > {folder}/test.conf"
    stack.ssh(host, f"{shorter} && systemctl daemon-reload && systemctl restart {name}")
    try:
        time.sleep(8)
        before = signal(stack, host, "STOP", 1)
        shown = f"systemctl show -p MainPID --value {name}; systemctl is-active {name}"
        wait(lambda: stack.ssh(host, shown, check=False).split()[1:] == ["active"] and before != _pid(stack, host), 20)
        assert "Watchdog timeout" in stack.ssh(host, f"journalctl --quiet --unit {name} --lines 40")
    finally:
        stack.ssh(host, f"rm -r {folder}; systemctl daemon-reload; systemctl restart {name}")
    wait(lambda: aside(stack) == set(), SETTINGS.longest)


def _pid(stack: Stack, host: str) -> int:
    return int(stack.ssh(host, f"systemctl show -p MainPID --value {unit(stack, 1)}"))


def database(stack: Stack) -> dict[str, Any]:
    """What an instance says of its database; it is ready whatever it says."""
    answer = json.loads(stack.ssh(WEB, f"curl -sS -m 5 http://{server(stack, FIRST, 0)}/.roadbed/health"))
    assert answer["status"] == "ready"
    found: dict[str, Any] = answer["checks"]["database"]
    return found


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("pgbouncer", "connection refused"),
        ("postgresql@*", r"(no answer within 3 s|server login has been failing, .*)"),
    ],
)
def test_database_that_is_away_is_a_reason(stack: Stack, service: str, said: str) -> None:
    """Its pooler or the server itself: the instances say so and stay in service."""
    wait(lambda: database(stack) == {"status": "ok"}, 20)
    stack.ssh(WEB, f"systemctl stop '{service}'")
    try:
        reason = re.compile(rf"{stack.address(WEB)}:6432: {said}")
        wait(lambda: bool(reason.fullmatch(database(stack).get("reason", ""))), 30)
        assert aside(stack) == set()
    finally:
        stack.ssh(WEB, f"systemctl start {service.replace('@*', '')} pgbouncer")
    wait(lambda: database(stack) == {"status": "ok"}, 40)


def test_wrong_password_is_told_by_the_rollout(stack: Stack) -> None:
    """A warning while the app works without; a reason in the error when the app fails."""
    wrong = f"postgresql://tiny:not-this-one@{stack.address(WEB)}:6432/tiny"
    app = stack.data["app"]
    try:
        stack.write(app={"env": {"DATABASE_URL": wrong}})
        done = stack.provision("phase2", "--yes", "--json")
        warnings = [item["detail"] for item in json.loads(done.stdout)["operations"] if "warning" in item["detail"]]
        assert len(warnings) == 2, done.stdout
        told = r"(?m)^warning: database: \S+:6432: .*authentication failed"
        assert [text for text in warnings if not re.search(told, text)] == []
        stack.write(app={"env": {"DATABASE_URL": wrong, "TRY": "2"}, "health": "/broken"})
        failed = stack.provision("phase2", "--yes", code=4)
        assert re.search(r"It complains about:\n +database: .*authentication failed", failed.stderr), failed.stderr
        assert "not-this-one" not in done.stdout + done.stderr + failed.stdout + failed.stderr
    finally:
        stack.data["app"] = {**app, "health": "/", "env": {}}
        stack.write()
        stack.provision("phase2", "--yes")
    wait(lambda: database(stack) == {"status": "ok"}, 20)
