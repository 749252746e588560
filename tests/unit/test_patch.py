"""Patching: the order of hosts, who stands in, what is refused, and what a host says before."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roadbed.deploys.context import Context
from roadbed.deploys.nginx import DRAIN
from roadbed.deploys.render import render
from roadbed.engine.errors import OperationFailed, Refused
from roadbed.engine.load import load
from roadbed.releases.host_state import HostState
from roadbed.releases.patch_plan import Pending, parse, plan, refuse_downtime
from roadbed.releases.standins import askers_of, in_order, meanwhile, stand_ins

from .test_cli import GOOD, provision

Make = Callable[..., Any]
FLEET = {
    "data-1": ["cache", "pooler", "database"],
    "web-1": ["web"],
    "app-1": ["app"],
    "mon-1": ["monitor"],
    "app-2": ["app"],
}
RUNS = HostState(instances={"a-0": "active", "a-1": "active"})
CALM = Pending("boot", "6.1.0-40")
DUE = replace(CALM, packages=("linux-image-6.1.0-41-amd64",))


@pytest.fixture
def stack(make_context: Make) -> Callable[..., dict[str, Context]]:
    """The contexts of a stack: ``stack({"app-1": ["app"]}, "phase3")``."""

    def make(roles: dict[str, list[str]], phase: str = "phase3", **blocks: Any) -> dict[str, Context]:
        hosts = {name: {"address": f"192.0.2.{n}", "roles": roles[name]} for n, name in enumerate(roles, 1)}
        blocks = {"app": {"replicas": 2, "memory": 256, **blocks.pop("app", {})}, **blocks}
        one = make_context(name=next(iter(roles)), phase=phase, hosts=hosts, **blocks)
        return {name: replace(one, name=name) for name in hosts}

    return make


Stack = Callable[..., dict[str, Context]]


def test_hosts_that_others_stand_in_for_come_first_and_data_last(stack: Stack) -> None:
    contexts = stack(FLEET)
    assert in_order(contexts, list(FLEET)) == ["mon-1", "app-1", "app-2", "web-1", "data-1"]
    both = stack({"one": ["web", "app"], "two": ["app"], "db": ["database"], "pool": ["pooler"], "red": ["cache"]})
    assert in_order(both, list(both)) == ["two", "one", "pool", "red", "db"]


def test_app_host_of_a_fleet_is_stood_in_for(stack: Stack) -> None:
    contexts = stack(FLEET)
    assert (askers_of(contexts, "app-1"), stand_ins(contexts, "app-1")) == (["web-1"], ["app-2"])
    found = meanwhile(contexts, "app-1")
    assert (found.said, found.lost) == (("app: 4 - 2 = 2 instances serve, on app-2",), ())


@pytest.mark.parametrize(
    ("roles", "phase", "host", "lost"),
    [
        (FLEET, "phase3", "web-1", ["web: 1 - 1 = 0 web hosts: the site is away"]),
        (
            FLEET,
            "phase3",
            "data-1",
            [
                "cache: 1 - 1 = 0 cache hosts: each instance caches for itself, and sessions cannot be read",
                "pooler: app-1, app-2 use this PgBouncer and no other: 1 - 1 = 0 ways to the database",
                "database: 1 - 1 = 0 database hosts: what needs the database fails",
            ],
        ),
        (
            {"web-1": ["web"], "app-1": ["app"]},
            "phase3",
            "app-1",
            ["app: web-1 sends to app-1 alone: 2 - 2 = 0 instances"],
        ),
        (
            {"one": ["web", "app"]},
            "phase1",
            "one",
            ["web: 1 - 1 = 0 web hosts: the site is away", "app: one serves with its own instances: 2 - 2 = 0"],
        ),
        (FLEET, "phase3", "mon-1", []),
        ({"web-1": ["web"], "app-1": ["app"], "c": ["cache"]}, "phase1", "c", []),
    ],
)
def test_what_nobody_stands_in_for(
    stack: Stack, roles: dict[str, list[str]], phase: str, host: str, lost: list[str]
) -> None:
    assert list(meanwhile(stack(roles, phase), host).lost) == lost


def test_several_of_a_kind_stand_in_for_one_another(stack: Stack) -> None:
    group = {"c-1": ["cache"], "c-2": ["cache"], "c-3": ["cache"]}
    contexts = stack({"one": ["web", "app"], "two": ["web", "app"], **group})
    assert meanwhile(contexts, "one").lost == ()
    assert meanwhile(contexts, "one").said == (
        "web: 2 - 1 = 1 web hosts serve; who is still sent to one, by DNS or a balancer, finds nobody there",
        "app: 4 - 2 = 2 instances serve, on two",
    )
    assert meanwhile(contexts, "c-2").said == ("cache: 3 - 1 = 2 cache hosts; a master on c-2 moves within seconds",)


def test_up_to_phase2_a_host_serves_itself(stack: Stack) -> None:
    """No other host has the instances that its nginx uses, and no other nginx uses them."""
    contexts = stack({"one": ["web", "app"], "two": ["web", "app"]}, "phase1")
    assert (askers_of(contexts, "one"), stand_ins(contexts, "one")) == ([], [])


def test_services_of_others_are_not_lost(stack: Stack) -> None:
    contexts = stack(FLEET, redis={"external": True}, postgres={"external": True})
    assert [line.partition(":")[0] for line in meanwhile(contexts, "data-1").lost] == ["pooler"]


@pytest.mark.parametrize(
    ("host", "packages", "lost"),
    [
        ("web-1", ("tzdata", "vim-common"), []),
        ("web-1", ("libnginx-mod-http-brotli-filter", "nginx"), ["web"]),
        ("data-1", ("postgresql-17", "tzdata"), ["database"]),
        ("data-1", ("redis-server",), ["cache"]),
        ("app-1", ("tzdata",), []),
    ],
)
def test_without_a_reboot_only_what_restarts_counts(
    stack: Stack, host: str, packages: tuple[str, ...], lost: list[str]
) -> None:
    found = meanwhile(stack(FLEET), host, packages, reboot=False)
    assert [line.partition(":")[0] for line in found.lost] == lost


def test_what_a_host_says_is_understood() -> None:
    lines = [
        "boot 1-2",
        "kernel 6.1.0-40-amd64",
        "required",
        "package nginx",
        "package base-files",
        "package nginx",
        "",
    ]
    assert parse("one", lines) == Pending("1-2", "6.1.0-40-amd64", ("base-files", "nginx"), required=True)
    assert parse("one", ["boot 1", "kernel 6", "left", "busy"]) == Pending("1", "6", left=True, busy=True)
    with pytest.raises(OperationFailed, match="one: did not tell"):
        parse("one", ["kernel 6"])


@pytest.mark.parametrize(
    ("pending", "reboot", "expected"),
    [
        (CALM, "auto", "app-1: nothing to do"),
        (CALM, "always", "app-1: reboot"),
        (replace(CALM, required=True), "auto", "app-1: reboot"),
        (replace(CALM, required=True), "never", "app-1: nothing to do"),
        (replace(CALM, packages=("tzdata",)), "auto", "app-1: 1 package"),
        (DUE, "auto", "app-1: 1 package, reboot"),
        (replace(DUE, packages=("a", "b")), "always", "app-1: 2 packages, reboot"),
        (replace(CALM, left=True), "never", "app-1: goes on with what an earlier run began"),
    ],
)
def test_work_of_a_host(stack: Stack, pending: Pending, reboot: Any, expected: str) -> None:
    (work,) = plan(stack(FLEET), {"app-1": pending}, {"app-1": RUNS, "app-2": RUNS}, reboot)
    assert str(work) == expected
    assert work.needed == ("nothing to do" not in expected)
    assert work.askers == ("web-1",)


def test_a_host_does_not_leave_when_the_others_run_nothing(stack: Stack) -> None:
    states = {"app-1": RUNS, "app-2": HostState(instances={"a-0": "failed"})}
    with pytest.raises(OperationFailed, match="app-1: app-2 would have to stand in and runs no instance"):
        plan(stack(FLEET), {"app-1": DUE}, states, "auto")
    assert plan(stack(FLEET), {"app-2": DUE}, states, "auto")[0].needed


def test_downtime_is_refused_with_its_sums_and_the_way_out(stack: Stack) -> None:
    contexts = stack(FLEET)
    pending = {name: DUE if name in ("app-1", "web-1") else CALM for name in FLEET}
    works = plan(contexts, pending, {"app-1": RUNS, "app-2": RUNS}, "auto")
    with pytest.raises(Refused) as refused:
        refuse_downtime(works, accepted=False, inventory="prod")
    said = str(refused.value)
    assert said.startswith("web-1: web: 1 - 1 = 0 web hosts: the site is away\n")
    assert "provision patch -i prod --host app-1. " in said
    assert "--accept-downtime; or without reboots: --reboot never. Nothing was changed" in said
    refuse_downtime(works, accepted=True, inventory="prod")
    refuse_downtime([work for work in works if work.host != "web-1"], accepted=False, inventory="prod")


def test_nginx_keeps_no_connection_while_a_host_is_taken_out(make_context: Make) -> None:
    from roadbed.deploys.nginx import values

    text = render("nginx", "/etc/nginx/nginx.conf", ctx := make_context(), **values(ctx, ipv6=True))
    assert f"if (-f {DRAIN}) {{ set $roadbed_drain close; }}" in text
    assert '"" $roadbed_drain;' in text
    server = text[: text.index("set $roadbed_drain close;")].rpartition("server {")[2]
    assert "break;" not in server, "nginx would not get to the flag"
    assert text.count("proxy_set_header Connection $roadbed_connection;") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "two"], "--host: there is no host two. Hosts: one"),
        (["--reboot", "maybe"], "--reboot: there is no maybe. Say one of auto, always, never"),
    ],
)
def test_mistakes_are_told_before_any_host_is_asked(tmp_path: Path, words: list[str], said: str) -> None:
    file = tmp_path / "stack.yml"
    file.write_text(GOOD)
    assert load(str(file)).name == "stack"
    done = provision(tmp_path, "patch", "-i", str(file), *words)
    assert (done.returncode, done.stderr.strip()) == (2, said)
