"""The shared cache: all instances serve the same page."""

import time
from collections.abc import Callable

from roadbed.checks.replicas import Replica, distinct, isr_path, leads
from roadbed.deploys.context import Context
from roadbed.deploys.urls import has_cache

ROLES = ("app",)


def applies(ctx: Context) -> bool:
    """Once for the stack, where several instances share a Redis and the release has a page to share."""
    return has_cache(ctx) and leads(ctx) and isr_path(ctx) is not None


def test_one_page_for_all(ctx: Context, replicas: list[Replica], measure: Callable[..., None]) -> None:
    """All instances serve the same bytes of a page that is made anew at run time (ISR)."""
    counts = []
    for _ in range(3):  # one may just be made anew
        counts.append(distinct(replica.get(isr_path(ctx) or "") for replica in replicas))
        if counts[-1] == 1:
            break
    measure(f"different pages of {len(replicas)} instances", counts[-1], "", 1)


def test_one_lifetime_for_all(ctx: Context, replicas: list[Replica]) -> None:
    """All instances tell caches the same time for which that page may be kept."""
    for _ in range(3):  # one may just be made anew, and is to be asked for again in a second
        kept = {replica.get(isr_path(ctx) or "").headers.get("cache-control", "") for replica in replicas}
        if len(kept) == 1:
            break
        time.sleep(1)
    assert len(kept) == 1, kept
    assert "s-maxage" in kept.pop()
