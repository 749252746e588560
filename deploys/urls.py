"""The URLs by which the app reaches its data, with the parameters that its database driver needs."""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import quote, urlencode

from .database import Endpoint, endpoint
from .peers import INSTANCES, PORTS, SENTINEL_PORT, address_of, grouped, serving
from .pgbouncer import PREPARED_SINCE, version

if TYPE_CHECKING:
    from .context import Context

Driver = Literal["prisma", "postgres", "pg"]
"""npm packages that speak to PostgreSQL: Prisma's engine, postgres, pg (also under Drizzle, Knex, TypeORM)."""


def chosen_driver(setting: str, detected: str | None) -> Driver | None:
    """The driver by ``setting`` (app.database.driver), or by what a release says of itself; None: not known."""
    named = detected if setting == "auto" else setting
    return next((driver for driver in get_args(Driver) if driver == named), None)


def has_cache(ctx: "Context") -> bool:
    """Whether the stack has Redis: in a phase that brings it, on a host of its own or elsewhere."""
    return ctx.reached("phase2") and (ctx.inventory.redis.external or bool(ctx.inventory.with_role("cache")))


def has_database(ctx: "Context") -> bool:
    """Whether the stack has a database that Roadbed knows of."""
    return ctx.reached("phase2") and (ctx.inventory.postgres.external or bool(ctx.inventory.with_role("database")))


def pooled(ctx: "Context") -> bool:
    """Whether the app goes through PgBouncer."""
    return has_database(ctx) and bool(ctx.inventory.with_role("pooler"))


def prepared_statements(ctx: "Context") -> bool:
    """Whether the app may use prepared statements by name: without PgBouncer, or with 1.21 and later."""
    return not pooled(ctx) or version(ctx, serving(ctx, "pooler")) >= PREPARED_SINCE


def prepared_note(ctx: "Context") -> str:
    """What the user has to know where prepared statements by name do not work; empty where they do."""
    if prepared_statements(ctx):
        return ""
    pooler = serving(ctx, "pooler")
    number = ".".join(str(part) for part in version(ctx, pooler))
    return (
        f"pgbouncer: {pooler} has PgBouncer {number}, which knows no prepared statements. Prisma and postgres.js are "
        "told so in DATABASE_URL; with pg, give no query a name. Newer: pgbouncer/source: pgdg, or Debian 13"
    )


def parameters(ctx: "Context", driver: Driver | None) -> dict[str, str]:
    """What the driver must be told in the URL.

    Prisma: https://www.prisma.io/docs/orm/prisma-client/setup-and-configuration/databases-connections/pgbouncer;
    with PgBouncer 1.21 and later ``pgbouncer=true`` would be wrong (prisma/prisma#21531). postgres:
    https://github.com/porsager/postgres#connection-details; ``max`` is not among what it is told, because
    3.4 takes it from a URL as text and opens one connection, whatever it says. pg prepares nothing by name
    unless it is asked to. Both take the size of their pool from the program alone, which finds it in
    DATABASE_POOL_MAX.
    """
    prepared = prepared_statements(ctx)
    if driver == "prisma":
        pool = str(ctx.inventory.app.database.pool)
        return {"connection_limit": pool, **({} if prepared else {"pgbouncer": "true"})}
    return {"prepare": "false"} if driver == "postgres" and not prepared else {}


def database_url(ctx: "Context", driver: Driver | None = None) -> str:
    """DATABASE_URL: through PgBouncer where a host has the role pooler. Raises ValueError without a database."""
    if not pooled(ctx):
        direct = endpoint(ctx, ctx.name)
        return _url(replace(direct, tls=_mode(direct, driver)), parameters(ctx, driver))
    pooler, database = serving(ctx, "pooler"), endpoint(ctx, ctx.name)
    kept = tuple(pair for pair in database.more if pair[0] == "schema")  # what is for the server is not for PgBouncer
    place, port = address_of(ctx, pooler), PORTS["pooler"][0]
    behind = replace(database, host=place, port=port, tls="disable", more=kept)
    return _url(behind, parameters(ctx, driver))


def local_url(database: Endpoint, port: int) -> str:
    """DATABASE_URL and DIRECT_DATABASE_URL of migrations: the database itself, through a port of this machine.

    What leaves the machine is encrypted, so the URL has no sslmode that a tool could take for something else.
    """
    return _url(replace(database, host="127.0.0.1", port=port, tls="disable"), {})


def _mode(database: Endpoint, driver: Driver | None) -> str:
    """pg takes ``require`` for a certificate that has to be verified, unlike libpq; the server's own cannot be
    (https://www.npmjs.com/package/pg-connection-string)."""
    return "no-verify" if (driver, database.tls) == ("pg", "require") else database.tls


def _url(database: Endpoint, extra: dict[str, str]) -> str:
    mode = {} if database.tls in ("disable", "prefer") else {"sslmode": database.tls}
    host = f"[{database.host}]" if ":" in database.host else database.host
    login = f"{quote(database.user, safe='')}:{quote(database.password, safe='')}"
    query = urlencode({**mode, **dict(database.more), **extra})
    name = quote(database.name, safe="")
    return f"postgresql://{login}@{host}:{database.port}/{name}" + (f"?{query}" if query else "")


def cache_url(ctx: "Context") -> str:
    """URL of the Redis that may forget: the shared cache. Raises ValueError where the stack has none.

    Of a group its host is only where the master was at first: see ``redis_environment``.
    """
    return _redis(ctx, "cache")


def durable_url(ctx: "Context") -> str:
    """URL of the Redis that keeps what it is given: sessions, rate limits, queues. As above."""
    return _redis(ctx, "durable")


def sentinels(ctx: "Context") -> str:
    """``host:port`` of every Sentinel, separated by commas; empty where a server of the stack is the only one."""
    if not grouped(ctx):
        return ""
    return ",".join(
        f"{_shown(ctx.inventory.hosts[host].inside)}:{SENTINEL_PORT}" for host in ctx.inventory.with_role("cache")
    )


def redis_environment(ctx: "Context") -> dict[str, str]:
    """Where the app finds Redis: ROADBED_* for the cache handlers, REDIS_* for what the app itself keeps.

    Of a group the app asks the Sentinels for the master on each connect, with the name and password that the
    instance wants too. There is no REDIS_URL then: it would name a server that is a replica after a failover.
    Raises ValueError where the stack has no Redis.
    """
    cache, watching = {"ROADBED_CACHE_URL": cache_url(ctx)}, sentinels(ctx)
    if not watching:
        return {**cache, "REDIS_URL": durable_url(ctx)}
    return {
        **cache,
        "ROADBED_CACHE_SENTINELS": watching,
        "ROADBED_CACHE_MASTER": "cache",
        "REDIS_SENTINELS": watching,
        "REDIS_SENTINEL_MASTER": "durable",
        "REDIS_USERNAME": ctx.inventory.app.name,
        "REDIS_PASSWORD": ctx.secret("redis_durable_password"),
    }


def _redis(ctx: "Context", instance: str) -> str:
    if ctx.inventory.redis.external:
        return ctx.secret(f"redis_{instance}_url")
    first = serving(ctx, "cache")
    host = _shown(ctx.inventory.hosts[first].inside if grouped(ctx) else address_of(ctx, first))
    password = quote(ctx.secret(f"redis_{instance}_password"), safe="")
    return f"redis://{ctx.inventory.app.name}:{password}@{host}:{INSTANCES[instance]}/0"


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address
