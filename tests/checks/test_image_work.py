"""Image work: however many web hosts and instances there are, a variant is resized once."""

import itertools
from collections.abc import Callable

from testinfra.host import Host

from roadbed.checks.images import Work, ask_everywhere, kept_here, variants
from roadbed.checks.replicas import leads
from roadbed.deploys.context import Context

ROLES = ("web",)
TIMES = 30
TRIED = 20
"""Variants that are tried until one is new: others may have been made before, or be refused by the project."""


def applies(ctx: Context) -> bool:
    """Once for the stack."""
    return leads(ctx, "web") and kept_here(ctx)


def fleets(contexts: dict[str, Context]) -> list[list[Context]]:
    """The web hosts that send to the same app hosts; in phase2 a host that has both sends to itself alone."""
    found: dict[tuple[str, ...], list[Context]] = {}
    for ctx in contexts.values():
        if "web" in ctx.host.roles:
            found.setdefault(tuple(ctx.app_hosts()), []).append(ctx)
    return list(found.values())


def first_work(fleet: list[Context], hosts: dict[str, Host]) -> Work:
    """What became of the first variant that had to be made. Raises AssertionError when there is none."""
    works = (ask_everywhere(fleet, hosts, one, TIMES) for one in itertools.islice(variants(fleet[0]), TRIED))
    work = next((work for work in works if work.instances), None)
    assert work, f"none of {TRIED} variants was new"
    return work


def test_one_resize_for_the_fleet(
    contexts: dict[str, Context], hosts: dict[str, Host], measure: Callable[..., None]
) -> None:
    """Many requests at once, to every web host, for an image that nobody has asked for: it is resized once."""
    for fleet in fleets(contexts):
        work = first_work(fleet, hosts)
        asked = f"{TIMES} requests to each of {len(fleet)} web hosts"
        measure(f"not answered of {asked}", work.refused, "", 0)
        measure(f"runs of Sharp for {asked}", len(work.instances), "", 1)
        measure("files of it on all app hosts", work.files, "", 1)
