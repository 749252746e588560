"""A group of cache hosts: who may begin as master, what a failover leaves alone, and what the app is told."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roadbed.deploys import redis, sentinel, urls
from roadbed.deploys.firewall import openings
from roadbed.deploys.peers import INSTANCES, clients, grouped, listen_addresses, ports
from roadbed.deploys.redis_users import ADMIN, REPLICA, SENTINEL, acl, sentinel_acl
from roadbed.deploys.render import render
from roadbed.deploys.sentinel import GroupKnowledge, Knowledge, masters

Make = Callable[..., Any]
SECRETS = {name: f"{name}/+:@?" for name in redis.SECRETS}
APPS = {
    "web-1": {"address": "192.0.2.10", "private": "10.0.0.10", "roles": ["web"]},
    "app-1": {"address": "192.0.2.11", "private": "10.0.0.11", "roles": ["app"]},
}
THREE = {
    **APPS,
    **{f"data-{n}": {"address": f"192.0.2.2{n}", "private": f"10.0.0.2{n}", "roles": ["cache"]} for n in (1, 2, 3)},
}
EMPTY = {f"data-{n}": Knowledge() for n in (1, 2, 3)}


@pytest.fixture
def make(make_context: Make) -> Make:
    """A context in phase2; ``codenames``: Debian releases of some hosts."""

    def context(
        name: str = "data-1", hosts: Any = THREE, codenames: dict[str, str] | None = None, **blocks: Any
    ) -> Any:
        ctx = make_context(name=name, hosts=hosts, **{"phase": "phase2", **blocks})
        facts = {
            host: replace(facts, codename=(codenames or {}).get(host, facts.codename))
            for host, facts in ctx.facts.items()
        }
        return replace(ctx, facts=facts, secret=SECRETS.__getitem__)

    return context


def test_three_are_a_group(make: Make) -> None:
    ctx = make()
    assert grouped(ctx)
    assert ports(ctx, "cache") == (6379, 6380, 26379)
    assert clients(ctx, "cache") == ["app-1", "data-2", "data-3"]
    assert listen_addresses(ctx, "cache") == ("127.0.0.1", "10.0.0.21")
    users = ("10.0.0.11/32", "10.0.0.22/32", "10.0.0.23/32")
    opened = {rule.ports: rule.sources for rule in openings(ctx)}
    assert opened == {"22": (), "6379": users, "6380": users, "26379": users}


def test_one_is_none(make: Make) -> None:
    ctx = make(hosts={name: host for name, host in THREE.items() if name not in ("data-2", "data-3")})
    assert not grouped(ctx)
    assert "26379" not in {rule.ports for rule in openings(ctx)}
    assert SENTINEL not in acl(ctx, "durable")
    assert urls.sentinels(ctx) == ""
    assert set(urls.redis_environment(ctx)) == {"ROADBED_CACHE_URL", "REDIS_URL"}


def test_two_are_refused(make: Make) -> None:
    two = {name: host for name, host in THREE.items() if name != "data-3"}
    with pytest.raises(ValueError, match=r"hosts: data-1 and data-2 have the role cache, .* give it to three or more"):
        make(hosts=two)
    assert not grouped(make(hosts=two, redis={"external": True}))


def test_a_group_needs_addresses(make: Make) -> None:
    named = {**THREE, "data-3": {"address": "data-3.example.com", "roles": ["cache"]}}
    with pytest.raises(ValueError, match=r"hosts/data-3/address: 'data-3.example.com' is a name, but Sentinel keeps"):
        make(hosts=named)


def test_servers_of_the_users_own_are_no_group(make: Make) -> None:
    ctx = make(redis={"external": True})
    assert not grouped(ctx)
    assert {rule.ports for rule in openings(ctx)} == {"22"}


def test_the_first_master(make: Make) -> None:
    assert masters(make("data-3"), EMPTY) == dict.fromkeys(INSTANCES, "10.0.0.21")
    old = {"data-2": "bookworm", "data-3": "bookworm"}
    assert masters(make(codenames=old), EMPTY)["cache"] == "10.0.0.22", "the others can read what it sends"
    kept = {**EMPTY, "data-3": Knowledge(data=True)}
    assert masters(make("data-1", codenames=old), kept) == dict.fromkeys(INSTANCES, "10.0.0.23")
    assert masters(make("data-3"), kept)["durable"] == "10.0.0.23"


def test_who_joins_asks_for_the_latest_election(make: Make) -> None:
    late = Knowledge({"cache": (7, "10.0.0.23"), "durable": (2, "10.0.0.22")})
    stale = Knowledge({"cache": (6, "10.0.0.21"), "durable": (2, "10.0.0.22")}, data=True)
    known = {"data-1": Knowledge(), "data-2": stale, "data-3": late}
    assert masters(make(), known) == {"cache": "10.0.0.23", "durable": "10.0.0.22"}
    del known["data-2"]
    assert masters(make(), known) == {"cache": "10.0.0.23", "durable": "10.0.0.22"}


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"data-1": Knowledge(), "data-3": Knowledge()}, "hosts: data-2 could not be asked who is master"),
        ({**EMPTY, "data-1": Knowledge(data=True), "data-2": Knowledge(data=True)}, "data-1 and data-2 have data in"),
        (
            {**EMPTY, "data-1": Knowledge(data=True), "data-2": Knowledge({"durable": (1, "10.0.0.22")})},
            "hosts/data-1: has data in /var/lib/redis/durable, which the master 10.0.0.22 would replace",
        ),
        ({**EMPTY, "data-2": Knowledge({"cache": (1, "10.0.0.99")})}, "the master 10.0.0.99 has not the role cache"),
    ],
)
def test_a_guess_that_could_cost_data_is_refused(make: Make, known: dict[str, Knowledge], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        masters(make(), known)


LEARNT = """\
port 26379
sentinel monitor cache 10.0.0.22 6379 2
sentinel auth-pass cache old
sentinel monitor durable 10.0.0.21 6380 2
sentinel myid 1234
sentinel config-epoch cache 3
sentinel known-replica cache 10.0.0.21 6379
sentinel known-replica cache 10.0.0.29 6379
sentinel known-sentinel cache 10.0.0.23 26379 abcd
latency-tracking-info-percentiles 50 99 99.9
"""


def test_knowledge_of_a_host() -> None:
    lines = [line.removeprefix("sentinel ") for line in LEARNT.splitlines() if "monitor" in line or "epoch" in line]
    assert GroupKnowledge().process([*lines, "data"]) == Knowledge(
        {"cache": (3, "10.0.0.22"), "durable": (0, "10.0.0.21")}, data=True
    )
    assert GroupKnowledge().process([]) == Knowledge()


@pytest.fixture
def start(make: Make, tmp_path: Path) -> Callable[[str], str]:
    """``start("cache")`` runs redis-start of data-1 and returns the file that it made."""
    ctx = make()
    (tmp_path / "learnt").write_text(LEARNT)
    values = {
        "port": 26379,
        "quorum": 3,
        "down_ms": 5000,
        "failover_ms": 15000,
        "user": SENTINEL,
        "instances": INSTANCES,
    }
    (tmp_path / "written").write_text(render("redis", sentinel.SETTINGS, ctx, **values))
    paths = {"learnt": tmp_path / "learnt", "written": tmp_path / "written", "run": tmp_path}
    addresses = ["10.0.0.21", "10.0.0.22", "10.0.0.23"]
    script = render("redis", sentinel.START, ctx, **paths, instances=INSTANCES, addresses=addresses)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, "-"], input=script, text=True, check=True)
    for name in INSTANCES:
        (tmp_path / f"redis-{name}").mkdir()

    def run(service: str) -> str:
        subprocess.run(["sh", "-s", service], input=script, text=True, check=True)
        return (tmp_path / ("learnt" if service == "sentinel" else f"redis-{service}/start.conf")).read_text()

    return run


def test_roles_come_from_what_sentinel_knows(start: Callable[[str], str]) -> None:
    assert start("cache") == "include /etc/redis/redis-cache.conf\nreplicaof 10.0.0.22 6379\n"
    assert start("durable") == "include /etc/redis/redis-durable.conf\n"


def test_new_settings_leave_what_sentinel_knows(start: Callable[[str], str]) -> None:
    lines = start("sentinel").splitlines()
    assert lines == start("sentinel").splitlines(), "at every start"
    found = [line for line in lines if line.startswith("sentinel ")]
    assert "sentinel monitor cache 10.0.0.22 6379 3" in found, "the master it knows, with the new quorum"
    assert "sentinel monitor durable 10.0.0.21 6380 3" in found
    assert "sentinel auth-pass cache redis_sentinel_password/+:@?" in found
    assert "sentinel auth-pass cache old" not in found
    assert {"sentinel myid 1234", "sentinel config-epoch cache 3"} < set(found)
    assert "sentinel known-replica cache 10.0.0.21 6379" in found
    assert not [line for line in found if "10.0.0.29" in line], "it is no cache host any more"
    assert not [line for line in lines if line.startswith("latency")]


def test_an_instance_without_a_known_master_does_not_start(start: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "learnt").write_text("sentinel monitor durable 10.0.0.21 6380 2\n")
    with pytest.raises(subprocess.CalledProcessError):
        start("cache")
    assert not (tmp_path / "redis-cache/start.conf").exists()


def test_helpers_may_do_little(make: Make) -> None:
    users = {line.split()[1]: line for line in acl(make(), "durable").splitlines()}
    assert set(users) == {"default", "shop", ADMIN, SENTINEL, REPLICA}
    assert users[REPLICA].endswith(" resetchannels -@all +psync +replconf +ping +auth")
    assert " resetchannels &__sentinel__:hello -@all " in users[SENTINEL]
    assert not {"~*", "+@all", "+get", "+config"} & {*users[SENTINEL].split(), *users[REPLICA].split()}


def test_users_of_sentinel(make: Make) -> None:
    text = sentinel_acl(make(codename="bookworm"))
    users = {line.split()[1]: line for line in text.splitlines()}
    assert set(users) == {"default", "shop", ADMIN, SENTINEL}
    assert users["shop"].count("#") == 2, "with the password of either instance"
    assert "+client|setinfo" not in text
    assert "+client|setinfo" in sentinel_acl(make())
    assert not [value for value in SECRETS.values() if value in text]


@pytest.mark.parametrize("name", ["default", SENTINEL, REPLICA])
def test_names_that_are_taken(make: Make, name: str) -> None:
    with pytest.raises(ValueError, match=f"app/name: Redis keeps the name '{name}'"):
        acl(make(app={"name": name}), "cache")


def test_settings_of_a_group(make: Make) -> None:
    values = {"addresses": ("127.0.0.1",), "grouped": True, "user": REPLICA}
    old = render("redis", redis.COMMON, make(), version=(7, 0), **values)
    new = render("redis", redis.COMMON, make(), version=(8, 0), **values)
    assert "replica-priority 70\n" in old
    assert "replica-priority 80\n" in new, "the oldest goes first"
    assert "bind-source-addr 10.0.0.21\n" in new
    assert "replicaof" not in new, "who follows whom is not a setting"


def test_what_the_app_is_told(make: Make) -> None:
    told = urls.redis_environment(make("app-1"))
    three = "10.0.0.21:26379,10.0.0.22:26379,10.0.0.23:26379"
    assert told == {
        "ROADBED_CACHE_URL": "redis://shop:redis_cache_password%2F%2B%3A%40%3F@10.0.0.21:6379/0",
        "ROADBED_CACHE_SENTINELS": three,
        "ROADBED_CACHE_MASTER": "cache",
        "REDIS_SENTINELS": three,
        "REDIS_SENTINEL_MASTER": "durable",
        "REDIS_USERNAME": "shop",
        "REDIS_PASSWORD": "redis_durable_password/+:@?",
    }
    assert urls.redis_environment(make("data-2")) == told, "no matter who asks"
