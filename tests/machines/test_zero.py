"""Nothing that Roadbed does to a serving fleet costs a request: deploys, rollbacks, phases, updates, sick releases.

The load (traffic.py) comes from the control machine, at a constant rate of arrival: pages, streams of 5 s, Server
Actions of 2 s, uploads, files, over kept and new connections of HTTP/1.1 and over HTTP/2. The short form is part of
`make test`; the long one is `make test-rollout`.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from roadbed.machines.model import MachineSpec

from .conftest import BOOT, Grown, Stack, make_stack, spec
from .storefronts import edition
from .traffic import Traffic
from .visit import DOMAIN

ZERO = {
    "zero-web": (191, "bookworm", ["web"]),
    "zero-app1": (192, "trixie", ["app"]),
    "zero-app2": (193, "bookworm", ["app"]),
    "zero-data": (194, "trixie", ["cache", "pooler", "database"]),
}
"""Name -> number, Debian release, roles."""
APPS = ("zero-app1", "zero-app2")
SICK = """
export async function GET() {
  console.error("cannot reach the warehouse");
  return new Response("the warehouse is closed", { status: 500 });
}
"""
DEPLOYS, ROLLBACKS, SICK_DEPLOYS = 10, 5, 5
WORKERS = "systemctl show -p MainPID -p ActiveEnterTimestamp nginx; pgrep -f '^nginx: worker' | sort"
"""The same before and after if nginx was neither restarted nor reloaded."""


@pytest.fixture(scope="module")
def zero(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A fleet of its own at phase3: a web host, two app hosts with two instances each, a data host."""
    specs = [spec(name, number, suite) for name, (number, suite, _) in ZERO.items()]
    booted(specs)
    stack = make_stack(tmp_path_factory.mktemp("zero"), specs)
    for name, (_, _, roles) in ZERO.items():
        stack.data["hosts"][name]["roles"] = roles
    stack.write(nginx={"limits": {"requests": 1000, "burst": 1000}}, redis={"cache_memory": 128, "durable_memory": 64})
    stack.converge(phase="phase3")
    return stack


def variant(stack: Stack, name: str, health: str = "") -> Path:
    """A copy of the sample app with a page that differs, or ``health`` as its health route; it is built already."""
    folder, there = edition(stack.folder, name, health), stack.data["app"]["source"]
    stack.write(app={"source": str(folder)})
    stack.provision("build", "--output", str(stack.folder / f"{name}.tar.gz"))
    stack.write(app={"source": there})
    return folder


def switched(result: dict[str, Any]) -> bool:
    """Whether a run has switched the traffic to other instances."""
    return any(item["name"].startswith("Switch traffic to slot") for item in result["operations"])


def deploy(stack: Stack, *words: str) -> str:
    """`provision deploy`, which must switch to another release; returns its id."""
    done = json.loads(stack.provision("deploy", "--json", *words).stdout)
    assert switched(done), done
    return str(done["release"])


def rollback(stack: Stack) -> str:
    """`provision rollback`; returns the id of the release that is back."""
    return str(json.loads(stack.provision("rollback", "--json").stdout)["release"])


def judge(stack: Stack, traffic: Traffic, apps: Iterable[str]) -> None:
    """Nothing failed, nothing was cut, no action was lost or carried out twice."""
    command = f"journalctl --quiet --output cat --unit 'storefront@*' | grep -o '^order {traffic.run}-.*'"
    orders = traffic.orders("\n".join(stack.ssh(host, command) for host in apps))
    print("", traffic.report(), orders, *traffic.failures[:40], sep="\n")
    (stack.folder / "traffic.json").write_text(json.dumps(traffic.as_json()))
    assert traffic.failures == []
    assert (traffic.unanswered, traffic.goaways) == (0, 0)
    assert (orders.lost, orders.doubled) == (set(), set())
    assert orders.sent == orders.answered == set(orders.done)


def test_deploys_and_rollbacks_lose_no_request(grown: Grown, tmp_path: Path) -> None:
    """The short form, on the shared fleet; at its end the release of its beginning serves."""
    stack = grown.stack
    other, web, health = variant(stack, "other"), "fleet-web", stack.data["app"]["health"]
    workers = stack.ssh(web, WORKERS)
    with Traffic(stack.address(web), DOMAIN, tmp_path) as traffic:
        with traffic.during("a release that fails its gate"):
            try:
                stack.write(app={"health": "/nowhere"})
                assert "goes on serving" in stack.provision("deploy", "--source", str(other), code=4).stderr
            finally:
                stack.write(app={"health": health})
        with traffic.during("2 deploys, 2 rollbacks"):
            second = deploy(stack, "--source", str(other))
            first = rollback(stack)
            assert deploy(stack, "--release", second) == second
            assert rollback(stack) == first
    assert stack.ssh(web, WORKERS) == workers
    judge(stack, traffic, ("fleet-app1", "fleet-app2"))
    assert {first, second} == set(traffic.releases)
    assert len(traffic.requests) > 2000
    assert [item for item in stack.converge(phase="phase3")["operations"] if item["status"] == "changed"] == []


@pytest.mark.rollout
def test_nothing_costs_a_request(zero: Stack, tmp_path: Path) -> None:
    """Ten deploys, five rollbacks, a phase down and up, updates with reboots, five sick releases."""
    editions = [variant(zero, "red"), variant(zero, "blue")]
    sick = variant(zero, "sick", SICK)
    workers, boots = zero.ssh("zero-web", WORKERS), {host: zero.ssh(host, BOOT) for host in APPS}
    with Traffic(zero.address("zero-web"), DOMAIN, tmp_path) as traffic:
        with traffic.during(f"{DEPLOYS} deploys"):
            live = [deploy(zero, "--source", str(editions[number % 2])) for number in range(DEPLOYS)]
            assert len(set(live)) == 2
        with traffic.during(f"{ROLLBACKS} rollbacks"):
            back = [rollback(zero) for _ in range(ROLLBACKS)]
            assert back == [live[number % 2] for number in range(ROLLBACKS)]
        with traffic.during("phase3 to phase1 and back"):
            zero.write(app={"source": str(editions[0])})
            assert switched(zero.converge("--allow-downgrade", phase="phase1"))
            assert switched(zero.converge(phase="phase3"))
        with traffic.during("patch of both app hosts"):
            words = [word for host in APPS for word in ("--host", host)]
            done = json.loads(zero.provision("patch", *words, "--reboot", "always", "--yes", "--json").stdout)
            assert [(one["host"], one["rebooted"]) for one in done["patched"]] == [(host, True) for host in APPS]
        with traffic.during(f"{SICK_DEPLOYS} sick releases"):
            for _ in range(SICK_DEPLOYS):
                failed = zero.provision("deploy", "--source", str(sick), code=4)
                assert "the warehouse is closed" in failed.stderr
    assert zero.ssh("zero-web", WORKERS) == workers, "nginx was reloaded"
    assert [host for host in APPS if zero.ssh(host, BOOT) == boots[host]] == []
    judge(zero, traffic, APPS)
    assert set(live) <= set(traffic.releases)
    assert len(traffic.requests) > 20_000
