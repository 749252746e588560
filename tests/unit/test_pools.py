"""The arithmetic of database connections, scram verifiers, and shares of memory."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from roadbed.deploys import memory
from roadbed.deploys.pools import ROOMY, Demand, solve
from roadbed.deploys.scram import verifier

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("instances", "pool", "most", "poolers", "pool_size", "clients"),
    [
        (1, 5, 100, 1, 10, 10),  # as many as the app can use
        (4, 5, 100, 1, 40, 40),
        (20, 10, 100, 1, 92, 400),  # as many as the server has left
        (20, 10, 100, 2, 46, 400),  # shared by two
        (20, 10, 100, 3, 30, 400),  # and no fraction of one
        (1, 1, 20, 1, 2, 2),
        (100, 200, 20, 1, 12, 40_000),
    ],
)
def test_sizes(instances: int, pool: int, most: int, poolers: int, pool_size: int, clients: int) -> None:
    found = solve(Demand(instances, pool, most, poolers))
    assert (found.pool_size, found.clients) == (pool_size, clients)
    assert found.max_client_conn >= max(ROOMY, found.clients)
    assert found.pool_size * poolers <= found.available


def test_sizes_of_the_inventory_win() -> None:
    found = solve(Demand(4, 5, 100, pool_size=7, max_client_conn=60))
    assert (found.pool_size, found.max_client_conn) == (7, 60)


@pytest.mark.parametrize(
    ("demand", "says"),
    [
        (Demand(4, 5, 20, poolers=13), "= 12 for 13 PgBouncer: none left for a pool. Raise postgres/max_connections"),
        (Demand(4, 5, 100, pool_size=93), r"1 x 93 (pgbouncer/pool_size) = 93. Lower pgbouncer/pool_size to 92, or"),
        (Demand(4, 5, 100, poolers=2, pool_size=50), "raise postgres/max_connections to 108"),
        (Demand(4, 5, 100, max_client_conn=59), "with 20 others 60, but pgbouncer/max_client_conn is 59. Raise it to"),
    ],
)
def test_impossible_sums_are_refused_with_the_arithmetic(demand: Demand, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        solve(demand)
    assert str(refused.value).startswith("2 x 4 instances x 5 (app/database/pool) = 40 clients; max_connections")


def test_the_sum_is_explained() -> None:
    assert solve(Demand(2, 5, 100)).explain() == (
        "2 x 2 instances x 5 (app/database/pool) = 20 clients; max_connections 100 - 3 for superusers - 5 for "
        "migrations, backup and monitoring = 92 for 1 PgBouncer: each opens at most 20, and lets in 500 clients"
    )


def test_verifier_is_what_postgres_makes() -> None:
    """Its form; that it opens the server is shown on machines, where logins use it."""
    text = verifier("shop", "pencil")
    assert re.fullmatch(r"SCRAM-SHA-256\$4096:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=", text)
    assert text == verifier("shop", "pencil"), "a second run must change nothing"
    assert len({verifier("shop", "pencil"), verifier("shop", "pencil2"), verifier("shop_owner", "pencil")}) == 3
    assert "pencil" not in text


@pytest.mark.parametrize("password", ["pässword", "line\nbreak"])
def test_passwords_outside_ascii_are_refused(password: str) -> None:
    with pytest.raises(ValueError, match="outside printable ASCII") as refused:
        verifier("shop", password)
    assert password not in str(refused.value)


@pytest.mark.parametrize(
    ("roles", "role", "share"),
    [
        (["cache"], "cache", 3712),
        (["database"], "database", 3712),
        (["cache", "database", "pooler"], "cache", 1237),
        (["cache", "database", "pooler"], "database", 2474),
        (["web", "app", "cache", "database"], "cache", 530),
        (["web", "app", "cache", "database"], "app", 2121),
    ],
)
def test_memory_is_shared_by_role(roles: list[str], role: str, share: int) -> None:
    assert memory.share(roles, 4096, role) == share


def test_memory_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="384 MiB less 384 MiB for the system leaves nothing for cache"):
        memory.share(["cache"], 384, "cache")


def test_a_service_elsewhere_takes_no_memory(make_context: Make) -> None:
    roles = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app", "cache", "database"]}}
    phase2 = {"hosts": roles, "phase": "phase2"}
    assert memory.planned(make_context(**phase2, postgres={"external": True}), "cache") == 742
    assert memory.planned(make_context(**phase2), "cache") == 530


def test_what_a_phase_does_not_install_takes_no_memory(make_context: Make) -> None:
    roles = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app", "cache", "database"]}}
    assert memory.planned(make_context(hosts=roles), "app") == 4096 - 384
    assert memory.planned(make_context(hosts=roles, phase="phase2"), "app") == (4096 - 384) * 4 // 7
    assert (
        make_context(hosts=roles, phase="phase2").sizing().memory_mb == 2121 // 3
    )  # serving, surge, kept for open pages
