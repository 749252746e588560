"""The group of cache hosts: one master an instance, replicas that keep up, and Sentinels that can elect another."""

import re
import time
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from roadbed.checks.instances import exposure, show
from roadbed.checks.redis_users import Connect, connections
from roadbed.checks.resp import RedisError
from roadbed.deploys.context import Context
from roadbed.deploys.peers import INSTANCES, SENTINEL_PORT, grouped
from roadbed.deploys.redis import COMMON
from roadbed.deploys.redis_users import ADMIN, AUTH
from roadbed.deploys.sentinel import LEARNT, SETTINGS, UNIT, USERS

ROLES = ("cache",)
EXPOSURE_LIMIT = 1.2
"""What Debian's own unit scores."""
SOON = 30
"""Seconds in which a group has found together: Sentinel asks each server every 10 s."""
BEHIND = 10
"""Seconds a replica may be behind: with more its master counts it as lost (min-replicas-max-lag)."""
CHANGES = [
    ("SENTINEL", "FAILOVER", "cache"),
    ("SENTINEL", "REMOVE", "cache"),
    ("SENTINEL", "RESET", "*"),
    ("SENTINEL", "SET", "cache", "quorum", "1"),
    ("SENTINEL", "MONITOR", "other", "192.0.2.1", "6379", "1"),
    ("SENTINEL", "CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("SHUTDOWN",),
]


def applies(ctx: Context) -> bool:
    """In the phases that bring Redis, where three or more hosts have it."""
    return ctx.reached("phase2") and grouped(ctx)


@pytest.fixture
def connect(ctx: Context, tunnel: Callable[[int], str]) -> Iterator[Connect]:
    """See ``connections``."""
    with connections(ctx, tunnel) as to:
        yield to


def soon(claim: Callable[[], None]) -> None:
    """Tries a claim again for a while: a group that was just made, or has just changed, needs a moment."""
    end = time.monotonic() + SOON
    while True:
        try:
            return claim()
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def members(ctx: Context) -> list[str]:
    """Addresses of the cache hosts."""
    return [ctx.inventory.hosts[host].inside for host in ctx.inventory.with_role("cache")]


def replication(connect: Connect, instance: str) -> dict[str, str]:
    """What an instance says of its part in the group."""
    lines = connect(instance, "admin").call("INFO", "replication").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def test_sentinel_runs(host: Host) -> None:
    """Sentinel runs, and starts at boot."""
    assert host.service(UNIT).is_running
    assert host.service(UNIT).is_enabled


@pytest.mark.parametrize("instance", INSTANCES)
def test_quorum(connect: Connect, ctx: Context, instance: str) -> None:
    """Sentinel sees the whole group, and enough of it agree to replace a master that fails."""
    sentinel, count = connect("sentinel", "admin"), len(members(ctx))

    def whole() -> None:
        words = sentinel.call("SENTINEL", "MASTER", instance)
        seen = dict(zip(words[::2], words[1::2], strict=True))
        assert seen["flags"] == "master", "the master counts as down"
        assert [seen["num-slaves"], seen["num-other-sentinels"]] == [str(count - 1)] * 2
        assert seen["quorum"] == str(count // 2 + 1)

    soon(whole)
    assert sentinel.call("SENTINEL", "CKQUORUM", instance).startswith(f"OK {count} usable Sentinels")


@pytest.mark.parametrize("instance", INSTANCES)
def test_role(connect: Connect, ctx: Context, instance: str) -> None:
    """The instance is master or replica as Sentinel says, and a replica is connected to that master."""
    sentinel, server = connect("sentinel", "admin"), connect(instance, "admin")

    def agreed() -> None:
        address, port = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", instance)
        assert address in members(ctx)
        assert port == str(INSTANCES[instance])
        role = server.call("ROLE")
        if address == ctx.host.inside:
            assert role[0] == "master"
        else:
            assert role[:4] == ["slave", address, INSTANCES[instance], "connected"]

    soon(agreed)


@pytest.mark.parametrize("instance", INSTANCES)
def test_replicas_keep_up(connect: Connect, ctx: Context, measure: Callable[..., None], instance: str) -> None:
    """A replica has heard of its master lately; a master has all replicas, and none is far behind."""

    def complete() -> None:
        seen = replication(connect, instance)
        assert seen.get("master_link_status", "up") == "up"
        assert seen["role"] == "slave" or int(seen["connected_slaves"]) == len(members(ctx)) - 1

    soon(complete)
    seen = replication(connect, instance)
    if seen["role"] == "slave":
        measure(f"{instance}: silence of the master", int(seen["master_last_io_seconds_ago"]), "s", BEHIND)
        return
    lags = [re.search(r"state=online,.*,lag=(\d+)", value) for name, value in seen.items() if name.startswith("slave")]
    assert all(lags), "a replica is not online"
    measure(f"{instance}: replica that is most behind", max(int(lag[1]) for lag in lags if lag), "s", BEHIND)


@pytest.mark.parametrize("user", ["sentinel", "replica"])
@pytest.mark.parametrize("instance", INSTANCES)
def test_helpers_may_not(connect: Connect, instance: str, user: str) -> None:
    """The users of Sentinel and of replicas read no data, write none and change no settings."""
    client = connect(instance, user)
    assert client.call("PING") == "PONG"
    for words in (
        ("GET", "x"),
        ("SET", "x", "1"),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("FLUSHALL",),
    ):
        with pytest.raises(RedisError, match="NOPERM"):
            client.call(*words)


def test_app_asks_sentinel(connect: Connect, ctx: Context) -> None:
    """The app may ask who is master, with either of its passwords."""
    for secret in ("redis_cache_password", "redis_durable_password"):
        client = connect("sentinel", ctx.inventory.app.name, ctx.secret(secret))
        for instance in INSTANCES:
            assert client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", instance)[0] in members(ctx)
            assert client.call("SENTINEL", "SENTINELS", instance) is not None
            assert client.call("SENTINEL", "REPLICAS", instance) is not None


@pytest.mark.parametrize("user", ["app", "sentinel"])
@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
def test_nobody_but_the_administrator_changes_sentinel(connect: Connect, user: str, words: tuple[str, ...]) -> None:
    """Neither the app nor another Sentinel may replace a master or change settings."""
    with pytest.raises(RedisError, match="NOPERM"):
        connect("sentinel", user).call(*words)


def test_nobody_asks_without_a_password(connect: Connect, ctx: Context) -> None:
    """Without a password, or with a wrong one, Sentinel answers nothing."""
    with pytest.raises(RedisError, match="NOAUTH"):
        connect("sentinel").call("SENTINEL", "MASTERS")
    for user in (ctx.inventory.app.name, ADMIN, "default"):
        with pytest.raises(RedisError, match="WRONGPASS"):
            connect("sentinel", user, "wrong")


def test_listens_inside(host: Host, ctx: Context) -> None:
    """Sentinel listens on loopback and on the inside address alone."""
    lines = host.check_output("ss -H -l -n -t -p").splitlines()
    found = sorted(line.split()[3] for line in lines if '"redis-sentinel"' in line)
    assert found == sorted(f"{address}:{SENTINEL_PORT}" for address in ("127.0.0.1", ctx.host.inside))


def test_sandbox(host: Host, measure: Callable[..., None]) -> None:
    """systemd's own rating of the sandbox is 1.2 or better."""
    assert show(host, f"{UNIT}.service", "User") == "redis"
    measure("exposure", exposure(host, f"{UNIT}.service"), "points", EXPOSURE_LIMIT)


def test_passwords_are_closed(host: Host) -> None:
    """Files with the passwords of Sentinel and of replicas can be read by Redis alone."""
    files = f"{SETTINGS} {USERS} {LEARNT} {COMMON}"
    assert host.check_output(f"stat -c '%a %U' {files}").splitlines() == [
        "640 root",
        "640 root",
        "600 redis",
        "640 root",
    ]
    words = f"sed -n -E 's/^(sentinel sentinel-pass|masterauth) //p' {SETTINGS} {COMMON}; cat {AUTH}; echo"
    found = "find /etc /run /var/lib/redis /usr/local/lib/roadbed -xdev -type f -perm -o=r -exec grep -lsFf $p {} +"
    text = host.run(f"p=$(mktemp); {{ {words}; }} | grep . >$p; grep -c . $p; {found}; rm $p").stdout
    assert text.split() == ["3"], "the number of passwords, and no file"
