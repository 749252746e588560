"""Redis: two instances of the distribution's server, one that may forget and one that may not.

``redis-server@cache`` (port 6379) is bounded, evicts and writes nothing to disk. ``redis-server@durable``
(port 6380) never evicts and keeps an append-only file: sessions, rate limits, queues. A cache that fills
up cannot push out a session.
"""

import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from pyinfra.operations import apt, files, systemd

from . import sentinel
from .files import DAEMON_RELOAD, settle, write_file, write_template
from .memory import planned
from .model import Settings
from .peers import INSTANCES, grouped, listen_addresses
from .redis_users import AUTH, CHECK, REPLICA, acl, command_line, redis_version
from .sizing import RESERVED_MB

if TYPE_CHECKING:
    from .context import Context

ROLES = ("cache",)
NEEDS = ("base", "firewall")
SECRETS = (
    *("redis_cache_password", "redis_durable_password", "redis_admin_password"),
    *("redis_sentinel_password", "redis_replica_password"),
)
CACHE_SHARE, DURABLE_SHARE = 0.6, 0.15
"""Of the memory the role may plan with. A rewrite of the append-only file can double the durable one; the
rest is for fragmentation and buffers of clients."""
LEAST_MB = 32
COMMON = "/etc/redis/roadbed.conf"
SYSCTL_FILE = "/etc/sysctl.d/61-roadbed-redis.conf"


class RedisSettings(Settings):
    """Redis for the shared cache and for what must be kept."""

    external: bool = Field(False, description="Use servers of your own: store redis_cache_url and redis_durable_url.")
    cache_memory: int | Literal["auto"] = Field(
        "auto", description="Memory of the cache instance in MiB; auto: from RAM."
    )
    durable_memory: int | Literal["auto"] = Field(
        "auto", description="Memory of the durable instance in MiB; auto: from RAM."
    )


def memory_mb(ctx: "Context", instance: str) -> int:
    """``maxmemory`` of an instance in MiB. Raises ValueError, with the sum, for too little or more than there is."""
    settings, room = ctx.inventory.redis, planned(ctx, "cache")
    wanted = {"cache": (settings.cache_memory, CACHE_SHARE), "durable": (settings.durable_memory, DURABLE_SHARE)}
    sizes = {name: own if isinstance(own, int) else int(room * part) for name, (own, part) in wanted.items()}
    if sizes[instance] < LEAST_MB:
        raise ValueError(
            f"redis/{instance}_memory: {sizes[instance]} MiB of the {room} MiB that the role cache has here are too "
            f"few. At least {LEAST_MB} MiB: use a larger machine or fewer roles"
        )
    if sum(sizes.values()) > ctx.me.memory_mb - RESERVED_MB:
        raise ValueError(
            f"redis/{instance}_memory: {sizes['cache']} MiB for the cache and {sizes['durable']} MiB durable are more "
            f"than the {ctx.me.memory_mb} MiB of this host less {RESERVED_MB} MiB for the system. Lower one"
        )
    return sizes[instance]


def healthy(instance: str) -> str:
    """Shell text that succeeds when an instance answers; reading its file after a start counts as an answer."""
    return f"{command_line(INSTANCES[instance], 'ping')} 2>&1 | grep -qE 'PONG|LOADING'"


def deploy(ctx: "Context") -> None:
    """Both instances, with their users, in a sandbox. The distribution's single instance never starts."""
    if ctx.inventory.redis.external:
        return
    systemd.service(
        name="Stop the single instance of the package", service="redis-server.service", running=False, enabled=None
    )
    files.link(
        name="Keep the single instance of the package from starting",
        path="/etc/systemd/system/redis-server.service",
        target="/dev/null",
    )
    apt.packages(name="Install Redis", packages=["redis-server", "redis-tools"], no_recommends=True)
    write_template("redis", SYSCTL_FILE, ctx, debts=("redis-sysctl",))
    settle(
        name="Let Redis copy itself while memory is short",
        debt="redis-sysctl",
        command=f"sysctl -q -p {SYSCTL_FILE}",
        healthy="true",
    )
    write_file(
        name="Write the password of Redis' administrator",
        dest=AUTH,
        content=ctx.secret("redis_admin_password"),
        mode="600",
    )
    write_template("redis", CHECK, ctx, mode="755", validate="sh -n {file}")
    sentinel.join(ctx)
    drop_in = "/etc/systemd/system/redis-server@.service.d/roadbed.conf"
    start = {"grouped": grouped(ctx), "start": sentinel.START}
    write_template("redis", drop_in, ctx, values=start, debts=(DAEMON_RELOAD, *INSTANCES_DEBTS))
    values = {
        "addresses": listen_addresses(ctx, "cache"),
        "version": redis_version(ctx),
        "grouped": grouped(ctx),
        "user": REPLICA,
    }
    write_template("redis", COMMON, ctx, values=values, mode="640", group="redis", debts=INSTANCES_DEBTS)
    settle(name="Have systemd read its units", debt=DAEMON_RELOAD)
    for instance in INSTANCES:
        _instance(ctx, instance)
    sentinel.watch(ctx)


INSTANCES_DEBTS = tuple(f"redis-server@{instance}" for instance in INSTANCES)


def _instance(ctx: "Context", instance: str) -> None:
    unit, reload = f"redis-server@{instance}", f"redis-acl-{instance}"
    folder = f"/var/lib/redis/{instance}"
    files.directory(name=f"Create {folder}", path=folder, user="redis", group="redis", mode="750")
    write_file(
        name=f"Write the users of {instance}",
        dest=f"/etc/redis/redis-{instance}.acl",
        content=acl(ctx, instance),
        mode="640",
        group="redis",
        validate=f"{CHECK} acl {{file}}",
        debts=(reload,),
    )
    values = {"port": INSTANCES[instance], "memory_mb": memory_mb(ctx, instance), "grouped": grouped(ctx)}
    write_template(
        "redis",
        f"/etc/redis/redis-{instance}.conf",
        ctx,
        values=values,
        mode="640",
        group="redis",
        validate=f"{CHECK} conf {{file}}",
        debts=(unit,),
    )
    settle(name=f"Restart Redis {instance} on new settings", debt=unit, healthy=healthy(instance))
    load = command_line(INSTANCES[instance], "acl load")
    settle(
        name=f"Load the users of {instance}",
        debt=reload,
        command=f'[ "$({load} 2>&1)" = OK ] || systemctl restart {unit}',
        healthy=healthy(instance),
    )
    systemd.service(name=f"Start Redis {instance} now and at boot", service=unit, running=True, enabled=True)


def bytes_of(info: str, key: str) -> int:
    """A number in the answer of INFO, such as ``used_memory``. Raises ValueError when it is not there."""
    found = re.search(rf"^{key}:([0-9]+)", info, re.MULTILINE)
    if not found:
        raise ValueError(f"redis: INFO has no {key}")
    return int(found[1])
