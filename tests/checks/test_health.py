"""Health: every instance is asked, one that is put aside is refused to nginx and to nobody else."""

import json
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from roadbed.checks.instances import active_slot, exposure
from roadbed.deploys.context import Context
from roadbed.deploys.health import ASKED, NGINX_USER, STATE, UNIT, instances

EXPOSURE_LIMIT = 2.0
"""Debian's nginx.service scores 9.6. The program keeps the one capability for rules and connections."""
TABLE = "inet roadbed_health"
SPARE = "127.0.0.77"
"""One more name of loopback, where nginx listens too and nobody else asks: what happens to it harms nobody."""
REFUSED = "7"
"""What curl says of a connection that was refused."""


def applies(ctx: Context) -> bool:
    """In the phases that bring it, unless it is switched off."""
    return ctx.reached("phase2") and ctx.inventory.health.enabled


def test_runs(host: Host) -> None:
    """The instances are asked, also after a reboot, and no changed setting waits to be taken over."""
    assert host.service(UNIT).is_running
    assert host.service(UNIT).is_enabled
    assert not host.file(f"/var/lib/roadbed/pending/{UNIT}").exists


def test_every_instance_is_used(host: Host, ctx: Context) -> None:
    """Every instance of the active slot, on every app host, is asked and gets requests."""
    slot = active_slot(ctx, host)
    found = {each["server"]: each for each in json.loads(host.check_output(f"cat {STATE}"))["instances"]}
    wanted = {server for group, server, _, _ in instances(ctx) if group == slot}
    assert wanted <= set(found)
    assert [each for server, each in found.items() if server in wanted and not each["used"]] == []


def test_asked_lately(host: Host, ctx: Context, measure: Callable[..., None]) -> None:
    """The last round of questions is no older than the settings say, so an instance that hangs is noticed in time."""
    age = host.check_output(f"echo $(( $(date +%s) - $(stat -c %Y {ASKED}) ))")
    measure("age", float(age), "s", ctx.inventory.health.longest)


@pytest.fixture
def refused(host: Host) -> Iterator[None]:
    """A refusal of an address that nobody uses; it would end by itself."""
    host.run_expect([0], f"nft add element {TABLE} out4 '{{ {SPARE} . 80 timeout 5s }}'")
    yield
    host.run(f"nft delete element {TABLE} out4 '{{ {SPARE} . 80 }}'")


@pytest.mark.usefixtures("refused")
def test_nginx_is_refused_and_nobody_else(host: Host) -> None:
    """A new connection of nginx to an instance that was put aside is refused in a moment; others get through."""
    ask = f"curl -s -o /dev/null -m 3 -w '%{{exitcode}} %{{time_total}}' http://{SPARE}/"
    code, seconds = host.run(f"setpriv --reuid {NGINX_USER} --clear-groups {ask}").stdout.split()
    assert (code, float(seconds) < 0.2) == (REFUSED, True)
    assert host.run(ask).stdout.split()[0] != REFUSED


def test_connections_can_be_closed(host: Host) -> None:
    """The kernel closes connections when it is told to, so nobody waits for an instance that hangs."""
    close = f"ss -K -H -t -n dst {SPARE} dport = :80 > /dev/null"
    script = f"exec 3<>/dev/tcp/{SPARE}/80; {close}; read -t 3 -r line <&3; echo $?"
    assert host.check_output(f"bash -c '{script}'") == "1", "the connection is still open, or there was none"


def test_table(host: Host) -> None:
    """The rules concern new connections of nginx alone, and a refusal ends when nobody renews it."""
    text = host.check_output(f"nft -n list table {TABLE}")
    rules = [line for line in text.splitlines() if "reject" in line]
    user = host.check_output(f"id -u {NGINX_USER}")
    assert len(rules) == 2
    assert all(f"meta skuid {user}" in rule and "tcp flags" in rule for rule in rules)
    assert text.count("flags timeout") == 2


def test_sandbox(host: Host, measure: Callable[..., None]) -> None:
    """systemd's own rating of the sandbox is 2.0 or better."""
    measure("exposure", exposure(host, UNIT), "points", EXPOSURE_LIMIT)
