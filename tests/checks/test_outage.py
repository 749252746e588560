"""Redis is away for some seconds: the site goes on, and afterwards its cache is shared again.

Stops the cache instance of Redis, on every host that has one, so only with ``provision verify --disruptive``.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from testinfra.host import Host

from roadbed.checks.replicas import Replica, arrivals, attribute, distinct, isr_path, leads, routes
from roadbed.deploys.context import Context
from roadbed.deploys.urls import has_cache

ROLES = ("cache",)
DISRUPTIVE = True
UNIT = "redis-server@cache"
AWAY_SECONDS = 8
SLOWEST_MS = 2000
"""An answer of Redis is waited for 100 ms, three times; then nobody asks for 2 s (runtime/README.md)."""
SHARED_AGAIN_SECONDS = 10
CONNECTED_SECONDS = 3
"""All instances are connected by then: a Redis that is frozen before has nobody waiting for it."""


def applies(ctx: Context) -> bool:
    """Once for the stack, on its own Redis."""
    own = has_cache(ctx) and not ctx.inventory.redis.external
    return own and leads(ctx, "cache") and isr_path(ctx) is not None


class Load:
    """Asks every instance for a page, again and again; ``failed`` has what was not answered 200."""

    def __init__(self, replicas: list[Replica], path: str) -> None:
        self.failed: list[str] = []
        self.slowest = 0.0
        self.total = 0
        self._over, self._path = Event(), path
        self._pool = ThreadPoolExecutor(len(replicas))
        for replica in replicas:
            self._pool.submit(self._ask, replica)

    def _ask(self, replica: Replica) -> None:
        while not self._over.is_set():
            began = time.perf_counter()
            try:
                answer = replica.client.get(self._path)
                self.failed += [] if answer.status_code == 200 else [f"{replica}: {answer.status_code}"]
            except Exception as error:
                self.failed.append(f"{replica}: {error!r}")
            self.slowest = max(self.slowest, (time.perf_counter() - began) * 1000)
            self.total += 1
            self._over.wait(0.05)

    def end(self) -> None:
        """Waits for the requests that are under way."""
        self._over.set()
        self._pool.shutdown()


@pytest.mark.parametrize("how", ["freeze", "stop"])
def test_site_goes_on_without_redis(
    ctx: Context, hosts: dict[str, Host], replicas: list[Replica], measure: Callable[..., None], how: str
) -> None:
    """While the cache instance of Redis is stopped, or does not answer, every request is answered."""
    away, back = {
        "stop": (f"systemctl stop {UNIT}", f"systemctl start {UNIT}"),
        "freeze": (f"systemctl kill -s STOP {UNIT}", f"systemctl kill -s CONT {UNIT}"),
    }[how]
    time.sleep(CONNECTED_SECONDS)
    load = Load(replicas, isr_path(ctx) or "")
    try:
        for name in ctx.inventory.with_role("cache"):
            hosts[name].check_output(away)
        time.sleep(AWAY_SECONDS)
    finally:
        for name in ctx.inventory.with_role("cache"):
            hosts[name].check_output(back)
        load.end()
    assert load.total > AWAY_SECONDS * len(replicas)
    measure(f"failed of {load.total} requests", len(load.failed), "", 0)
    measure("slowest answer", load.slowest, "ms", SLOWEST_MS)


def test_shared_again(ctx: Context, replicas: list[Replica], measure: Callable[..., None]) -> None:
    """Soon after Redis is back, all instances serve one page again."""
    began, path = time.monotonic(), isr_path(ctx) or ""
    while distinct(replica.get(path) for replica in replicas) > 1:
        assert time.monotonic() - began < SHARED_AGAIN_SECONDS, "the instances still serve different pages"
        time.sleep(0.2)
    measure("one page for all after", time.monotonic() - began, "s", SHARED_AGAIN_SECONDS)
    if {"/api/revalidate", "/products/[id]"} <= set(routes(ctx)):  # as the sample app has them
        old = attribute(replicas[0].get("/products/3").text, "render")
        replicas[0].client.post("/api/revalidate", json={"path": "/products/3"})
        since = time.perf_counter()
        pages = dict.fromkeys(replicas, "/products/3")
        for replica, took in arrivals(pages, lambda page: attribute(page, "render") != old, since=since):
            measure(f"revalidation reaches {replica}", took, "ms", 1000)
