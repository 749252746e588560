"""Ports of Redis, PgBouncer and PostgreSQL: open for the hosts that use them, closed for everybody else."""

import socket
from contextlib import closing

from testinfra.host import Host

from roadbed.deploys.context import Context
from roadbed.deploys.firewall import openings
from roadbed.deploys.peers import PORTS, clients, ports

ROLES = ("cache", "pooler", "database")


def applies(ctx: Context) -> bool:
    """In the phases that bring them, where Roadbed's firewall is on."""
    return ctx.reached("phase2") and ctx.inventory.firewall.enabled


def _answers(address: str, port: int) -> bool:
    try:
        with closing(socket.create_connection((address, port), timeout=1.5)):
            return True
    except OSError:
        return False


def _ports(ctx: Context) -> list[int]:
    return [port for role in PORTS if role in ctx.host.roles for port in ports(ctx, role)]


def test_closed_from_outside(ctx: Context) -> None:
    """Neither Redis nor PgBouncer nor PostgreSQL can be reached from the control machine."""
    assert _answers(ctx.host.address, ctx.inventory.ssh.port), "the control machine cannot reach the host directly"
    assert [port for port in _ports(ctx) if _answers(ctx.host.address, port)] == []


def test_open_for_those_who_use_it(ctx: Context) -> None:
    """A port is open exactly for the hosts whose role uses it."""
    for role in PORTS:
        users = {f"{ctx.inventory.hosts[host].inside}/32" for host in clients(ctx, role)}
        for port in ports(ctx, role):
            opened = [set(rule.sources) for rule in openings(ctx) if rule.first == port]
            assert opened == ([users] if users else []), f"{role}: {port}"


def test_no_forgotten_listener(host: Host, ctx: Context) -> None:
    """Each of these ports that is open has a program behind it."""
    listening = {int(line.split()[3].rpartition(":")[2]) for line in host.check_output("ss -Hlnt").splitlines()}
    assert [rule.first for rule in openings(ctx) if rule.first in _ports(ctx) and rule.first not in listening] == []
