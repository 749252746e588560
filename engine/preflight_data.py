"""Is the data tier possible as the inventory wants it? Sums, names, services of the user's own: before any change."""

import shlex
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from roadbed.deploys import pgbouncer, postgres, redis, redis_users, sentinel
from roadbed.deploys.context import ROADMAP, Context
from roadbed.deploys.database import Endpoint, endpoint, parse
from roadbed.deploys.peers import INSTANCES, PORTS, clients, networks_of
from roadbed.deploys.urls import has_database, pooled, prepared_note

from .errors import InventoryError
from .preflight import Finding, Row
from .session import Session

CONNECT_SECONDS = 5
ACCEPTED = "accepted"
EXTERNAL = ("Let this host in there, or mend the URL", "Set the right URL: provision secrets set database_url")
OWN = ("See systemctl status postgresql on its host, or run the phase again", "Run the phase again")
POOL_SIZE = {
    "postgres": "; it opens 10 connections an instance unless the app says max: Number(process.env.DATABASE_POOL_MAX)",
    "pg": "; it opens 10 connections an instance unless the app says max: Number(process.env.DATABASE_POOL_MAX)",
}
"""Neither takes the size of its pool from a URL."""


def check_data(session: Session, ctx: Context) -> list[Finding]:
    """Findings of one host for the phases that bring data: what it would hold, and what it reaches elsewhere."""
    if not ctx.reached("phase2"):
        return []
    rows = [*sums(ctx), *_elsewhere(session, ctx)]
    return [Finding(ctx.name, what, level, message) for what, level, message in rows]


def check_stack(ctx: Context, driver: str | None, note: str = "") -> list[Finding]:
    """Findings about the stack as a whole. ``driver`` and ``note``: what is known of the app's database driver."""
    app = ctx.inventory.app
    rows: list[Row] = []
    if has_database(ctx):
        origin = "app/database/driver" if app.database.driver != "auto" else "its dependencies"
        if driver:
            rows.append(("driver", "ok", f"{driver}, by {origin}{POOL_SIZE.get(driver, '')}"))
        elif app.database.driver == "auto" and not note:
            unknown = "no driver for PostgreSQL among the dependencies, so DATABASE_URL has no parameters for one"
            rows.append(("driver", "warning", f"{unknown}. Name it in app/database/driver, or write none there"))
        if note:
            rows.append(("driver", "warning", note))
    elif app.migrate and ctx.reached("phase2"):
        missing = "no host has the role database, and postgres/external is false"
        rows.append(("migrations", "warning", f"app/migrate: `{app.migrate}` is not run: {missing}"))
    return [Finding("stack", what, level, message) for what, level, message in rows]


def sums(ctx: Context) -> Iterator[Row]:
    """Sizes and names of what this host would hold, without asking it."""
    inventory, roles = ctx.inventory, ctx.host.roles
    if "cache" in roles and not inventory.redis.external:
        yield _row("redis", lambda: _redis(ctx))
    if "database" in roles and not inventory.postgres.external:
        yield _row("postgres", lambda: f"{postgres.version(ctx)}, database {postgres.database_name(ctx)}")
    if "pooler" in roles and has_database(ctx):
        yield _row("pool", lambda: _pool(ctx))
        number = ".".join(str(part) for part in pgbouncer.version(ctx))
        note = prepared_note(ctx) if pooled(ctx) else ""
        yield (
            "pgbouncer",
            "warning" if note else "ok",
            note.removeprefix("pgbouncer: ") or f"{number}: prepared statements work",
        )
    for role in PORTS:
        try:
            networks_of(ctx, clients(ctx, role), f"ports of the role {role}")
        except ValueError as error:
            yield "private", "error", str(error)


def _row(what: str, words: Callable[[], str]) -> Row:
    try:
        return what, "ok", words()
    except ValueError as error:
        return what, "error", str(error)


def _redis(ctx: Context) -> str:
    sentinel.refuse_old_redis(ctx)
    redis_users.app_user(ctx)
    sizes = {name: redis.memory_mb(ctx, name) for name in INSTANCES}
    return f"{sizes['cache']} MiB for the cache, {sizes['durable']} MiB durable, of {ctx.me.memory_mb} MiB"


def _pool(ctx: Context) -> str:
    pgbouncer.refuse_unknown_suite(ctx)
    return pgbouncer.pools(ctx).explain()


def _elsewhere(session: Session, ctx: Context) -> Iterator[Row]:
    """Services that this host uses: those of the user's own, and the stack's database once there has to be one."""
    inventory, roles = ctx.inventory, set(ctx.host.roles)
    if inventory.postgres.external and roles & {"app", "pooler"}:
        try:
            what, level, message = log_in(session, parse(ctx.secret("database_url")))
            through = pooled(ctx) and "pooler" not in roles  # the app itself does not go there
            yield what, "warning" if through and level == "error" else level, message
        except (ValueError, InventoryError) as error:
            yield "database", "error", str(error)
    if "pooler" in roles and inventory.with_role("database") and _installed(ctx):
        what, level, message = log_in(session, endpoint(ctx, ctx.name), OWN)
        yield what, "warning" if level == "error" else level, message
    if inventory.redis.external and "app" in roles:
        for name in INSTANCES:
            try:
                yield _reach(session, f"redis {name}", *_address(ctx.secret(f"redis_{name}_url"), name))
            except (ValueError, InventoryError) as error:
                yield f"redis {name}", "error", str(error)


def _installed(ctx: Context) -> bool:
    """Whether an earlier run has brought the stack's own database."""
    own = not ctx.inventory.postgres.external
    return own and ctx.me.phase in ROADMAP and ROADMAP.index(ctx.me.phase) >= ROADMAP.index("phase2")


def _address(url: str, name: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 6379
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme not in ("redis", "rediss"):
        raise ValueError(
            f"secret redis_{name}_url: is not a URL such as rediss://user:password@cache.example.com:6379. "
            f"Set it: provision secrets set redis_{name}_url"
        )
    return host, port


def _reach(session: Session, what: str, host: str, port: int, out: str = "Let this host in there") -> Row:
    """Whether the host gets a TCP connection. bash has what it needs for that on a machine without clients."""
    attempt = f": </dev/tcp/{host}/{port}"
    result = session.run(f"timeout {CONNECT_SECONDS} bash -c {shlex.quote(attempt)}", check=False)
    if result.ok:
        return what, "ok", f"{host}:{port} can be reached"
    reason = result.err.strip().splitlines()[0].rpartition(": ")[2] if result.err.strip() else "no answer"
    return what, "error", f"{host}:{port} cannot be reached from here: {reason}. {out}"


def log_in(session: Session, database: Endpoint, ways_out: tuple[str, str] = EXTERNAL) -> Row:
    """Whether the database lets its user in; without psql on the host only whether it can be reached.

    ``ways_out``: what to do when it cannot be reached, and when it lets nobody in.
    """
    reached = _reach(session, "database", database.host, database.port, ways_out[0])
    if reached[1] != "ok":
        return reached
    settings = {
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGUSER": database.user,
        "PGPASSWORD": database.password,
        "PGDATABASE": database.name,
        "PGSSLMODE": database.tls,
        "PGSSLROOTCERT": "/etc/ssl/certs/ca-certificates.crt" if database.tls.startswith("verify") else "",
        "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
    }
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items() if value)
    script = (  # read by the root shell from its standard input, so the password is no argument of anything
        f"( if ! command -v psql >/dev/null; then echo absent; exit; fi; cd /; export {given}; "
        f"psql -X -w -A -t -c \"SELECT '{ACCEPTED}'\" </dev/null )"
    )
    result = session.run_words([script], timeout=4 * CONNECT_SECONDS)[0]
    if result.out.strip() == "absent":
        return "database", "ok", f"{reached[2]}; its password was not tried, because this host has no psql yet"
    if result.out.strip() == ACCEPTED:
        return "database", "ok", f"{reached[2]}, and lets {database.user} in"
    said = (result.err.strip().splitlines() or ["no answer"])[-1].rpartition("FATAL:")[2].strip()
    where = f"{database.host}:{database.port}"
    return "database", "error", f"{where} does not let {database.user} in: {said}. {ways_out[1]}"
