"""Postgres: the distribution's PostgreSQL, a database with two users, and a nightly backup that can be restored."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from pyinfra.operations import apt, files, systemd

from .files import DAEMON_RELOAD, settle, write_file, write_template
from .memory import planned
from .model import Settings
from .peers import clients, listen_addresses, networks_of
from .postgres_cluster import make_cluster, refuse_other_clusters
from .postgres_roles import AS_POSTGRES, expected_roles, mend_roles, verifiers
from .render import render

if TYPE_CHECKING:
    from .context import Context

ROLES = ("database",)
NEEDS = ("base", "firewall")
SECRETS = ("postgres_app_password", "postgres_owner_password")
VERSIONS = {"jammy": "14", "bookworm": "15", "noble": "16", "trixie": "17", "resolute": "18"}
"""PostgreSQL of the supported suites."""
SQL_FILE = "/etc/roadbed/postgres.sql"
BACKUP = "/usr/local/lib/roadbed/backup"
RESTORE_CHECK = "/usr/local/lib/roadbed/restore-check"
SWAP = "/usr/local/lib/roadbed/swap-database"
BACKUPS = "/var/backups/roadbed"
TIMER = "roadbed-backup.timer"
WRONG_RULES = "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL"
FORBIDDEN = (
    "all",
    "none",
    "postgres",
    "public",
    "replication",
    "samegroup",
    "samerole",
    "sameuser",
    "template0",
    "template1",
)
"""Names that mean something else in SQL or in pg_hba.conf."""


class PostgresSettings(Settings):
    """The database of the app."""

    external: bool = Field(False, description="Use a server of your own: store its URL as the secret database_url.")
    max_connections: int = Field(100, ge=20, le=2000, description="Connections the server allows.")
    backup: str | Literal["off"] = Field(
        "02:30",
        pattern=r"^(off|([01][0-9]|2[0-3]):[0-5][0-9])$",
        description="Time of day of the backup, HH:MM; or off.",
    )
    backup_days: int = Field(14, ge=1, le=3650, description="Days that a backup is kept. The newest always is.")


def version(ctx: "Context") -> str:
    """Major version of the suite's PostgreSQL. Raises ValueError for a suite that Roadbed does not know."""
    try:
        return VERSIONS[ctx.me.codename]
    except KeyError:
        raise ValueError(
            f"postgres: the PostgreSQL of '{ctx.me.codename}' is not known. Suites: {', '.join(VERSIONS)}"
        ) from None


def database_name(ctx: "Context") -> str:
    """Name of the database and of the app's user: app.name with _ for -, so that it needs no quotes anywhere.

    Raises ValueError for a name that PostgreSQL keeps for itself.
    """
    name = ctx.inventory.app.name.replace("-", "_")
    if name in FORBIDDEN or name.startswith("pg_"):
        raise ValueError(f"app/name: PostgreSQL keeps the name '{name}' for itself. Choose another")
    return name


def owner_name(ctx: "Context") -> str:
    """The user that owns the schema and runs the migrations."""
    return f"{database_name(ctx)}_owner"


def sizes(share_mb: int, max_connections: int) -> dict[str, str]:
    """Memory settings for a server that may plan with ``share_mb`` MiB.

    shared_buffers: a quarter (https://www.postgresql.org/docs/current/runtime-config-resource.html).
    effective_cache_size: three quarters; it is an estimate and takes nothing. work_mem: what a sort or hash
    may take; a quarter of the share over all connections, 4-64 MB, because a query can take it several times.
    maintenance_work_mem: a sixteenth, at most 1 GB, because only few run at a time.
    """
    return {
        "shared_buffers": f"{max(16, share_mb // 4)}MB",
        "effective_cache_size": f"{max(32, share_mb * 3 // 4)}MB",
        "work_mem": f"{min(64, max(4, share_mb // 4 // max_connections))}MB",
        "maintenance_work_mem": f"{min(1024, max(32, share_mb // 16))}MB",
    }


def access(ctx: "Context") -> list[tuple[str, str, str, str]]:
    """Lines of pg_hba.conf for the network: (type, user, source, method).

    From other hosts with TLS alone: from poolers, and from app hosts for migrations.
    """
    app, owner = database_name(ctx), owner_name(ctx)
    lines = [("host", f"{app},{owner}", "127.0.0.1/32", "scram-sha-256")]
    others = clients(ctx, "database")
    sources = networks_of(ctx, others, "database ports")
    return lines + [("hostssl", f"{app},{owner}", source, "scram-sha-256") for source in sources]


def deploy(ctx: "Context") -> None:
    """Server, access rules, database with its users, backup."""
    if ctx.inventory.postgres.external:
        return
    number = version(ctx)
    main, unit = f"/etc/postgresql/{number}/main", f"postgresql@{number}-main"
    ready = "pg_isready -q -h /run/postgresql"
    refuse_other_clusters(name="Look for a cluster of another version", version=number)
    write_template("postgres", "/etc/postgresql-common/createcluster.d/roadbed.conf", ctx)
    apt.packages(
        name=f"Install PostgreSQL {number}",
        packages=[f"postgresql-{number}", f"postgresql-client-{number}"],
        no_recommends=True,
    )
    make_cluster(name="Make the cluster if there is none", version=number)
    drop_in = "/etc/systemd/system/postgresql@.service.d/roadbed.conf"
    write_template("postgres", drop_in, ctx, debts=(DAEMON_RELOAD, "postgres-restart"))
    settle(name="Have systemd read its units", debt=DAEMON_RELOAD)
    _settings(ctx, main, number)
    settle(
        name="Restart PostgreSQL on new settings",
        debt="postgres-restart",
        command=f"systemctl restart {unit}",
        healthy=ready,
    )
    systemd.service(name="Start PostgreSQL now and at boot", service=unit, running=True, enabled=True)
    write_file(
        name="Write the access rules",
        dest=f"{main}/pg_hba.conf",
        content=render(
            "postgres", "/etc/postgresql/main/pg_hba.conf", ctx, lines=access(ctx), database=database_name(ctx)
        ),
        mode="640",
        user="postgres",
        group="postgres",
        debts=("postgres-reload",),
    )
    settle(
        name="Reload PostgreSQL on new access rules",
        debt="postgres-reload",
        command=f"systemctl reload {unit}",
        healthy=f'[ -z "$({AS_POSTGRES} -c "{WRONG_RULES}" | tee /dev/stderr)" ]',
    )
    _database(ctx)
    _backup(ctx)


def _settings(ctx: "Context", main: str, number: str) -> None:
    settings = ctx.inventory.postgres
    values = {
        "addresses": listen_addresses(ctx, "database"),
        "sizes": sizes(planned(ctx, "database"), settings.max_connections),
        "compression": "lz4" if int(number) >= 15 else "on",
    }
    parse = f"runuser -u postgres -- /usr/lib/postgresql/{number}/bin/postgres -C max_connections"
    write_file(
        name="Write the settings of PostgreSQL",
        dest=f"{main}/conf.d/roadbed.conf",
        content=render("postgres", "/etc/postgresql/main/conf.d/roadbed.conf", ctx, **values),
        validate=f"{parse} -D /var/lib/postgresql/{number}/main -c config_file={{file}} >/dev/null",
        debts=("postgres-restart",),
    )


def _database(ctx: "Context") -> None:
    name, owner = database_name(ctx), owner_name(ctx)
    values = {"roles": verifiers(ctx, name, owner), "name": name, "owner": owner}
    write_template("postgres", SQL_FILE, ctx, values=values, mode="600", debts=("postgres-roles",))
    settle(
        name="Make the database and its users",
        debt="postgres-roles",
        command=f"{AS_POSTGRES} <{SQL_FILE}",
        healthy="true",
    )
    mend_roles(
        name="Mend the database and its users",
        file=SQL_FILE,
        expected=expected_roles(ctx, name, owner),
    )


def _backup(ctx: "Context") -> None:
    settings, units = ctx.inventory.postgres, "/etc/systemd/system"
    folder = f"{BACKUPS}/{ctx.inventory.app.name}"
    files.directory(name=f"Create {BACKUPS}", path=BACKUPS, user="root", group="postgres", mode="750")
    files.directory(name=f"Create {folder}", path=folder, user="postgres", group="postgres", mode="700")
    values: dict[str, Any] = {
        "database": database_name(ctx),
        "owner": owner_name(ctx),
        "folder": folder,
        "sql": SQL_FILE,
    }
    for script in (BACKUP, RESTORE_CHECK, SWAP):
        write_template("postgres", script, ctx, values=values, mode="755", validate="bash -n {file}")
    values = {"backup": BACKUP, "folder": folder}
    for unit in ("roadbed-backup.service", TIMER):
        write_template("postgres", f"{units}/{unit}", ctx, values=values, debts=(DAEMON_RELOAD,))
    settle(name="Have systemd read the units of the backup", debt=DAEMON_RELOAD)
    on = settings.backup != "off"
    systemd.service(name=f"{'Start' if on else 'Stop'} the timer of the backup", service=TIMER, running=on, enabled=on)
