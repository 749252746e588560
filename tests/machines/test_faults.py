"""Parts of the fleet fail under constant requests of many kinds: what visitors notice is counted.

70 requests a second for 60 s: pages, route handlers, files, streams, POSTs and database queries, over HTTP/1.1, HTTP/2
and new connections. The fault begins after 10 s and ends after 40 s.
"""

import time
from collections.abc import Callable, Iterator

import pytest

from roadbed.machines import nspawn

from .conftest import Grown
from .visitors import Crowd

pytestmark = pytest.mark.faults
WEB, APP, DATA = "fleet-web", "fleet-app2", "fleet-data"
SECONDS = (10, 30, 20)
"""Before, during and after the fault."""
REDIS = "redis-server@cache"
DATABASE = "database"


@pytest.fixture
def crowd(grown: Grown) -> Iterator[Crowd]:
    """Visitors of the web host; the test ends them and looks."""
    visitors = Crowd(grown.stack.address(WEB), "shop.example.test")
    with visitors:
        yield visitors


def during(crowd: Crowd, fault: Callable[[], object], end: Callable[[], object]) -> None:
    """Runs the visitors around a fault, prints what they met, and asserts that they came as often as planned."""
    before, while_it_lasts, after = SECONDS
    time.sleep(before)
    fault()
    try:
        time.sleep(while_it_lasts)
    finally:
        end()
    time.sleep(after)
    crowd.__exit__()
    rate = crowd.total / sum(SECONDS)
    print(
        f"\n{crowd.total} requests, {rate:.0f}/s: {len(crowd.failures)} failed {crowd.by_kind()}, "
        f"slowest answer {crowd.slowest():.1f} s"
    )
    assert rate >= 50


def unexpected(crowd: Crowd, *expected: str) -> list[str]:
    """Failures of other kinds than the expected."""
    return [failure for failure in crowd.failures if not any(f" {kind}" in failure for kind in expected)]


def test_redis_stopped(grown: Grown, crowd: Crowd) -> None:
    during(
        crowd,
        lambda: grown.stack.ssh(DATA, f"systemctl stop {REDIS}"),
        lambda: grown.stack.ssh(DATA, f"systemctl start {REDIS}"),
    )
    assert crowd.failures == []


def test_redis_frozen(grown: Grown, crowd: Crowd) -> None:
    during(
        crowd,
        lambda: grown.stack.ssh(DATA, f"systemctl kill -s STOP {REDIS}"),
        lambda: grown.stack.ssh(DATA, f"systemctl kill -s CONT {REDIS}"),
    )
    assert crowd.failures == []


def test_pgbouncer_restarted(grown: Grown, crowd: Crowd) -> None:
    """Queries that are under way are lost with it; nothing else is."""
    during(crowd, lambda: grown.stack.ssh(DATA, "systemctl restart pgbouncer"), lambda: None)
    assert unexpected(crowd, DATABASE) == []
    assert len(crowd.failures) <= 10


def test_app_host_unplugged(grown: Grown, crowd: Crowd) -> None:
    """What the host was working on is lost; who comes later is served by the other."""
    during(crowd, lambda: nspawn.cut(APP), lambda: nspawn.heal(APP))
    late = [failure for failure in crowd.failures if "stream" not in failure]
    assert len(late) <= 0.02 * crowd.total


def test_instance_frozen(grown: Grown, crowd: Crowd) -> None:
    """One of four instances stops answering without closing anything."""
    unit = grown.stack.ssh(APP, "systemctl list-units --plain --no-legend --state=active 'storefront@*'").split()[0]
    during(
        crowd,
        lambda: grown.stack.ssh(APP, f"systemctl kill -s STOP {unit}"),
        lambda: grown.stack.ssh(APP, f"systemctl kill -s CONT {unit}"),
    )
    late = [failure for failure in crowd.failures if "stream" not in failure]
    assert len(late) <= 0.02 * crowd.total


def test_the_fleet_is_whole_again(grown: Grown) -> None:
    grown.stack.provision("verify", "--only", "app,redis,pgbouncer,shared_cache,revalidation")
