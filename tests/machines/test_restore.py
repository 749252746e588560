"""Backups and the way back, on one host with database and pool: what is restored, and what a failure leaves alone."""

import json
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pyrage
import pytest

from roadbed.checks.pgwire import PgClient, PgError
from roadbed.engine.secrets import Secrets
from roadbed.machines import nspawn
from roadbed.machines.model import MachineSpec

from .conftest import PROVISION, Stack, make_stack, spec
from .data_access import converge
from .tunnels import tunnel

pytestmark = pytest.mark.long

COMPONENTS = ("base", "firewall", "postgres", "pgbouncer")
HOST = "restore-13"
FOLDER = "/var/backups/roadbed/storefront"
PSQL = "runuser -u postgres -- psql -X -q -A -t -v ON_ERROR_STOP=1"
SCHEMA = """
SET ROLE storefront_owner;
CREATE TYPE state AS ENUM ('new', 'paid');
CREATE TABLE orders (id serial PRIMARY KEY, state state NOT NULL DEFAULT 'new', note text);
CREATE INDEX orders_note ON orders (md5(note));
CREATE SCHEMA reports;
CREATE TABLE reports.daily AS SELECT now()::date AS day, 0 AS total;
GRANT SELECT ON reports.daily TO storefront;
CREATE VIEW paid AS SELECT * FROM orders WHERE state = 'paid';
RESET ROLE;
CREATE EXTENSION pgcrypto;
ALTER DATABASE storefront SET timezone TO 'Europe/Berlin';
ALTER ROLE storefront IN DATABASE storefront SET search_path TO public, reports;
"""
END_SLEEPERS = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE pid <> pg_backend_pid() AND query LIKE '%pg_sleep%'"""
SOMEBODY_WAITS = "SELECT 1 / count(*) FROM pg_locks WHERE NOT granted"
SHAPE = "pg_dump -s storefront | grep -v '^.restrict\\|^.unrestrict' | sha256sum"


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """PostgreSQL with some tables, and PgBouncer before it."""
    specs = [spec(HOST, 71, "trixie")]
    booted(specs)
    stack = make_stack(tmp_path_factory.mktemp("restore"), specs)
    stack.data["hosts"][HOST]["roles"] = ["web", "app", "database", "pooler"]
    stack.write()
    assert _converge(stack)["failed"] == {}
    stack.ssh(HOST, f"{PSQL} storefront", stdin=SCHEMA)
    return stack


def _converge(stack: Stack, *components: str) -> dict[str, Any]:
    return converge(stack, *(components or COMPONENTS))


@pytest.fixture
def pooled(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], PgClient]]:
    """``pooled()``: a connection through PgBouncer as the app."""
    monkeypatch.setenv("ROADBED_IDENTITY", stack.environment["ROADBED_IDENTITY"])
    password = Secrets(stack.path.with_name("stack.secrets.age")).get("postgres_app_password")
    with tunnel(HOST, 6432) as port:
        yield lambda: PgClient(port, "storefront", password, "storefront")


@pytest.fixture
def backup(stack: Stack) -> str:
    """A backup of 200 orders, after which 100 more came: its name."""
    _sql(stack, "TRUNCATE orders RESTART IDENTITY; INSERT INTO orders (note) SELECT n FROM generate_series(1, 200) n")
    time.sleep(1.1)  # a backup is named by its second
    name = str(json.loads(stack.provision("backup", "--json").stdout)["backup"]["name"])
    _sql(stack, "INSERT INTO orders (note) SELECT n FROM generate_series(201, 300) n")
    return name


def _sql(stack: Stack, sql: str, database: str = "storefront") -> str:
    return stack.ssh(HOST, f"{PSQL} {database}", stdin=sql).strip()


def _databases(stack: Stack) -> set[str]:
    return set(_sql(stack, "SELECT datname FROM pg_database", "postgres").split())


def _listed(stack: Stack, name: str) -> dict[str, Any]:
    rows = json.loads(stack.provision("restore", "--json").stdout)["backups"]
    return next(row for row in rows if row["name"] == name)


@contextmanager
def _as_it_was(stack: Stack) -> Iterator[None]:
    """The live database is the very same one afterwards, with its rows; and no other has come."""
    state = "SELECT oid FROM pg_database WHERE datname = 'storefront'; SELECT count(*), max(id) FROM orders"
    before = _sql(stack, state), _databases(stack)
    yield
    assert (_sql(stack, state), _databases(stack)) == before


def test_a_second_run_changes_nothing(stack: Stack) -> None:
    """Everything is in place after the first run."""
    assert _converge(stack) == {"failed": {}, "changed": []}


def test_check_restores_and_compares(stack: Stack, backup: str) -> None:
    """--check tells tables and rows, the list remembers it, and the scratch database is gone."""
    assert _listed(stack, backup)["good"] is None
    assert f"{backup}" in stack.provision("restore").stderr
    with _as_it_was(stack):
        result = json.loads(stack.provision("restore", "--check", "--json").stdout)
    assert (result["backup"], result["tables"], result["rows"]) == (backup, 2, 201)
    row = _listed(stack, backup)
    assert (row["good"], row["checked"]) == (True, "2 tables, 201 rows")
    assert row["database_size"] > row["size"] > 1000
    assert f"{backup} " in stack.provision("restore", backup, "--check").stderr


def test_into_leaves_a_database_beside_the_live_one(stack: Stack, backup: str) -> None:
    """The rows of then, in a database of the owner's that only the administrator gets into; twice is refused."""
    try:
        said = stack.provision("restore", backup, "--into", "shop_then").stderr
        assert "dropdb shop_then" in said
        assert _sql(stack, "SELECT count(*) FROM orders", "shop_then") == "200"
        owner = "SELECT pg_get_userbyid(datdba), datacl FROM pg_database WHERE datname = 'shop_then'"
        assert _sql(stack, owner).startswith("storefront_owner|{storefront_owner=")
        assert "PUBLIC" not in _sql(stack, owner)
        assert _sql(stack, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'reports')") == (
            "storefront_owner"
        )
        with _as_it_was(stack):
            assert (
                "there is a database shop_then already"
                in stack.provision("restore", backup, "--into", "shop_then", code=6).stderr
            )
        assert "database shop_then, " in stack.provision("restore").stderr
    finally:
        stack.ssh(HOST, "runuser -u postgres -- dropdb --if-exists shop_then")


def test_replace_swaps_while_clients_wait(stack: Stack, backup: str, pooled: Callable[[], PgClient]) -> None:
    """--replace under constant queries through the pool: none fails; the former rows are kept under a dated name."""
    shape = stack.ssh(HOST, f"cd / && runuser -u postgres -- {SHAPE}")
    with _asking(pooled) as asked:
        result = json.loads(stack.provision("restore", backup, "--replace", "--yes", "--json").stdout)
    print(f"\nswapped in {result['swap_seconds']} s; {len(asked.waits)} queries, longest {max(asked.waits):.2f} s")
    assert asked.failures == []
    assert max(asked.waits) < 5
    assert result["notes"] == []
    assert _sql(stack, "SELECT count(*), max(id) FROM orders") == "200|200"
    assert _sql(stack, "SELECT count(*) FROM orders", result["former"]) == "300"
    assert stack.ssh(HOST, f"cd / && runuser -u postgres -- {SHAPE}") == shape, "tables, owners and grants are the same"
    assert _listed(stack, result["present_state"])["size"] > 1000
    app = pooled()
    assert app.query("SHOW timezone") == [["Europe/Berlin"]]
    assert app.query("SHOW search_path") == [["public, reports"]]
    assert app.query("INSERT INTO orders (note) VALUES ('after') RETURNING id") == [["201"]]
    assert app.query("SELECT total FROM daily") == [["0"]]
    with pytest.raises(PgError, match="42501"):
        app.query("CREATE TABLE mine (id int)")
    _sql(stack, "SET ROLE storefront_owner; CREATE TABLE later (id int)")
    assert app.query("SELECT * FROM later") == []
    assert _converge(stack, "postgres", "pgbouncer") == {"failed": {}, "changed": []}
    stack.ssh(HOST, f"runuser -u postgres -- dropdb {result['former']}")


class _Asked:
    def __init__(self) -> None:
        self.waits: list[float] = []
        self.failures: list[str] = []


@contextmanager
def _asking(pooled: Callable[[], PgClient]) -> Iterator[_Asked]:
    """Two clients that keep their connection and ask something every 20 ms, as an app does."""
    asked, ended = _Asked(), threading.Event()

    def ask() -> None:
        client = pooled()
        while not ended.wait(0.02):
            began = time.monotonic()
            try:
                client.query("SELECT count(*) FROM orders")
            except (PgError, OSError) as error:
                asked.failures.append(str(error))
                client = pooled()
            asked.waits.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield asked
    ended.set()
    for thread in threads:
        thread.join(30)


def test_replace_ends_what_does_not_end(stack: Stack, backup: str, pooled: Callable[[], PgClient]) -> None:
    """A transaction that stays open, and a direct connection, are ended; that is said."""
    app = pooled()
    app.query("BEGIN")
    app.query("INSERT INTO orders (note) VALUES ('never committed')")
    sleeper = f"{PSQL} storefront -c 'SELECT pg_sleep(60)'"
    with subprocess.Popen(
        [*nspawn.ssh_command(HOST, user="root"), sleeper], stderr=subprocess.PIPE, text=True
    ) as direct:
        result = json.loads(stack.provision("restore", backup, "--replace", "--yes", "--json").stdout)
        assert direct.wait(20) != 0
    assert result["notes"] == [f"{HOST}: transactions that ran for more than 10 s were ended"]
    assert pooled().query("SELECT count(*) FROM orders") == [["200"]]
    assert _sql(stack, "SELECT count(*) FROM orders", result["former"]) == "300"
    stack.ssh(HOST, f"runuser -u postgres -- dropdb {result['former']}")


SPOILT = {
    "damaged": "printf X | dd of=F.dump bs=1 seek=$(($(stat -c %s F.dump) / 2)) conv=notrunc status=none",
    "checksum of its .dump": "truncate -s -100 F.dump",
    "checksum of its .rows": "sed -i 's/ 200$/ 201/' F.rows",
    "cannot be restored": "truncate -s -100 F.dump; SUM",
    "tables or rows differ (< public.orders 201 > public.orders 200": "sed -i 's/ 200$/ 201/' F.rows; SUM",
}
SUM = """for part in dump rows; do
  sed -i "s/^$part .*/$part $(sha256sum <F.$part | cut -d' ' -f1)/" F.info
done"""


@pytest.mark.parametrize("reason", SPOILT)
def test_bad_backup_is_refused(stack: Stack, backup: str, reason: str) -> None:
    """A flipped byte, a file cut off, rows that are missing: exit code 5, and the live database is as it was."""
    spoil = SPOILT[reason].replace("SUM", SUM).replace("F.", f"{FOLDER}/{backup}.")
    stack.ssh(HOST, f"cp -a {FOLDER} /root/good; {spoil}")
    try:
        with _as_it_was(stack):
            for words in (["--check"], ["--into", "shop_then"], ["--replace", "--yes"]):
                assert reason in stack.provision("restore", backup, *words, code=5).stderr
        row = _listed(stack, backup)
        assert row["good"] is False
        assert reason in row["checked"]
    finally:
        stack.ssh(HOST, f"cp -a /root/good/{backup}.* {FOLDER}/; rm -rf /root/good {FOLDER}/{backup}.checked")


def test_no_such_backup(stack: Stack) -> None:
    """A name that is in no list: exit code 4, with the names there are."""
    said = stack.provision("restore", "20200101T000000Z", "--replace", "--yes", code=4).stderr
    assert "has no backup 20200101T000000Z. Newest first: 20" in said


@contextmanager
def _locked(stack: Stack, seconds: int) -> Iterator[None]:
    """Somebody holds a lock on the live database, so that it cannot be renamed."""
    hold = f"{PSQL} postgres -c \"BEGIN; COMMENT ON DATABASE storefront IS 'x'; SELECT pg_sleep({seconds})\""
    with subprocess.Popen([*nspawn.ssh_command(HOST, user="root"), hold], stdout=subprocess.DEVNULL):
        yield
        _sql(stack, END_SLEEPERS, "postgres")


def test_refused_swap_changes_nothing(stack: Stack, backup: str, pooled: Callable[[], PgClient]) -> None:
    """When the database cannot be renamed: exit code 4, the scratch database goes, and the pool serves on."""
    with _as_it_was(stack), _locked(stack, 60):
        said = stack.provision("restore", backup, "--replace", "--yes", code=4).stderr
        assert "not swapped, the live database is as it was" in said
        assert pooled().query("SELECT count(*) FROM orders") == [["300"]]


def test_killed_in_the_pause_the_pool_resumes_by_itself(
    stack: Stack, backup: str, pooled: Callable[[], PgClient]
) -> None:
    """kill -9 of the command while clients wait: they are served again within half a minute, from what was there."""
    words = [PROVISION, "restore", backup, "--replace", "--yes", "-i", str(stack.path)]
    waiting = f"cd / && until {PSQL} -c '{SOMEBODY_WAITS}' 2>/dev/null; do sleep 0.1; done"
    with _locked(stack, 60):
        with subprocess.Popen(words, env=stack.environment, stderr=subprocess.DEVNULL) as run:
            stack.ssh(HOST, waiting)
            run.send_signal(signal.SIGKILL)
        began = time.monotonic()
        rows = None
        while rows is None and time.monotonic() - began < 60:
            try:
                rows = pooled().query("SELECT count(*) FROM orders")
            except (PgError, OSError):
                time.sleep(0.5)
        took = time.monotonic() - began
        print(f"\nresumed after {took:.1f} s")
        assert rows == [["300"]]
        assert took < 25
    left = _databases(stack) - {"postgres", "storefront", "template0", "template1"}
    assert [name.startswith("storefront_restored_") for name in left] == [True]
    assert f"database {left.copy().pop()}, " in stack.provision("restore").stderr
    stack.ssh(HOST, f"runuser -u postgres -- dropdb {left.pop()}")


def test_full_disk_of_the_backups(stack: Stack, backup: str) -> None:
    """No room for a backup: exit code 4 with the reason, nothing half written; --replace does not even begin."""
    _sql(stack, "INSERT INTO orders (note) SELECT gen_random_uuid()::text FROM generate_series(1, 40000)")
    keep = f"cp -a {FOLDER}/{backup}.* /root/small/"
    size = stack.ssh(HOST, f"du -ck {FOLDER}/{backup}.* | tail -n 1 | cut -f 1").strip()
    stack.ssh(
        HOST, f"mkdir /root/small && mount -t tmpfs -o size={int(size) + 200}k,mode=700 tmpfs /root/small; {keep}"
    )
    stack.ssh(HOST, f"chown postgres: /root/small && mount --bind /root/small {FOLDER}")
    try:
        with _as_it_was(stack):
            before = stack.ssh(HOST, f"ls -A {FOLDER}")
            assert "No space left on device" in stack.provision("backup", code=4).stderr
            assert "no backup was made" in stack.provision("restore", backup, "--replace", "--yes", code=4).stderr
            assert stack.ssh(HOST, f"ls -A {FOLDER}") == before
    finally:
        stack.ssh(HOST, f"umount {FOLDER} /root/small; rmdir /root/small; systemctl reset-failed roadbed-backup")


@contextmanager
def _small_data_disk(stack: Stack) -> Iterator[None]:
    """The data of PostgreSQL on a disk of 300 MB."""
    data, unit = "/var/lib/postgresql/17/main", "postgresql@17-main"
    move = f"mkdir /root/data && mount -t tmpfs -o size=300m tmpfs /root/data && cp -a {data}/. /root/data/"
    stack.ssh(HOST, f"systemctl stop {unit} && {move} && chmod 700 /root/data && chown postgres: /root/data")
    stack.ssh(HOST, f"mount --bind /root/data {data} && systemctl start {unit}")
    try:
        yield
    finally:
        back = f"cp -a /root/data/. {data}/; umount /root/data; rmdir /root/data"
        stack.ssh(HOST, f"systemctl stop {unit}; umount {data} && {back}; systemctl start {unit}")


def test_full_disk_of_the_database(stack: Stack, backup: str, pooled: Callable[[], PgClient]) -> None:
    """No room to restore beside the live database: said with the sum before anything is tried, exit code 4."""
    with _small_data_disk(stack), _as_it_was(stack):
        for words in (["--check"], ["--replace", "--yes"]):
            said = stack.provision("restore", backup, *words, code=4).stderr
            assert "MiB free, and to restore" in said
            assert "Free some space" in said
        assert pooled().query("SELECT count(*) FROM orders") == [["300"]]


def test_copies_go_and_come(stack: Stack, backup: str, tmp_path: Path) -> None:
    """A copy is encrypted and closed to others; what the host lost comes back from it, and can be restored."""
    copy = tmp_path / "shop.backup.age"
    made = json.loads(stack.provision("backup", "--download", str(copy), "--json").stdout)["backup"]["name"]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.read_bytes().startswith(b"age-encryption.org/v1")
    identity = Path(stack.environment["ROADBED_IDENTITY"]).read_text().strip()
    plain = pyrage.decrypt(copy.read_bytes(), [pyrage.x25519.Identity.from_str(identity)])
    names = [f"{made}.{part}" for part in ("dump", "rows", "info")]
    with tarfile.open(fileobj=BytesIO(plain)) as archive:
        assert archive.getnames() == names
    stack.ssh(HOST, f"rm {FOLDER}/{made}.*")
    stack.provision("restore", "--upload", str(copy))
    assert json.loads(stack.provision("restore", made, "--check", "--json").stdout)["rows"] == 301
    assert stack.ssh(HOST, f"stat -c '%a %U' {FOLDER}/{made}.*").split() == ["600", "postgres"] * 4


def test_bad_copies_are_refused(stack: Stack, backup: str, tmp_path: Path) -> None:
    """A damaged copy, a foreign one and one that is no copy: nothing of them stays on the host."""
    copy, other = tmp_path / "shop.backup.tar", tmp_path / "other"
    stack.provision("backup", "--download", str(copy), "--plain")
    whole = copy.read_bytes()
    assert whole[257:262] == b"ustar"
    assert copy.stat().st_mode & 0o777 == 0o600
    foreign = pyrage.encrypt(whole, [pyrage.x25519.Identity.generate().to_public()])
    before = stack.ssh(HOST, f"ls -A {FOLDER}")
    for data, code, reason in (
        (whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:], 4, "checksum"),
        (whole[:1500], 4, "tar"),
        (b"x" * 100_000, 4, "tar"),
        (foreign, 2, "ROADBED_IDENTITY"),
    ):
        other.write_bytes(data)
        assert reason in stack.provision("restore", "--upload", str(other), code=code).stderr
    assert stack.ssh(HOST, f"ls -A {FOLDER}") == before
    assert "cannot be read" in stack.provision("restore", "--upload", str(tmp_path / "none"), code=2).stderr
