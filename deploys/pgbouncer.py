"""Pgbouncer: a few server connections for many instances of the app, handed out for one transaction at a time."""

import shlex
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator
from pyinfra.operations import apt, systemd

from .database import endpoint
from .files import DAEMON_RELOAD, settle, write_file, write_template
from .model import Settings
from .packages import refresh_package_lists
from .peers import PORTS, clients, listen_addresses
from .pools import Demand, Pools, solve
from .scram import verifier

if TYPE_CHECKING:
    from .context import Context

ROLES = ("pooler",)
NEEDS = ("base", "firewall", "postgres")
SECRETS = ("pgbouncer_admin_password",)
ADMIN = "roadbed"
PORT = PORTS["pooler"][0]
FOLDER = "/etc/pgbouncer"
CHECK = "/usr/local/lib/roadbed/pgbouncer-check"
CONSOLE = f"runuser -u postgres -- psql -X -q -h /run/postgresql -p {PORT} -U pgbouncer pgbouncer -c"
"""Shell text before a command of PgBouncer's console, run in a folder that postgres may enter."""
RECONNECT = f"cd / && {CONSOLE} RECONNECT"
"""Shell text for after a migration: server connections are replaced as they come free, and with them what they
remember of the old schema ("cached plan must not change result type")."""
VERSIONS = {"jammy": (1, 16), "bookworm": (1, 18), "noble": (1, 22)}
"""PgBouncer of the supported suites; everything newer has at least 1.24."""
PGDG_SUITES = ("jammy", "bookworm", "noble", "trixie")
PREPARED_SINCE = (1, 21)
"""Prepared statements of the protocol in transaction pooling (https://www.pgbouncer.org/changelog.html)."""
MAX_PREPARED = 200


class PgbouncerSettings(Settings):
    """The pool of database connections."""

    source: Literal["distro", "pgdg"] = Field(
        "distro", description="distro: the suite's package; pgdg: the PostgreSQL project's, newer on Debian 12."
    )
    pool_size: int | Literal["auto"] = Field(
        "auto", description="Server connections each PgBouncer opens; auto: from app.database.pool and max_connections."
    )
    max_client_conn: int | Literal["auto"] = Field(
        "auto", description="Clients each PgBouncer lets in; auto: from the app's instances."
    )
    query_wait: int = Field(
        20, ge=1, le=600, description="Longest wait of a query for a free server connection in seconds."
    )
    verify_requests: int = Field(
        500,
        ge=10,
        le=5000,
        description="Requests at once by which the checks see that the pools hold; below pool_size they prove little.",
    )

    @field_validator("pool_size", "max_client_conn")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{value} is below 1. Write auto, or a number of connections")
        return value


def version(ctx: "Context", host: str | None = None) -> tuple[int, int]:
    """Version of PgBouncer on ``host`` (default: this one), as far as it matters."""
    if ctx.inventory.pgbouncer.source == "pgdg":
        return (1, 25)
    return VERSIONS.get(ctx.facts[host or ctx.name].codename, (1, 24))


def pools(ctx: "Context") -> Pools:
    """Sizes of each PgBouncer of the stack. A host that did not answer counts like the largest that did.

    Raises ValueError, with the sum, when the inventory asks for more connections than there are.
    """
    inventory, settings = ctx.inventory, ctx.inventory.pgbouncer
    hosts = inventory.with_role("app")
    known = {host: ctx.sizing(host).replicas for host in hosts if host in ctx.facts}
    instances = sum(known.get(host, max(known.values(), default=1)) for host in hosts)
    return solve(
        Demand(
            instances=instances,
            pool=inventory.app.database.pool,
            max_connections=inventory.postgres.max_connections,
            poolers=len(inventory.with_role("pooler")),
            pool_size=settings.pool_size if isinstance(settings.pool_size, int) else None,
            max_client_conn=settings.max_client_conn if isinstance(settings.max_client_conn, int) else None,
        )
    )


def userlist(ctx: "Context") -> str:
    """The users of PgBouncer. For a server of the stack no password stands in it, but the server's own verifiers.

    A verifier is enough to let a client in, and what the client proves is enough to log in to the server
    (https://www.pgbouncer.org/config.html, auth_file). For a server of the user's own its salt is not known,
    so the password itself has to be here.
    """
    database = endpoint(ctx, ctx.name)
    password = database.password if ctx.inventory.postgres.external else verifier(database.user, database.password)
    admin = verifier(ADMIN, ctx.secret("pgbouncer_admin_password"))
    lines = [(database.user, password), (ADMIN, admin)]
    return "".join(f"{_quoted(name)} {_quoted(secret)}\n" for name, secret in lines)


def _quoted(text: str) -> str:
    escaped = text.replace('"', '""')
    return f'"{escaped}"'


def _values(ctx: "Context") -> dict[str, Any]:
    return {
        "database": endpoint(ctx, ctx.name),
        "pools": pools(ctx),
        "prepared": MAX_PREPARED if version(ctx) >= PREPARED_SINCE else 0,
        "admin": ADMIN,
    }


def deploy(ctx: "Context") -> None:
    """PgBouncer with its users; settings that it can take over without dropping clients are reloaded."""
    settings, values = ctx.inventory.pgbouncer, _values(ctx)
    if settings.source == "pgdg":
        _pgdg(ctx)
    apt.packages(name="Install PgBouncer", packages=["pgbouncer", "postgresql-client"], no_recommends=True)
    write_template("pgbouncer", CHECK, ctx, mode="755", validate="sh -n {file}")
    drop_in = "/etc/systemd/system/pgbouncer.service.d/roadbed.conf"
    write_template("pgbouncer", drop_in, ctx, values=values, debts=(DAEMON_RELOAD, "pgbouncer-restart"))
    settle(name="Have systemd read its units", debt=DAEMON_RELOAD)
    write_file(
        name="Write the users of PgBouncer",
        dest=f"{FOLDER}/userlist.txt",
        content=userlist(ctx),
        debts=("pgbouncer-reload",),
        mode="640",
        group="postgres",
    )
    listen = {"addresses": listen_addresses(ctx, "pooler"), "port": PORT, "remote": bool(clients(ctx, "pooler"))}
    write_template(
        "pgbouncer",
        f"{FOLDER}/listen.ini",
        ctx,
        values=listen,
        mode="640",
        group="postgres",
        debts=("pgbouncer-restart",),
    )
    write_template(
        "pgbouncer",
        f"{FOLDER}/pgbouncer.ini",
        ctx,
        values=values,
        validate=f"{CHECK} {{file}}",
        debts=("pgbouncer-reload",),
        mode="640",
        group="postgres",
    )
    database = values["database"]
    healthy = f"pg_isready -q -h 127.0.0.1 -p {PORT} -U {shlex.quote(database.user)} -d {shlex.quote(database.name)}"
    settle(
        name="Restart PgBouncer on new settings",
        debt="pgbouncer-restart",
        command="systemctl restart pgbouncer",
        healthy=healthy,
    )
    settle(
        name="Reload PgBouncer on new settings",
        debt="pgbouncer-reload",
        command="systemctl reload-or-restart pgbouncer",
        healthy=healthy,
    )
    systemd.service(name="Start PgBouncer now and at boot", service="pgbouncer", running=True, enabled=True)


def refuse_unknown_suite(ctx: "Context") -> None:
    """Raises ValueError when the PostgreSQL project's packages are wanted and there are none for this host."""
    if ctx.inventory.pgbouncer.source == "pgdg" and ctx.me.codename not in PGDG_SUITES:
        raise ValueError(
            f"pgbouncer/source: pgdg has no packages for '{ctx.me.codename}'. Write distro: it brings a newer one"
        )


def _pgdg(ctx: "Context") -> None:
    """The PostgreSQL project's repository for PgBouncer alone; postgresql-common of the suite brings its key."""
    refuse_unknown_suite(ctx)
    apt.packages(name="Install the key of the PostgreSQL project", packages=["postgresql-common"], no_recommends=True)
    for path in ("/etc/apt/preferences.d/roadbed-pgdg", "/etc/apt/sources.list.d/roadbed-pgdg.sources"):
        write_template("pgbouncer", path, ctx)
    refresh_package_lists(name="Update the package lists", hours=24)
