"""A build on a host: what it may take, and the unit it runs in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from roadbed.deploys.build import budget

Make = Callable[..., Any]
APP = {"replicas": 2, "memory": 512}


def at(phase: str, ctx: Any, **facts: Any) -> Any:
    """The context of a host that was brought to ``phase`` before; empty: of a bare one."""
    return replace(ctx, facts={name: replace(fact, phase=phase, **facts) for name, fact in ctx.facts.items()})


def test_the_instances_that_serve_keep_their_memory(make_context: Make) -> None:
    found = budget(at("phase1", make_context(app=APP, memory_mb=4096)), 3000)
    assert (found.memory_mb, found.cpu_percent) == (4096 - 384 - 2 * 512, 100)
    assert found.sum == (
        "4096 MiB less 384 MiB for the system, 1024 MiB for the instances (2 x 512) leave 2688 MiB: "
        "the build may take 2688 MiB"
    )


def test_no_more_than_what_is_free(make_context: Make) -> None:
    found = budget(at("phase1", make_context(app=APP, memory_mb=4096)), 2000)
    assert found.memory_mb == 2000 - 128
    assert "leave 2688 MiB, of which 2000 MiB less 128 MiB to spare are free now: the build may take 1872" in found.sum


def test_what_redis_and_postgres_may_take_is_theirs_from_phase2_on(make_context: Make) -> None:
    hosts = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app", "cache", "database", "pooler"]}}
    ctx = make_context(app=APP, memory_mb=8192, hosts=hosts)
    assert budget(at("phase1", ctx), 8000).memory_mb == 8192 - 384 - 1024
    found = budget(at("phase2", ctx), 8000)
    assert found.memory_mb == 8192 - 384 - 1024 - 7808 // 7 - 7808 * 2 // 7
    assert "for Redis" in found.sum
    assert "for PostgreSQL" in found.sum
    own = make_context(app=APP, memory_mb=8192, hosts=hosts, redis={"external": True}, postgres={"external": True})
    assert budget(at("phase2", own), 8000).memory_mb == 8192 - 384 - 1024


def test_a_host_that_only_builds_and_a_bare_one_give_all_they_have(make_context: Make) -> None:
    bare = budget(at("", make_context(app=APP, memory_mb=2048)), 1900)
    assert (bare.memory_mb, bare.cpu_percent) == (2048 - 384, 200)
    hosts = {
        "web-1": {"address": "192.0.2.10", "roles": ["web", "app"]},
        "build-1": {"address": "192.0.2.11"},
    }
    ctx = make_context(name="build-1", app=APP, memory_mb=2048, hosts=hosts, build={"host": "build-1"})
    only = budget(at("phase1", ctx), 1900)
    assert (only.memory_mb, only.cpu_percent) == (2048 - 384, 200)


@pytest.mark.parametrize(("cpus", "percent"), [(1, 50), (2, 100), (8, 700)])
def test_a_core_is_left_to_what_serves(make_context: Make, cpus: int, percent: int) -> None:
    assert budget(at("phase1", make_context(app=APP, memory_mb=4096, cpus=cpus)), 4000).cpu_percent == percent


@pytest.mark.parametrize(
    ("memory", "asked", "free", "sum_"),
    [
        (2440, "auto", 400, r"leave 1032 MiB, of which 400 MiB less 128 MiB to spare are free now, and a build needs"),
        (
            2432,
            "auto",
            1000,
            r"2432 MiB less 384 .* leave 1024 MiB, of which 1000 MiB .*, and a build needs 1024 MiB. Use a host with more",
        ),
        (4096, "auto", 1000, r"leave 2688 MiB, of which 1000 MiB less 128 .* free now, and a build needs 1024 MiB"),
        (4096, 3000, 4000, r"leave 2688 MiB, and build/memory is 3000 MiB. Use a host .*: remove build/host"),
        (4096, 512, 4000, r"leave 2688 MiB, and a build needs 1024 MiB"),
    ],
)
def test_too_little_is_refused_with_the_sum(make_context: Make, memory: int, asked: Any, free: int, sum_: str) -> None:
    ctx = make_context(app=APP, memory_mb=memory, build={"memory": asked})
    with pytest.raises(ValueError, match=sum_):
        budget(at("phase1", ctx), free)


def test_build_host_is_a_host_of_the_inventory(make_context: Make) -> None:
    with pytest.raises(ValidationError, match=r"build/host: there is no host build-1. Hosts: web-1"):
        make_context(build={"host": "build-1"})


def test_only_the_host_that_builds_may_have_no_role(make_context: Make) -> None:
    hosts = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app"]}, "build-1": {"address": "192.0.2.11"}}
    with pytest.raises(ValidationError, match=r"hosts/build-1/roles: has no role"):
        make_context(hosts=hosts)
    assert make_context(hosts=hosts, build={"host": "build-1"}).inventory.build.host == "build-1"
