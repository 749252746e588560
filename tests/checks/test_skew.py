"""Skew: open pages of the release before are served by it, for as long as the inventory says, and never by nobody."""

from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from roadbed.checks.instances import active_slot, exposure
from roadbed.checks.web import client, sni
from roadbed.deploys.app import SLOTS
from roadbed.deploys.context import Context
from roadbed.deploys.skew import FLAGS

ROLES = ("web",)
NAME = "roadbed-check"
"""A release that nobody has: what happens to it harms nobody."""
EXPOSURE_LIMIT = 1.5


@pytest.fixture
def folder(host: Host, ctx: Context) -> Iterator[str]:
    """The folder of the flags; those of the check go in any case."""
    yield ctx.inventory.app.route
    host.run(f"rm -f {ctx.inventory.app.route}/old.{NAME}.?")


def test_flags_have_their_time(host: Host, ctx: Context, folder: str) -> None:
    """A flag that is older than app.skew is removed by the host itself, and a younger one is not."""
    assert host.service(f"{FLAGS}.timer").is_running
    assert host.service(f"{FLAGS}.timer").is_enabled
    host.run_expect([0], f"touch -d '-{ctx.inventory.app.skew + 5} seconds' {folder}/old.{NAME}.a")
    host.run_expect([0], f"touch -d '+60 seconds' {folder}/old.{NAME}.b")
    host.run_expect([0], f"systemctl start {FLAGS}.service")
    assert not host.file(f"{folder}/old.{NAME}.a").exists
    assert host.file(f"{folder}/old.{NAME}.b").exists


def test_a_flag_that_leads_nowhere_costs_nothing(host: Host, ctx: Context, folder: str) -> None:
    """Who names a kept release of which no instance runs is served by the active one."""
    with client(ctx) as visitor:
        for slot in (one for one in SLOTS if one != active_slot(ctx, host)):
            host.run_expect([0], f"touch {folder}/old.{NAME}.{slot}")
            headers = {"X-Deployment-Id": NAME}
            assert visitor.get(ctx.inventory.app.health, headers=headers, extensions=sni(ctx)).status_code < 400, slot
            host.run_expect([0], f"rm {folder}/old.{NAME}.{slot}")


def test_sandbox(host: Host, measure: Callable[..., None]) -> None:
    """systemd's own rating of what removes the flags is 1.5 or better."""
    measure("exposure", exposure(host, f"{FLAGS}.service"), "points", EXPOSURE_LIMIT)
