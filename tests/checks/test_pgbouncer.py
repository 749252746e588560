"""Pgbouncer: many clients over few server connections, and prepared statements as Roadbed says they are."""

import secrets
import time
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from roadbed.checks.instances import exposure, show
from roadbed.checks.pgwire import PgClient, PgError
from roadbed.deploys.context import Context
from roadbed.deploys.database import endpoint
from roadbed.deploys.peers import listen_addresses
from roadbed.deploys.pgbouncer import ADMIN, FOLDER, MAX_PREPARED, PORT, PREPARED_SINCE, pools, version
from roadbed.engine.preflight_data import EXTERNAL, OWN, log_in
from roadbed.engine.session import Session

Connect = Callable[..., PgClient]
CLIENTS = 100
EXPOSURE_LIMIT = 1.5
"""Debian's own unit scores 9.2."""
ENCRYPTED = ("require", "verify-ca", "verify-full")


def applies(ctx: Context) -> bool:
    """In the phases that bring PgBouncer."""
    return ctx.reached("phase2")


@pytest.fixture
def connect(ctx: Context, tunnel: Callable[[int], str]) -> Iterator[Connect]:
    """``connect()``: a connection as the app; ``connect("admin")``: PgBouncer's console."""
    opened: list[PgClient] = []
    database = endpoint(ctx, ctx.name)
    port = int(tunnel(PORT).rpartition(":")[2])
    logins = {
        "app": (database.user, database.password, database.name),
        "admin": (ADMIN, ctx.secret("pgbouncer_admin_password"), "pgbouncer"),
    }

    def login(who: str = "app", **other: str) -> PgClient:
        user, password, name = logins[who]
        opened.append(PgClient(port, user, other.get("password", password), other.get("database", name)))
        return opened[-1]

    yield login
    for client in opened:
        client.close()


@pytest.fixture
def console(connect: Connect) -> Callable[[str], list[dict[str, str]]]:
    """``console("SHOW POOLS")``: the rows with the names of their columns."""
    client = connect("admin")
    return client.table


def test_pgbouncer_runs(host: Host) -> None:
    """PgBouncer runs, and starts at boot."""
    assert host.service("pgbouncer").is_running
    assert host.service("pgbouncer").is_enabled


def test_reaches_the_database(connect: Connect, session: Session, ctx: Context) -> None:
    """PgBouncer gets through to the database and is let in."""
    try:
        assert connect().query("SELECT 1") == [["1"]]
    except (PgError, TimeoutError) as error:  # clients of PgBouncer do not hear the reason: the host is asked for it
        external = ctx.inventory.postgres.external
        _, level, said = log_in(session, endpoint(ctx, ctx.name), EXTERNAL if external else OWN)
        out = "" if level == "error" else ". PgBouncer itself is not: run the phase again"
        pytest.fail(f"{said}{out} (a client of PgBouncer: {error})", pytrace=False)


def test_query(connect: Connect, measure: Callable[..., None]) -> None:
    """The app logs in with its password and gets an answer from PostgreSQL."""
    client = connect()
    assert client.query("SELECT 1") == [["1"]]
    begin = time.monotonic()
    for _ in range(50):
        client.query("SELECT 1")
    measure("query through PgBouncer and the tunnel", (time.monotonic() - begin) * 1000 / 50, "ms", 250)


def test_wrong_password(connect: Connect) -> None:
    """A wrong password is refused, for the app and for the console."""
    for who in ("app", "admin"):
        with pytest.raises(PgError, match=r"28P01|08P01"):
            connect(who, password="wrong")  # noqa: S106


def test_console_is_closed_to_the_app(connect: Connect) -> None:
    """The app's password does not open PgBouncer's console."""
    with pytest.raises(PgError):
        connect("app", database="pgbouncer").query("SHOW POOLS")


def test_sizes(console: Callable[[str], list[dict[str, str]]], ctx: Context) -> None:
    """PgBouncer runs on the sizes that the sum gave."""
    wanted, found = pools(ctx), {row["key"]: row["value"] for row in console("SHOW CONFIG")}
    assert found["pool_mode"] == "transaction"
    assert int(found["default_pool_size"]) == int(found["max_db_connections"]) == wanted.pool_size
    assert int(found["max_client_conn"]) == wanted.max_client_conn
    assert int(found["query_wait_timeout"]) == ctx.inventory.pgbouncer.query_wait


def test_many_clients_few_connections(
    connect: Connect,
    console: Callable[[str], list[dict[str, str]]],
    ctx: Context,
    measure: Callable[..., None],
) -> None:
    """100 clients that ask at once are all answered, over no more server connections than the pool has."""
    clients = [connect() for _ in range(CLIENTS)]
    begin = time.monotonic()
    for client in clients:
        client.send("SELECT pg_backend_pid() FROM pg_sleep(0.02)")
    backends = {client.answer()[0][0] for client in clients}
    took = (time.monotonic() - begin) * 1000
    name = endpoint(ctx, ctx.name).name
    servers = sum(
        int(row["sv_active"]) + int(row["sv_idle"]) for row in console("SHOW POOLS") if row["database"] == name
    )
    measure("server connections", max(servers, len(backends)), "", pools(ctx).pool_size)
    measure("100 queries of 20 ms", took, "ms", ctx.inventory.pgbouncer.query_wait * 1000)


def test_prepared_statements_are_as_claimed(connect: Connect, ctx: Context) -> None:
    """A statement prepared on one server connection works on another exactly if PgBouncer is new enough for it."""
    first, name = connect(), f"roadbed_{secrets.token_hex(6)}"
    first.prepare(name, "SELECT pg_backend_pid()")
    holders = [connect() for _ in range(pools(ctx).pool_size - 1)]
    prepared_on = first.query("SELECT pg_backend_pid()")
    taken = []
    for holder in holders:  # in the end first has to go to a connection that it has not prepared on
        holder.query("BEGIN")
        taken.append(holder.query("SELECT pg_backend_pid()"))
        if prepared_on in taken:
            break
    try:
        outcome = "works" if first.execute(name) not in (prepared_on, *taken) else "nothing was tried"
    except PgError as error:
        outcome = error.code
    for holder in holders[: len(taken)]:
        holder.query("ROLLBACK")
    connect("admin").query("RECONNECT")  # the server connection forgets the statement
    assert outcome == ("works" if version(ctx) >= PREPARED_SINCE else "26000")


def test_version_is_as_claimed(console: Callable[[str], list[dict[str, str]]], ctx: Context) -> None:
    """The installed PgBouncer is the version that Roadbed plans with, or newer."""
    words = console("SHOW VERSION")[0]["version"].split()[1].split(".")
    assert (int(words[0]), int(words[1])) >= version(ctx)
    config = {row["key"]: row["value"] for row in console("SHOW CONFIG")}
    prepared = MAX_PREPARED if version(ctx) >= PREPARED_SINCE else 0
    assert int(config.get("max_prepared_statements", 0)) == prepared


def test_server_connections_are_encrypted_between_hosts(
    connect: Connect, console: Callable[[str], list[dict[str, str]]], ctx: Context
) -> None:
    """A connection to a database on another host uses TLS."""
    database = endpoint(ctx, ctx.name)
    connect().query("SELECT 1")
    rows = [row for row in console("SHOW SERVERS") if row["database"] == database.name]
    assert rows
    assert [row["tls"] for row in rows if not row["tls"] and database.tls in ENCRYPTED] == []


def test_listens_where_it_is_needed(host: Host, ctx: Context) -> None:
    """PgBouncer listens on loopback, and on the inside address only if another host needs it."""
    lines = host.check_output("ss -H -l -n -t -p").splitlines()
    found = sorted(line.split()[3] for line in lines if '"pgbouncer"' in line)
    assert found == sorted(f"{address}:{PORT}" for address in listen_addresses(ctx, "pooler"))


def test_secrets_are_closed(host: Host, ctx: Context) -> None:
    """Others cannot read the users of PgBouncer, and the console's password stands nowhere on the host."""
    assert host.check_output(f"stat -c '%a %U %G' {FOLDER}/userlist.txt") == "640 root postgres"
    assert ctx.secret("pgbouncer_admin_password") not in host.file(f"{FOLDER}/userlist.txt").content_string


def test_sandbox(host: Host, measure: Callable[..., None]) -> None:
    """systemd's own rating of the sandbox is 1.5 or better, and there are file handles for every client."""
    assert show(host, "pgbouncer.service", "User") == "postgres"
    measure("exposure", exposure(host, "pgbouncer.service"), "points", EXPOSURE_LIMIT)
