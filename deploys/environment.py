"""The environment of the app's instances, and how systemd wants it written."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from .cdn import purge_environment
from .peers import address_of
from .urls import database_url, has_cache, has_database, redis_environment

if TYPE_CHECKING:
    from .context import Context

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""The system's certificate authorities; Node.js trusts only its own list without NODE_EXTRA_CA_CERTS."""
KEEP_ALIVE_MS = 75_000
"""Milliseconds: longer than the 60 s nginx keeps an idle upstream connection, else it uses a closed one (502)."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""Characters for which systemd refuses a whole EnvironmentFile=."""


def app_address(ctx: "Context", host: str) -> str:
    """The address at which this host reaches the instances of ``host``: loopback for its own."""
    return address_of(ctx, host)


def askers(ctx: "Context", host: str) -> list[str]:
    """The other hosts whose nginx sends requests to the instances of ``host``."""
    others = [web for web in ctx.inventory.with_role("web") if web != host]
    return [web for web in others if host in replace(ctx, name=web).app_hosts()]


def instance_addresses(ctx: "Context", host: str) -> tuple[str, ...]:
    """The addresses on which the instances of ``host`` listen.

    Always loopback, so that nothing changes for the host's own nginx when the stack grows; the inside address too
    as soon as other web hosts have to reach them.
    """
    return ("127.0.0.1", ctx.inventory.hosts[host].inside) if askers(ctx, host) else ("127.0.0.1",)


def jemalloc(arch: str) -> str:
    """Path of Debian's jemalloc for a machine name of uname(1).

    sharp fragments the heap of glibc's allocator (https://sharp.pixelplumbing.com/install#linux-memory-allocator).
    """
    triplet = {"armv7l": "arm-linux-gnueabihf"}.get(arch, f"{arch}-linux-gnu")
    return f"/usr/lib/{triplet}/libjemalloc.so.2"


def environment(ctx: "Context") -> dict[str, str]:
    """Variables of every instance on this host, secrets included.

    ``app.env`` and ``app.secrets`` win over the defaults. UV_THREADPOOL_SIZE: one thread a core for sharp,
    zlib, DNS and files, at least the 4 of libuv. Raises KeyError for a secret that is not stored.
    """
    app, sizing = ctx.inventory.app, ctx.sizing()
    defaults = {
        "NODE_ENV": "production",
        "NEXT_TELEMETRY_DISABLED": "1",
        "KEEP_ALIVE_TIMEOUT": str(KEEP_ALIVE_MS),
        "NODE_EXTRA_CA_CERTS": AUTHORITIES,
        "UV_THREADPOOL_SIZE": str(min(16, max(4, ctx.me.cpus))),
        "ROADBED_DRAIN_SECONDS": str(app.drain),
        "ROADBED_NODE_FLAGS": f"--max-old-space-size={sizing.heap_mb}",
    }
    fixed = {**listeners(ctx), "LD_PRELOAD": jemalloc(ctx.me.arch)}
    own = {**app.env, **{name: ctx.secret(name) for name in app.secrets}}
    shared = {"ROADBED_SHARE_GUARDED": "1"} if ctx.reached("phase2") and ctx.inventory.edge.guarded else {}
    return {**defaults, **shared, **data_tier(ctx), **purge_environment(ctx), **own, **fixed}


def listeners(ctx: "Context") -> dict[str, str]:
    """Where the instances of this host listen, and which machines besides private ones may ask for their health."""
    first, *more = instance_addresses(ctx, ctx.name)
    peers = [ctx.inventory.hosts[host].inside for host in askers(ctx, ctx.name)]
    return {"HOSTNAME": first, **({"ROADBED_LISTEN": ",".join(more), "ROADBED_PEERS": ",".join(peers)} if more else {})}


def data_tier(ctx: "Context") -> dict[str, str]:
    """Where the app finds its data, in the phases that bring it.

    REDIS_URL, or REDIS_SENTINELS of a group, leads to the instance that forgets nothing: for sessions, rate limits
    and queues. The schema's owner is not here: migrations get it, the running app does not.
    """
    app, values = ctx.inventory.app, dict[str, str]()
    if has_cache(ctx):
        values |= {"ROADBED_APP": app.name, **redis_environment(ctx)}
    if has_database(ctx):
        values |= {"DATABASE_URL": database_url(ctx, ctx.driver), "DATABASE_POOL_MAX": str(app.database.pool)}
    return values


def environment_file(values: dict[str, str]) -> str:
    """``values`` as the text of a systemd EnvironmentFile=.

    Double quotes keep line breaks and everything else; only ``" \\ ` $`` are escaped
    (systemd.exec(5), EnvironmentFile=). Raises ValueError for a control character, which systemd
    would refuse together with the whole file.
    """
    lines = []
    for name, value in sorted(values.items()):
        if CONTROL.search(value):
            raise ValueError(f"app: the value of {name} has a control character. Remove it")
        quoted = re.sub(r'(["\\`$])', r"\\\1", value)
        lines.append(f'{name}="{quoted}"\n')
    return "".join(lines)
