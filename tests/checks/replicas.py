"""The instances of the app, each asked by itself as nginx would ask it: through a tunnel, with a visitor's headers."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
from testinfra.host import Host

from roadbed.checks.instances import active_slot
from roadbed.deploys.context import Context
from roadbed.deploys.environment import app_address
from roadbed.engine.session import Session
from roadbed.engine.tunnel import forward

POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Replica:
    """One instance: its host, its name (``a-0``), its port, and a client that reaches no other."""

    host: str
    name: str
    port: int
    client: httpx.Client

    def get(self, path: str, **options: Any) -> httpx.Response:
        """A GET that must be answered 200."""
        answer = self.client.get(path, **options)
        assert answer.status_code == 200, f"{self}: {path} answered {answer.status_code}"
        return answer

    def __str__(self) -> str:
        return f"{self.host} {self.name}"


def replicas_of(ctx: Context, host: Host, session: Session, stack: ExitStack) -> list[Replica]:
    """The instances of the active slot of one host; their tunnels and clients end with ``stack``."""
    app, slot, found = ctx.inventory.app, active_slot(ctx, host), []
    for number, port in enumerate(app.ports(slot, ctx.sizing().replicas)):
        here = stack.enter_context(forward(session, port, app_address(ctx, ctx.name)))
        client = httpx.Client(base_url=f"http://127.0.0.1:{here}", headers=visitor(ctx), timeout=30, trust_env=False)
        found.append(Replica(ctx.name, f"{slot}-{number}", port, stack.enter_context(client)))
    return found


def visitor(ctx: Context) -> dict[str, str]:
    """The headers that nginx sends with a visitor's request."""
    domain = ctx.inventory.app.domain
    return {"Host": domain, "X-Forwarded-Host": domain, "X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1"}


def routes(ctx: Context) -> dict[str, dict[str, Any]]:
    """The routes of the release that runs, by path, as its manifest has them."""
    return {route["path"]: route for route in ctx.manifest.get("routes", ())}


def isr_path(ctx: Context) -> str | None:
    """A page of the build that is made anew at run time, the one that lives longest; None when there is none."""
    isr = [route for route in routes(ctx).values() if route["rendering"] == "isr" and route["prerendered"]]
    longest = max(isr, key=lambda route: route["revalidate"] or 10**9, default=None)
    return str(ctx.manifest["base_path"] + longest["prerendered"][0]) if longest else None


def leads(ctx: Context, role: str = "app") -> bool:
    """Whether this is the first host with ``role``: where a check of the whole stack is collected, once."""
    return ctx.inventory.with_role(role)[:1] == [ctx.name]


def attribute(html: str, name: str) -> str:
    """The value of the attribute ``data-<name>`` of a page of the sample app."""
    found = re.search(rf'data-{name}="([^"]*)"', html)
    assert found, f"data-{name} is missing"
    return found[1]


def milliseconds_until(replica: Replica, path: str, fresh: Callable[[str], bool], *, since: float) -> float:
    """How long after ``since`` (time.perf_counter) a replica's ``fresh`` page was here; asks every 10 ms for 10 s."""
    while True:
        page = replica.get(path).text
        took = time.perf_counter() - since
        if fresh(page):
            return took * 1000
        assert took < 10, f"{replica}: {path} is still the old one after 10 s"
        time.sleep(POLL_SECONDS)


def arrivals(
    pages: Mapping[Replica, str], fresh: Callable[[str], bool], *, since: float
) -> list[tuple[Replica, float]]:
    """``milliseconds_until`` for several replicas at once, each with its page."""
    with ThreadPoolExecutor(len(pages)) as pool:
        times = pool.map(lambda one: milliseconds_until(one, pages[one], fresh, since=since), pages)
        return list(zip(pages, times, strict=True))


def distinct(pages: Iterable[httpx.Response]) -> int:
    """How many different bodies these answers have."""
    return len({page.content for page in pages})
