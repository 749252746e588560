"""Postgres: who gets in, what they may do, and that the settings are in force."""

import re
import secrets
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from roadbed.checks.instances import exposure
from roadbed.checks.pgwire import PgClient, PgError
from roadbed.deploys.context import Context
from roadbed.deploys.memory import planned
from roadbed.deploys.peers import PORTS, listen_addresses
from roadbed.deploys.postgres import SQL_FILE, WRONG_RULES, database_name, owner_name, sizes, version
from roadbed.deploys.postgres_roles import AS_POSTGRES, expected_roles

Connect = Callable[..., PgClient]
EXPOSURE_LIMIT = 3.0
"""Debian's own unit scores 9.2; pg_ctlcluster starts as root and becomes postgres."""


def applies(ctx: Context) -> bool:
    """In the phases that bring PostgreSQL, unless the stack uses somebody else's."""
    return ctx.reached("phase2") and not ctx.inventory.postgres.external


@pytest.fixture
def connect(ctx: Context, tunnel: Callable[[int], str]) -> Iterator[Connect]:
    """``connect("app")``: a connection as the app's user or as the owner, past PgBouncer."""
    opened: list[PgClient] = []

    def login(who: str, password: str | None = None, database: str | None = None) -> PgClient:
        port = int(tunnel(PORTS["database"][0]).rpartition(":")[2])
        user = {"app": database_name(ctx), "owner": owner_name(ctx)}[who]
        secret = ctx.secret(f"postgres_{who}_password") if password is None else password
        opened.append(PgClient(port, user, secret, database or database_name(ctx)))
        return opened[-1]

    yield login
    for client in opened:
        client.close()


@pytest.fixture
def table(connect: Connect) -> Iterator[str]:
    """A table that a migration has just made."""
    name, owner = f"roadbed_check_{secrets.token_hex(4)}", connect("owner")
    owner.query(f"CREATE TABLE {name} (id serial PRIMARY KEY, word text)")
    yield name
    owner.query(f"DROP TABLE {name}")


def _ask(host: Host, sql: str) -> str:
    return str(host.check_output(f'{AS_POSTGRES} -c "{sql}"'))


def test_server_runs(host: Host, ctx: Context) -> None:
    """PostgreSQL runs, and starts at boot."""
    unit = host.service(f"postgresql@{version(ctx)}-main")
    assert unit.is_running
    assert unit.is_enabled


@pytest.mark.parametrize("who", ["app", "owner"])
def test_login(connect: Connect, who: str) -> None:
    """The user logs in with its password by SCRAM, and with no other."""
    assert connect(who).query("SELECT 1") == [["1"]]
    with pytest.raises(PgError, match="28P01"):
        connect(who, "wrong")


def test_app_reads_and_writes_rows(connect: Connect, table: str) -> None:
    """The app reads and writes rows of a table that a migration has just made."""
    app = connect("app")
    statements = [
        "INSERT INTO TABLE_NAME (word) VALUES ('one')",
        "UPDATE TABLE_NAME SET word = 'two'",
        "SELECT id, word FROM TABLE_NAME",
        "DELETE FROM TABLE_NAME",
    ]
    rows = [app.query(statement.replace("TABLE_NAME", table)) for statement in statements]
    assert rows == [[], [], [["1", "two"]], []]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE {table}",
        "TRUNCATE {table}",
        "ALTER TABLE {table} ADD COLUMN more text",
        "CREATE TABLE roadbed_check_new (id int)",
        "CREATE SCHEMA roadbed_check_new",
        "CREATE TEMPORARY TABLE roadbed_check_new (id int)",
        "SELECT rolpassword FROM pg_authid",
        "COPY {table} FROM PROGRAM 'id'",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_app_may_not(connect: Connect, table: str, statement: str) -> None:
    """The app is refused what only migrations or administrators need."""
    with pytest.raises(PgError, match="42501"):
        connect("app").query(statement.format(table=table))


def test_app_sees_no_other_database(connect: Connect) -> None:
    """The app's user gets into its own database alone."""
    with pytest.raises(PgError, match="28000"):
        connect("app", database="postgres")


def test_users_are_those_of_the_stack(host: Host, ctx: Context) -> None:
    """Nobody else can log in, and every password is kept as a SCRAM verifier of the stack's."""
    found = _ask(host, "SELECT rolname FROM pg_authid WHERE rolcanlogin ORDER BY 1").split()
    name, owner = database_name(ctx), owner_name(ctx)
    assert sorted(found) == sorted(["postgres", name, owner])
    hashes = _ask(
        host,
        "SELECT 'role ' || rolname || '=' || encode(sha256(rolpassword::bytea), 'hex') FROM pg_authid "
        "WHERE rolcanlogin AND rolpassword IS NOT NULL",
    )
    wanted = {key: value for key, value in expected_roles(ctx, name, owner).items() if key.startswith("role ")}
    assert dict(line.split("=") for line in hashes.splitlines()) == wanted


def test_access_rules(host: Host) -> None:
    """Over the network SCRAM alone is accepted, from another host with TLS alone, and no rule is broken."""
    assert _ask(host, WRONG_RULES) == ""
    rules = _ask(host, "SELECT type, address, auth_method FROM pg_hba_file_rules WHERE type <> 'local'").splitlines()
    assert rules
    for rule in rules:
        kind, address, method = rule.split("|")
        assert method == "scram-sha-256", rule
        assert (kind == "host") == (address == "127.0.0.1"), rule


def test_settings_are_in_force(host: Host, ctx: Context) -> None:
    """The server runs on the settings of the inventory: none is wrong, none waits for a restart."""
    assert _ask(host, "SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL") == ""
    assert _ask(host, "SELECT name FROM pg_settings WHERE pending_restart") == ""
    settings = ctx.inventory.postgres
    wanted = {
        **sizes(planned(ctx, "database"), settings.max_connections),
        "max_connections": str(settings.max_connections),
    }
    for name, value in wanted.items():
        same = f"SELECT pg_size_bytes(current_setting('{name}')) = pg_size_bytes('{value}')"
        assert _ask(host, same) == "t", name
    for name, value in {"ssl": "on", "data_checksums": "on", "password_encryption": "scram-sha-256"}.items():
        assert _ask(host, f"SHOW {name}") == value


def test_connections_are_left(host: Host, ctx: Context, measure: Callable[..., None]) -> None:
    """The server has connections to spare."""
    used = int(_ask(host, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"))
    measure("connections in use", used, "", ctx.inventory.postgres.max_connections * 0.9)


def test_listens_where_it_is_needed(host: Host, ctx: Context) -> None:
    """PostgreSQL listens on loopback, and on the inside address only if another host needs it."""
    lines = host.check_output("ss -H -l -n -t -p").splitlines()
    found = sorted(line.split()[3] for line in lines if '"postgres"' in line)
    assert found == sorted(f"{address}:{PORTS['database'][0]}" for address in listen_addresses(ctx, "database"))


def test_no_secret_is_open_or_logged(host: Host) -> None:
    """Neither a password nor its verifier stands in the server's log or in a file that others can read."""
    assert host.check_output(f"stat -c '%a %U' {SQL_FILE}") == "600 root"
    lines = host.check_output("grep -hE 'SCRAM-SHA-256.[0-9]|PASSWORD .' /var/log/postgresql/*.log || true")
    assert re.sub(r"\s", "", lines) == ""


def test_sandbox(host: Host, ctx: Context, measure: Callable[..., None]) -> None:
    """systemd's own rating of the sandbox is 3.0 or better."""
    measure("exposure", exposure(host, f"postgresql@{version(ctx)}-main.service"), "points", EXPOSURE_LIMIT)
