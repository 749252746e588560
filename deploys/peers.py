"""Which hosts of the data tier talk to which, on which ports: one table for listeners, firewall and passwords files."""

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .context import Context

PORTS = {"cache": (6379, 6380), "pooler": (6432,), "database": (5432,)}
"""cache: the evicting instance, then the durable one."""
INSTANCES = dict(zip(("cache", "durable"), PORTS["cache"], strict=True))
"""Name of an instance of Redis -> its port."""
SENTINEL_PORT = 26379
GROUP = 3
"""Cache hosts from which on Sentinel watches over them: of two neither can tell whether the other one is gone."""
CLIENTS = {"cache": ("app",), "pooler": ("app",), "database": ("pooler", "app")}
"""The roles that connect to a role. App hosts reach the database directly for migrations alone."""


def external(ctx: "Context", role: str) -> bool:
    """Whether the stack uses a service of somebody else instead of a host with ``role``."""
    inventory = ctx.inventory
    return {"cache": inventory.redis.external, "database": inventory.postgres.external}.get(role, False)


def grouped(ctx: "Context") -> bool:
    """Whether the cache hosts are one group: a master and replicas of each instance, watched by Sentinel."""
    return not external(ctx, "cache") and len(ctx.inventory.with_role("cache")) >= GROUP


def ports(ctx: "Context", role: str) -> tuple[int, ...]:
    """The ports on which a host with ``role`` serves others."""
    return (*PORTS[role], SENTINEL_PORT) if role == "cache" and grouped(ctx) else PORTS[role]


def clients(ctx: "Context", role: str) -> list[str]:
    """The other hosts that connect to this host because it has ``role``; none where nothing of it is installed."""
    if role not in ctx.host.roles or external(ctx, role):
        return []
    others = ("cache",) if role == "cache" and grouped(ctx) else ()
    return [host for host in ctx.inventory.with_role(*CLIENTS[role], *others) if host != ctx.name]


def listen_addresses(ctx: "Context", role: str) -> tuple[str, ...]:
    """The addresses a server of ``role`` listens on: loopback, and the inside one if other hosts connect."""
    return ("127.0.0.1", ctx.host.inside) if clients(ctx, role) else ("127.0.0.1",)


def serving(ctx: "Context", role: str) -> str:
    """The host whose ``role`` this host uses: its own, else the first one. Of a group of cache hosts the first.

    Raises ValueError when there is none, or several of a role that keeps data: two caches or databases
    that know nothing of one another would give two answers.
    """
    hosts = ctx.inventory.with_role(role)
    if not hosts:
        raise ValueError(f"hosts: no host has the role {role}. Add it to the roles of a host")
    if role == "cache" and grouped(ctx):
        return hosts[0]
    if role != "pooler" and len(hosts) > 1:
        raise ValueError(
            f"hosts: {', '.join(hosts)} have the role {role}, and one host has to keep it. Leave it on one"
        )
    return ctx.name if ctx.name in hosts else hosts[0]


def address_of(ctx: "Context", host: str) -> str:
    """The address by which this host reaches ``host``: loopback for itself."""
    return "127.0.0.1" if host == ctx.name else ctx.inventory.hosts[host].inside


def networks_of(ctx: "Context", hosts: list[str], what: str) -> tuple[str, ...]:
    """The addresses by which ``hosts`` come in, as networks. Rules cannot hold a DNS name.

    Raises ValueError for one, with ``what`` the rule is about.
    """
    found = []
    for host in hosts:
        address = ctx.inventory.hosts[host].inside
        try:
            found.append(str(ipaddress.ip_network(address)))
        except ValueError:
            raise ValueError(
                f"hosts/{host}/private: '{address}' is a name, but {what} are opened by address. "
                f"Write the IP address that {host} has on the inside"
            ) from None
    return tuple(found)
