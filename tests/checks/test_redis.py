"""Redis: two instances that keep to their purposes, and users that keep to theirs."""

import secrets
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from roadbed.checks.instances import exposure, show
from roadbed.checks.redis_users import Connect, connections, is_replica
from roadbed.checks.resp import RedisError
from roadbed.deploys.context import Context
from roadbed.deploys.peers import INSTANCES, listen_addresses
from roadbed.deploys.redis import bytes_of, memory_mb
from roadbed.deploys.redis_users import ADMIN, AUTH

EXPOSURE_LIMIT = 1.2
"""What Debian's own unit scores."""
POLICIES = {
    "cache": {"maxmemory-policy": "allkeys-lfu", "appendonly": "no", "save": ""},
    "durable": {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"},
}
FORBIDDEN = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "0"),
    ("ACL", "LIST"),
    ("SHUTDOWN",),
    ("MONITOR",),
    ("REPLICAOF", "192.0.2.1", "6379"),
]


def applies(ctx: Context) -> bool:
    """In the phases that bring Redis, unless the stack uses somebody else's."""
    return ctx.reached("phase2") and not ctx.inventory.redis.external


@pytest.fixture
def connect(ctx: Context, tunnel: Callable[[int], str]) -> Iterator[Connect]:
    """See ``connections``."""
    with connections(ctx, tunnel) as to:
        yield to


@pytest.mark.parametrize("instance", INSTANCES)
def test_instance_runs(host: Host, instance: str) -> None:
    """The instance runs, and starts at boot."""
    unit = host.service(f"redis-server@{instance}")
    assert unit.is_running
    assert unit.is_enabled


def test_no_other_instance(host: Host) -> None:
    """The single instance of the package is off, and nothing else calls itself Redis."""
    assert host.check_output("systemctl is-enabled redis-server.service 2>/dev/null || true") == "masked"
    assert len(host.check_output("pgrep -x redis-server").split()) == len(INSTANCES)


@pytest.mark.parametrize("instance", INSTANCES)
def test_nobody_gets_in_without_a_password(connect: Connect, ctx: Context, instance: str) -> None:
    """Without a password, or with a wrong one, Redis answers nothing."""
    with pytest.raises(RedisError, match="NOAUTH"):
        connect(instance).call("PING")
    for user in (ctx.inventory.app.name, ADMIN, "default"):
        with pytest.raises(RedisError, match="WRONGPASS"):
            connect(instance, user, "wrong")


def test_each_instance_has_a_password_of_its_own(connect: Connect, ctx: Context) -> None:
    """The app's password for the cache does not open the durable instance."""
    with pytest.raises(RedisError, match="WRONGPASS"):
        connect("durable", ctx.inventory.app.name, ctx.secret("redis_cache_password"))


@pytest.mark.parametrize("instance", INSTANCES)
def test_policy(connect: Connect, ctx: Context, instance: str) -> None:
    """The instance evicts and persists as its purpose demands, within its memory."""
    client = connect(instance, "admin")
    wanted = {**POLICIES[instance], "maxmemory": str(memory_mb(ctx, instance) << 20)}
    assert {name: client.call("CONFIG", "GET", name)[1] for name in wanted} == wanted


@pytest.mark.parametrize("instance", INSTANCES)
def test_memory(connect: Connect, ctx: Context, measure: Callable[..., None], instance: str) -> None:
    """The instance takes no more memory than it was given."""
    used = bytes_of(connect(instance, "admin").call("INFO", "memory"), "used_memory") / (1 << 20)
    measure(f"{instance}: memory in use", used, "MiB", memory_mb(ctx, instance) * 1.05)


def test_app_uses_its_own_keys_of_the_cache(connect: Connect, ctx: Context) -> None:
    """The app reads and writes its own keys in the cache, and no others; a replica takes no writes."""
    client, name = connect("cache", "app"), ctx.inventory.app.name
    key = f"rb:{name}:check:{secrets.token_hex(8)}"
    if is_replica(connect, "cache"):
        with pytest.raises(RedisError, match="READONLY"):
            client.call("SET", key, "1", "PX", "60000")
    else:
        assert client.call("SET", key, "1", "PX", "60000") == "OK"
        assert client.call("EVAL", "return redis.call('get', KEYS[1])", "1", key) == "1"
        assert client.call("DEL", key) == 1
    for foreign in ("check", f"rb:{name}x:check", "rb:other:check"):
        with pytest.raises(RedisError, match="NOPERM"):
            client.call("SET", foreign, "1", "PX", "1")
        with pytest.raises(RedisError, match="NOPERM"):
            client.call("GET", foreign)


@pytest.mark.parametrize("instance", INSTANCES)
@pytest.mark.parametrize("words", FORBIDDEN, ids=" ".join)
def test_app_may_not(connect: Connect, instance: str, words: tuple[str, ...]) -> None:
    """The app is refused what would stop, empty, block or reconfigure Redis."""
    with pytest.raises(RedisError, match="NOPERM"):
        connect(instance, "app").call(*words)


def test_app_uses_the_durable_instance(connect: Connect) -> None:
    """The app keeps values, lists and messages in the durable instance under any key; a replica takes none."""
    client, key = connect("durable", "app"), f"roadbed-check:{secrets.token_hex(8)}"
    if is_replica(connect, "durable"):
        with pytest.raises(RedisError, match="READONLY"):
            client.call("SET", key, "1", "EX", "60")
        return
    assert client.call("SET", key, "1", "EX", "60") == "OK"
    assert client.call("RPUSH", f"{key}:list", "a", "b") == 2
    assert client.call("PUBLISH", f"{key}:channel", "hello") == 0
    assert client.call("DEL", key, f"{key}:list") == 2


def test_append_only_file_is_sound(connect: Connect) -> None:
    """The durable instance writes its append-only file without errors."""
    info = connect("durable", "admin").call("INFO", "persistence")
    assert "aof_enabled:1" in info
    assert "aof_last_write_status:ok" in info
    assert "aof_last_bgrewrite_status:ok" in info


def test_listens_where_it_is_needed(host: Host, ctx: Context) -> None:
    """Redis listens on loopback, and on the inside address only if another host needs it."""
    lines = host.check_output("ss -H -l -n -t -p").splitlines()
    found = sorted(line.split()[3] for line in lines if '"redis-server"' in line)
    assert found == sorted(
        f"{address}:{port}" for address in listen_addresses(ctx, "cache") for port in INSTANCES.values()
    )


@pytest.mark.parametrize("instance", INSTANCES)
def test_sandbox(host: Host, measure: Callable[..., None], instance: str) -> None:
    """systemd's own rating of the sandbox is 1.2 or better."""
    unit = f"redis-server@{instance}.service"
    assert show(host, unit, "User") == "redis"
    measure("exposure", exposure(host, unit), "points", EXPOSURE_LIMIT)


def test_secrets_are_closed(host: Host, ctx: Context) -> None:
    """Passwords stand in no file that others can read, and in the users' file only as hashes."""
    files = [f"/etc/redis/redis-{instance}.acl" for instance in INSTANCES]
    shown = host.check_output(f"stat -c '%a %U %G' {AUTH} {' '.join(files)}").splitlines()
    assert shown == ["600 root root", "640 root redis", "640 root redis"]
    for instance, file in zip(INSTANCES, files, strict=True):
        text = host.file(file).content_string
        assert ctx.secret(f"redis_{instance}_password") not in text
        assert "nopass" not in text
        assert ">" not in text
