"""Streaming: a page arrives in pieces at every hop, compressed or not, in HTTP/1.1 and HTTP/2.

The page's own pace is not known, so it is measured first: directly at an instance that this web host sends to,
be it on the same host or on another one, with nothing in between.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from roadbed.checks.replicas import Replica
from roadbed.checks.streaming import Timing, time_stream
from roadbed.checks.web import client, sni
from roadbed.deploys.context import Context
from roadbed.deploys.nginx import encodings

ROLES = ("web",)
FIRST_SHARE = 0.5
"""The first readable piece must come in the first half of the page's own duration."""
SPREAD_SHARE = 0.8
"""Share of the page's own spread that must be left behind nginx; a held-back stream has none."""
GAP_SHARE = 0.25
"""Share of the page's spread by which its longest silence may grow: what comes in between must not be held back."""
LEAST_SPREAD_MS = 200
"""A page that streams for less says nothing."""

ATTEMPTS = 3
"""A busy machine delays a stream now and then; a proxy that holds back delays every one."""


@dataclass(frozen=True)
class Limits:
    """What a hop may make of the page's own pace, in milliseconds."""

    first_ms: float
    spread_ms: float
    gap_ms: float

    @classmethod
    def of(cls, direct: Timing) -> "Limits":
        """The limits for a page with this pace."""
        gap = direct.gap_ms + GAP_SHARE * direct.spread_ms
        return cls(FIRST_SHARE * direct.last_ms, SPREAD_SHARE * direct.spread_ms, gap)

    def hold(self, timing: Timing) -> bool:
        """Whether a stream is within all of them."""
        prompt = timing.first_ms <= self.first_ms and timing.gap_ms <= self.gap_ms
        return prompt and timing.spread_ms >= self.spread_ms


def applies(ctx: Context) -> bool:
    """Only where the inventory names a page that streams."""
    return ctx.inventory.app.streaming is not None


def _path(ctx: Context) -> str:
    return ctx.inventory.app.streaming or ""


@pytest.fixture(scope="module")
def paces() -> dict[str, Timing]:
    """The page's own pace on each host: measured once."""
    return {}


@pytest.fixture
def direct(ctx: Context, replicas: list[Replica], paces: dict[str, Timing]) -> Timing:
    """The page's own pace, at an instance. The first request of a page also loads its code and is not timed."""
    if ctx.name not in paces:
        instance = next(one for one in replicas if one.host in ctx.app_hosts())
        with instance.client.stream("GET", _path(ctx)):
            pass
        paces[ctx.name] = time_stream(instance.client, _path(ctx), "identity")
    return paces[ctx.name]


def test_instance_streams(direct: Timing, measure: Callable[..., None]) -> None:
    """An instance by itself streams the page."""
    assert direct.status == 200
    measure("spread", direct.spread_ms, "ms", LEAST_SPREAD_MS, at_least=True)
    measure("first piece", direct.first_ms, "ms", FIRST_SHARE * direct.last_ms)


@pytest.mark.parametrize(("http2", "version"), [(False, "HTTP/1.1"), (True, "HTTP/2")])
def test_nginx_streams(ctx: Context, direct: Timing, measure: Callable[..., None], http2: bool, version: str) -> None:
    """nginx passes every piece on at once: plain and in every encoding it offers."""
    limits = Limits.of(direct)

    def ask(encoding: str) -> Timing:
        with client(ctx, http2=http2) as session:
            session.get(ctx.inventory.app.health, extensions=sni(ctx))  # connects; the handshake is not timed
            timings = (time_stream(session, _path(ctx), encoding, sni(ctx)) for _ in range(ATTEMPTS))
            first = next(timings)
            return first if limits.hold(first) else next(filter(limits.hold, timings), first)

    wanted = ("identity", *encodings(ctx))
    with ThreadPoolExecutor(len(wanted)) as pool:
        timings = dict(zip(wanted, pool.map(ask, wanted), strict=True))
    for encoding, timing in timings.items():
        assert (timing.status, timing.version, timing.encoding) == (200, version, encoding)
        measure(f"{encoding}: first piece", timing.first_ms, "ms", limits.first_ms)
        measure(f"{encoding}: spread", timing.spread_ms, "ms", limits.spread_ms, at_least=True)
        measure(f"{encoding}: longest gap", timing.gap_ms, "ms", limits.gap_ms)
