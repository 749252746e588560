"""Whether a release does worse than the one before it, from counts of the same time. Pure arithmetic.

A canary gets few requests, so a figure is not compared but its bounds: the new release is worse when even the best
that its requests allow is worse than the worst that the old one's allow. The bounds are those of 3 standard
deviations: chance alone puts a figure outside once in about 700 times (0.13 % on the side that counts).
"""

from collections import Counter
from math import ceil, floor, sqrt

from .traffic import Traffic

DEVIATIONS = 3.0
LEAST_FAILED = 3
"""Failed requests below which nothing is said: one or two can be a client that sends nonsense."""
MARGIN = 0.01
"""Part of the requests that may fail beyond the old release's part. A release that fails 1 in 100 more is noticed."""
LEAST_REQUESTS = 50
"""Requests of each release below which times are not compared: the 95th percentile of fewer is their slowest."""
QUANTILE = 0.95
SLOWER = 2.0
"""Times may double: the instances are new, with code that is not compiled yet and caches that are cold."""
SLOWER_BY_MS = 100
"""And they may grow by this much: 100 ms is what people call instant (Nielsen, Response Times, 1993)."""


def least_share(failed: int, requests: int) -> float:
    """The lower bound of the part that fails: Wilson's score interval (JASA 22, 1927), good for few requests too."""
    if not requests:
        return 0.0
    z2, part = DEVIATIONS**2, failed / requests
    spread = DEVIATIONS * sqrt(part * (1 - part) / requests + z2 / (4 * requests**2))
    return max(0.0, (part + z2 / (2 * requests) - spread) / (1 + z2 / requests))


def quantile(times: Counter[int], deviations: float = 0.0) -> int:
    """The 95th percentile in ms: the time of rank 0.95 n of n, in order. 0 for none.

    With ``deviations`` its bound: the rank is moved by as many times sqrt(n * 0.95 * 0.05), the standard deviation of
    the number of requests below the true percentile (binomial). No shape of the distribution is assumed.
    """
    number = times.total()
    if not number:
        return 0
    moved = number * QUANTILE + deviations * sqrt(number * QUANTILE * (1 - QUANTILE))
    rank = min(number, max(1, ceil(moved) if deviations >= 0 else floor(moved)))
    seen = 0
    for time in sorted(times):
        seen += times[time]
        if seen >= rank:
            return time
    raise AssertionError("the rank is at most the number")


def worse(old: Traffic, new: Traffic) -> str:
    """In what the new release is worse, as a sentence with its figures; empty when nothing shows it."""
    if new.failed >= LEAST_FAILED and least_share(new.failed, new.requests) > old.share + MARGIN:
        return f"{_failed(new)} failed, of the old release {_failed(old)}"
    for what, mine, others in (("first byte", new.first, old.first), ("whole answer", new.whole, old.whole)):
        if min(mine.total(), others.total()) < LEAST_REQUESTS:
            continue
        least, most = quantile(mine, -DEVIATIONS), quantile(others, DEVIATIONS)
        if least > SLOWER * most and least - most > SLOWER_BY_MS:
            return (
                f"the 95th percentile until the {what} is {quantile(mine)} ms (at least {least} ms), "
                f"of the old release {quantile(others)} ms (at most {most} ms)"
            )
    return ""


def told(traffic: Traffic) -> str:
    """The figures of a release in a few words."""
    if not traffic.requests:
        return "no request"
    times = f"p95 {quantile(traffic.first)} ms to the first byte, {quantile(traffic.whole)} ms in all"
    return f"{traffic.requests} requests, {traffic.failed} failed, {times}"


def _failed(traffic: Traffic) -> str:
    return f"{traffic.failed} of {traffic.requests} requests ({100 * traffic.share:.1f} %)"
