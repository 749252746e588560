"""The data tier on two hosts: what a full cache, killed servers, a reboot and meddling leave behind."""

import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from roadbed.checks.pgwire import PgClient, PgError
from roadbed.checks.resp import RedisClient, RedisError
from roadbed.deploys.redis import bytes_of
from roadbed.engine.secrets import Secrets
from roadbed.machines.model import MachineSpec

from .conftest import Stack, make_stack, spec
from .data_access import converge
from .tunnels import tunnel

COMPONENTS = ("base", "firewall", "redis", "postgres", "pgbouncer")
DATA, APP = "data-12", "data-13"
CACHE_MB, DURABLE_MB = 48, 32
FOLDER = "/var/backups/roadbed/storefront"


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Redis and PostgreSQL on Debian 12, PgBouncer and the app's place on Debian 13."""
    specs = [spec(DATA, 91, "bookworm"), spec(APP, 92, "trixie")]
    booted(specs)
    stack = make_stack(tmp_path_factory.mktemp("data"), specs)
    stack.data["hosts"][DATA]["roles"] = ["cache", "database"]
    stack.data["hosts"][APP]["roles"] = ["web", "app", "pooler"]
    stack.write(redis={"cache_memory": CACHE_MB, "durable_memory": DURABLE_MB})
    assert _converge(stack)["failed"] == {}
    return stack


def _converge(stack: Stack, *components: str) -> dict[str, Any]:
    return converge(stack, *(components or COMPONENTS))


@pytest.fixture
def secret(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A secret of the stack by its name."""
    monkeypatch.setenv("ROADBED_IDENTITY", stack.environment["ROADBED_IDENTITY"])
    return Secrets(stack.path.with_name("stack.secrets.age")).get


@pytest.fixture
def redis(secret: Callable[[str], str]) -> Iterator[Callable[[str], RedisClient]]:
    """``redis("cache")``: a connection to an instance as the app."""
    with ExitStack() as opened:

        def connect(instance: str) -> RedisClient:
            port = opened.enter_context(tunnel(DATA, {"cache": 6379, "durable": 6380}[instance]))
            return opened.enter_context(RedisClient(port, "storefront", secret(f"redis_{instance}_password")))

        yield connect


@pytest.fixture
def pooled(secret: Callable[[str], str]) -> Iterator[Callable[[], PgClient]]:
    """``pooled()``: a connection through PgBouncer as the app."""
    with tunnel(APP, 6432) as port, ExitStack() as opened:
        password = secret("postgres_app_password")
        yield lambda: opened.enter_context(PgClient(port, "storefront", password, "storefront"))


def _within(seconds: float, attempt: Callable[[], Any]) -> Any:
    """What ``attempt`` gives, tried again until it raises nothing more; the last error after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (OSError, PgError, RedisError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_a_second_run_changes_nothing(stack: Stack) -> None:
    """Everything is in place after the first run."""
    assert _converge(stack) == {"failed": {}, "changed": []}


def test_full_cache_loses_no_session(redis: Callable[[str], RedisClient]) -> None:
    """Three times what the cache holds: it evicts, stays within its memory, and no session is lost."""
    cache, durable = redis("cache"), redis("durable")
    sessions = {f"session:{number}": secrets.token_hex(16) for number in range(1000)}
    durable.calls([("SET", key, value, "EX", "3600") for key, value in sessions.items()])
    value = "x" * 16_000
    for batch in range(3 * CACHE_MB):
        cache.calls([("SET", f"rb:storefront:fill:{batch}:{n}", value, "EX", "3600") for n in range(64)])
    info = cache.call("INFO")
    assert bytes_of(info, "evicted_keys") > 3000
    assert bytes_of(info, "used_memory") <= CACHE_MB * 1.05 * (1 << 20)
    assert durable.call("MGET", *sessions) == list(sessions.values())
    assert bytes_of(durable.call("INFO"), "evicted_keys") == 0


def test_full_durable_instance_says_so(redis: Callable[[str], RedisClient]) -> None:
    """What does not fit is refused with an error; what is there can be read and removed."""
    durable = redis("durable")
    durable.call("SET", "kept", "1", "EX", "3600")
    with pytest.raises(RedisError, match="OOM"):
        durable.calls([("SET", f"fill:{n}", "x" * 16_000, "EX", "60") for n in range(DURABLE_MB * 80)])
    assert durable.call("GET", "kept") == "1"
    assert durable.call("DEL", *(f"fill:{n}" for n in range(DURABLE_MB * 80))) > 1000


def test_killed_redis_comes_back_with_its_data(stack: Stack, redis: Callable[[str], RedisClient]) -> None:
    """kill -9: systemd starts the durable instance again, and what is older than a second is still there."""
    redis("durable").call("SET", "before-the-kill", "1", "EX", "3600")
    time.sleep(1.5)
    stack.ssh(DATA, "kill -9 $(systemctl show -p MainPID --value redis-server@durable)")
    begin = time.monotonic()
    assert _within(20, lambda: redis("durable").call("GET", "before-the-kill")) == "1"
    assert time.monotonic() - begin < 10


def test_data_goes_the_declared_ways_alone(stack: Stack) -> None:
    """The app host reaches Redis and PostgreSQL; another machine of the network reaches nothing."""
    address = stack.address(DATA)
    for port in (6379, 6380, 5432):
        stack.ssh(APP, f"timeout 3 bash -c ': </dev/tcp/{address}/{port}'")
        with pytest.raises(OSError, match="timed out"), closing(socket.create_connection((address, port), timeout=2)):
            pass


def test_pooler_reaches_another_host_by_tls(stack: Stack, pooled: Callable[[], PgClient]) -> None:
    """Between the two hosts the connection is encrypted; without TLS PostgreSQL lets nobody in."""
    tls = pooled().query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert tls == [["t"]]
    plain = f"psql 'host={stack.address(DATA)} user=storefront dbname=storefront sslmode=disable connect_timeout=3'"
    assert "no encryption" in stack.ssh(APP, f"{plain} -w -c 'SELECT 1' 2>&1 || true")


def test_pool_outlives_a_restart_of_the_database(stack: Stack, pooled: Callable[[], PgClient]) -> None:
    """After a restart of PostgreSQL the app's next attempts succeed without anybody doing anything."""
    assert pooled().query("SELECT 1") == [["1"]]
    stack.ssh(DATA, "systemctl restart postgresql@15-main")
    assert _within(15, lambda: pooled().query("SELECT 1")) == [["1"]]
    stack.ssh(APP, "kill -9 $(systemctl show -p MainPID --value pgbouncer)")
    assert _within(15, lambda: pooled().query("SELECT 1")) == [["1"]]


@pytest.fixture
def table(stack: Stack) -> Iterator[str]:
    """A table of the owner's with 1000 rows."""
    sql = "SET ROLE storefront_owner; CREATE TABLE orders AS SELECT n, md5(n::text) FROM generate_series(1, 1000) n"
    psql = "runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 storefront"
    stack.ssh(DATA, f"{psql} -c '{sql}'")
    yield "orders"
    stack.ssh(DATA, f"{psql} -c 'DROP TABLE orders'")


@pytest.mark.usefixtures("table")
def test_backup_is_restored_as_it_was(stack: Stack, pooled: Callable[[], PgClient]) -> None:
    """The rows of the moment of the backup come back, whatever was written since; the app's database is left alone."""
    stack.ssh(DATA, "systemctl start roadbed-backup")
    pooled().query("INSERT INTO orders VALUES (1001, 'later')")
    assert stack.ssh(DATA, "/usr/local/lib/roadbed/restore-check").startswith("restored 1 tables, 1000 rows in ")
    assert pooled().query("SELECT count(*) FROM orders") == [["1001"]]


def test_bad_backups_are_noticed(stack: Stack, table: str) -> None:
    """A dump that is cut off, or that lacks rows, fails with the reason; the scratch database is removed."""
    time.sleep(1.1)  # a backup is named by its second
    stack.ssh(DATA, "systemctl start roadbed-backup")
    check = f"/usr/local/lib/roadbed/restore-check {FOLDER}/99.dump 2>&1; echo rc=$?"
    copy = f"cd {FOLDER}; n=$(ls *.dump | tail -n 1); for end in dump rows info; do cp ${{n%.dump}}.$end 99.$end; done"
    sealed = (
        "; for end in dump rows; do sed -i \"s/^$end .*/$end $(sha256sum <99.$end | cut -d' ' -f1)/\" 99.info; done"
    )
    stack.ssh(DATA, f"{copy}; sed -i 's/1000/1002/' 99.rows{sealed}")
    said = stack.ssh(DATA, check)
    assert "tables or rows differ" in said
    assert f"public.{table} 1002" in said
    assert said.endswith("rc=5\n")
    stack.ssh(DATA, f"{copy}; truncate -s 1500 99.dump")
    assert "is damaged: the checksum of its .dump file differs" in stack.ssh(DATA, check)
    stack.ssh(DATA, f"cd {FOLDER}; true{sealed}")
    assert "99.dump: cannot be restored" in stack.ssh(DATA, check)
    stack.ssh(DATA, f"rm {FOLDER}/99.*")
    databases = stack.ssh(DATA, "runuser -u postgres -- psql -Atc 'SELECT datname FROM pg_database'")
    assert "storefront_restore" not in databases.split()


def test_meddling_is_mended(stack: Stack, pooled: Callable[[], PgClient]) -> None:
    """A password that somebody changed on the server is set again by the next run."""
    stack.ssh(DATA, """runuser -u postgres -- psql -c "ALTER ROLE storefront PASSWORD 'other'" """)
    result = _converge(stack, "postgres", "pgbouncer")
    assert result == {"failed": {}, "changed": ["Mend the database and its users"]}
    assert _within(5, lambda: pooled().query("SELECT 1")) == [["1"]]


def test_an_impossible_sum_changes_nothing(stack: Stack) -> None:
    """More server connections than PostgreSQL has: refused with the arithmetic."""
    stack.write(pgbouncer={"pool_size": 500})
    result = _converge(stack, "pgbouncer")
    stack.write(pgbouncer={"pool_size": "auto"})
    assert "1 x 500 (pgbouncer/pool_size) = 500" in result["failed"][APP]
    assert result["changed"] == []
    assert _converge(stack, "pgbouncer") == {"failed": {}, "changed": []}


def test_bad_settings_never_replace_good_ones(stack: Stack) -> None:
    """What Redis or PgBouncer would not start with is refused by the scripts that look at it first."""
    for host, check, good, bad in (
        (DATA, "redis-check conf", "/etc/redis/redis-cache.conf", "maxmemory-policy most-of-it"),
        (DATA, "redis-check acl", "/etc/redis/redis-cache.acl", "user x on +nonsense"),
        (APP, "pgbouncer-check", "/etc/pgbouncer/pgbouncer.ini", "pool_mode = often"),
    ):
        script = f"/usr/local/lib/roadbed/{check}"
        stack.ssh(host, f"{script} {good}")
        stack.ssh(host, f"umask 077; {{ cat {good}; echo '{bad}'; }} >/root/bad; ! {script} /root/bad; rm /root/bad")


def test_all_comes_back_after_a_reboot(
    stack: Stack, redis: Callable[[str], RedisClient], pooled: Callable[[], PgClient]
) -> None:
    """Both hosts are rebooted: Redis with its data, PostgreSQL and PgBouncer answer on the inside addresses."""
    redis("durable").call("SET", "before-the-reboot", "1", "EX", "3600")
    for host in (DATA, APP):
        stack.ssh(host, "systemctl reboot", check=False)
    time.sleep(3)
    assert _within(60, lambda: redis("durable").call("GET", "before-the-reboot")) == "1"
    _within(60, lambda: socket.create_connection((stack.address(APP), 22), timeout=2).close())
    for port in (6379, 6380, 5432):
        command = f"for i in $(seq 60); do timeout 3 bash -c ': </dev/tcp/{stack.address(DATA)}/{port}' && exit 0; done"
        stack.ssh(APP, f"{command}; exit 1")
    with tunnel(APP, 6432):
        pass
    assert _converge(stack) == {"failed": {}, "changed": []}
