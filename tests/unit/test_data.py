"""Redis, PostgreSQL and PgBouncer: their files, who may talk to them, and the URLs that the app gets."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from roadbed.deploys import pgbouncer, postgres, redis, redis_users, urls
from roadbed.deploys.context import ROADMAP
from roadbed.deploys.database import endpoint, parse
from roadbed.deploys.firewall import openings
from roadbed.deploys.peers import INSTANCES, clients, listen_addresses, serving
from roadbed.deploys.phases import PHASES
from roadbed.deploys.postgres_roles import RolesState, expected_roles, verifiers
from roadbed.deploys.render import render

Make = Callable[..., Any]
SECRETS = {name: f"{name}/+:@?" for name in (*redis.SECRETS, *postgres.SECRETS, *pgbouncer.SECRETS)}
DATABASE = {
    "database": "shop",
    "owner": "shop_owner",
    "folder": "/var/backups/roadbed/shop",
    "sql": "/etc/roadbed/postgres.sql",
}
SPREAD = {
    "web-1": {"address": "192.0.2.10", "private": "10.0.0.10", "roles": ["web"]},
    "app-1": {"address": "192.0.2.11", "private": "10.0.0.11", "roles": ["app"]},
    "app-2": {"address": "192.0.2.12", "private": "10.0.0.12", "roles": ["app"]},
    "data-1": {"address": "192.0.2.13", "private": "10.0.0.13", "roles": ["cache", "database"]},
    "pool-1": {"address": "192.0.2.14", "private": "10.0.0.14", "roles": ["pooler"]},
}
TOGETHER = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app", "cache", "pooler", "database"]}}


@pytest.fixture
def make(make_context: Make) -> Make:
    """A context in phase2 that knows the secrets of the data tier."""

    def context(
        name: str = "web-1", hosts: Any = TOGETHER, secrets: dict[str, str] | None = None, **blocks: Any
    ) -> Any:
        from dataclasses import replace

        ctx = make_context(name=name, hosts=hosts, **{"phase": "phase2", **blocks})
        return replace(ctx, secret=(SECRETS if secrets is None else secrets).__getitem__)

    return context


def opened(ctx: Any) -> dict[str, tuple[str, ...]]:
    return {rule.ports: rule.sources for rule in openings(ctx)}


def test_the_roadmap_is_the_phases() -> None:
    assert tuple(PHASES) == ROADMAP[: len(PHASES)]


def test_phases_contain_the_ones_before(make: Make) -> None:
    reached = {phase: [make(phase=phase).reached(other) for other in ROADMAP] for phase in ROADMAP}
    assert list(reached.values()) == [[True, False, False], [True, True, False], [True, True, True]]
    with pytest.raises(ValueError, match="not in tuple"):
        make().reached("phase9")


def test_data_ports_open_for_the_roles_that_use_them(make: Make) -> None:
    apps = ("10.0.0.11/32", "10.0.0.12/32")
    assert opened(make("data-1", SPREAD)) == {"22": (), "6379": apps, "6380": apps, "5432": (*apps, "10.0.0.14/32")}
    assert opened(make("pool-1", SPREAD)) == {"22": (), "6432": apps}
    assert opened(make("app-1", SPREAD)) == {"22": (), "5000-5059": ("10.0.0.10/32",)}


@pytest.mark.parametrize(
    ("blocks", "ports"),
    [
        ({"phase": "phase1"}, {"22"}),
        ({"redis": {"external": True}}, {"22", "5432"}),
        ({"postgres": {"external": True}}, {"22", "6379", "6380"}),
    ],
)
def test_what_is_not_installed_is_not_opened(make: Make, blocks: dict[str, Any], ports: set[str]) -> None:
    assert set(opened(make("data-1", SPREAD, **blocks))) == ports


def test_one_host_for_all_keeps_to_loopback(make: Make) -> None:
    ctx = make()
    assert set(opened(ctx)) == {"22", "80", "443"}
    for role in ("cache", "pooler", "database"):
        assert clients(ctx, role) == []
        assert listen_addresses(ctx, role) == ("127.0.0.1",)
    assert listen_addresses(make("data-1", SPREAD), "cache") == ("127.0.0.1", "10.0.0.13")


def test_data_has_one_home(make: Make) -> None:
    two = {**SPREAD, "data-2": {"address": "192.0.2.20", "roles": ["database", "pooler"]}}
    with pytest.raises(ValueError, match="hosts: data-1, data-2 have the role database"):
        serving(make("app-1", two), "database")
    assert serving(make("data-2", two), "pooler") == "data-2"
    assert serving(make("app-1", two), "pooler") == "pool-1"
    with pytest.raises(ValueError, match="hosts: no host has the role database"):
        serving(make("app-1", {"app-1": {"address": "192.0.2.1", "roles": ["web", "app"]}}), "database")


def test_memory_of_redis(make: Make) -> None:
    ctx = make("data-1", SPREAD)
    assert [redis.memory_mb(ctx, name) for name in INSTANCES] == [742, 185]
    assert redis.memory_mb(make(redis={"cache_memory": 64}), "cache") == 64
    with pytest.raises(ValueError, match=r"redis/durable_memory: 13 MiB of the 91 MiB that the role cache has here"):
        redis.memory_mb(make(memory_mb=1024), "durable")


def test_more_memory_than_there_is(make: Make) -> None:
    with pytest.raises(ValueError, match=r"4000 MiB for the cache and 79 MiB durable are more than the 4096 MiB"):
        redis.memory_mb(make(redis={"cache_memory": 4000}), "cache")


def test_a_name_that_redis_keeps(make: Make) -> None:
    with pytest.raises(ValueError, match="app/name: Redis keeps the name 'default'"):
        redis_users.acl(make(app={"name": "default"}), "cache")


@pytest.mark.parametrize("block", [{"pool_size": 0}, {"max_client_conn": -1}])
def test_no_pool_without_connections(make: Make, block: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"is below 1\. Write auto"):
        make(pgbouncer=block)


@pytest.mark.parametrize(("codename", "setinfo"), [("bookworm", False), ("trixie", True)])
def test_users_of_redis(make: Make, codename: str, setinfo: bool) -> None:
    cache = redis_users.acl(make(codename=codename), "cache")
    default, app, admin = cache.splitlines()
    assert default == "user default off resetkeys -@all"
    assert app.startswith("user shop on #")
    assert " ~rb:shop:* resetchannels -@all +get +set " in app
    assert ("+client|setinfo" in app) == setinfo
    assert admin.startswith("user roadbed on #")
    assert "+@all -@admin -@dangerous +info" in redis_users.acl(make(), "durable")
    assert not [value for value in SECRETS.values() if value in cache]


def test_settings_of_redis_by_version(make: Make) -> None:
    values = {"addresses": ("127.0.0.1",), "grouped": False, "user": redis_users.REPLICA}
    old = render("redis", redis.COMMON, make(), version=(6, 0), **values)
    new = render("redis", redis.COMMON, make(), version=(8, 0), **values)
    assert "maxmemory-clients" not in old
    assert "maxmemory-clients 10%" in new


def test_names_of_the_database(make: Make) -> None:
    ctx = make(app={"name": "my-shop"})
    assert (postgres.database_name(ctx), postgres.owner_name(ctx)) == ("my_shop", "my_shop_owner")
    for name in ("template1", "pg-shop", "all"):
        with pytest.raises(ValueError, match="app/name: PostgreSQL keeps the name"):
            postgres.database_name(make(app={"name": name}))


def test_version_of_postgres(make: Make) -> None:
    assert [postgres.version(make(codename=name)) for name in ("bookworm", "trixie")] == ["15", "17"]


@pytest.mark.parametrize(
    ("share", "most", "sizes"),
    [
        (1060, 100, ["265MB", "795MB", "4MB", "66MB"]),
        (32_384, 100, ["8096MB", "24288MB", "64MB", "1024MB"]),
        (60, 100, ["16MB", "45MB", "4MB", "32MB"]),
    ],
)
def test_memory_of_postgres(share: int, most: int, sizes: list[str]) -> None:
    assert list(postgres.sizes(share, most).values()) == sizes


def test_access_rules(make: Make) -> None:
    lines = postgres.access(make("data-1", SPREAD))
    assert [(kind, source) for kind, _, source, _ in lines] == [
        ("host", "127.0.0.1/32"),
        ("hostssl", "10.0.0.11/32"),
        ("hostssl", "10.0.0.12/32"),
        ("hostssl", "10.0.0.14/32"),
    ]
    assert {(users, method) for _, users, _, method in lines} == {("shop,shop_owner", "scram-sha-256")}


def test_statements_hold_no_password(make: Make) -> None:
    ctx = make()
    text = render(
        "postgres", postgres.SQL_FILE, ctx, roles=verifiers(ctx, "shop", "shop_owner"), name="shop", owner="shop_owner"
    )
    assert not [value for value in SECRETS.values() if value in text]
    assert text.count("SCRAM-SHA-256$4096:") == 2


def test_state_of_the_users(make: Make) -> None:
    expected = expected_roles(make(), "shop", "shop_owner")
    assert sorted(expected) == ["database shop", "role shop", "role shop_owner"]
    fact = RolesState()
    assert fact.process(['{"role shop" : "x",', ' "database shop" : "y"}']) == {"role shop": "x", "database shop": "y"}
    assert fact.process([""]) == {}
    assert "IN ('shop', 'shop_owner')" in fact.command(["shop", "shop_owner"])


@pytest.mark.parametrize(
    ("component", "script", "values"),
    [
        ("redis", redis_users.CHECK, {}),
        ("pgbouncer", pgbouncer.CHECK, {}),
        ("postgres", postgres.BACKUP, DATABASE),
        ("postgres", postgres.RESTORE_CHECK, DATABASE),
        ("postgres", postgres.SWAP, DATABASE),
    ],
)
def test_scripts_are_sound_shell(make: Make, component: str, script: str, values: dict[str, str]) -> None:
    text = render(component, script, make(), **values)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, "-"], input=text, text=True, check=True)


@pytest.mark.parametrize(
    ("codename", "source", "prepared"),
    [("bookworm", "distro", False), ("bookworm", "pgdg", True), ("trixie", "distro", True)],
)
def test_prepared_statements(make: Make, codename: str, source: str, prepared: bool) -> None:
    ctx = make("app-1", SPREAD, codename=codename, pgbouncer={"source": source})
    assert urls.prepared_statements(ctx) == prepared
    assert ("pool-1 has PgBouncer 1.18" in urls.prepared_note(ctx)) == (not prepared)
    extra = {} if prepared else {"pgbouncer": "true"}
    assert urls.parameters(ctx, "prisma") == {"connection_limit": "5", **extra}
    assert urls.parameters(ctx, "postgres") == ({} if prepared else {"prepare": "false"})
    assert urls.parameters(ctx, "pg") == {}
    text = render("pgbouncer", "/etc/pgbouncer/pgbouncer.ini", make(codename=codename), **pgbouncer._values(ctx))
    assert ("max_prepared_statements = 200" in text) == prepared


def test_without_a_pooler_nothing_is_in_the_way(make: Make) -> None:
    hosts = {name: host for name, host in SPREAD.items() if name != "pool-1"}
    ctx = make("app-1", hosts, codename="bookworm")
    assert urls.prepared_statements(ctx)
    assert urls.database_url(ctx, "prisma").endswith("@10.0.0.13:5432/shop?sslmode=require&connection_limit=5")
    assert urls.database_url(ctx, "pg").endswith("?sslmode=no-verify")


def test_urls(make: Make) -> None:
    ctx = make("app-1", SPREAD)
    login = "shop:postgres_app_password%2F%2B%3A%40%3F"
    assert urls.database_url(ctx) == f"postgresql://{login}@10.0.0.14:6432/shop"
    assert unquote(urlsplit(urls.database_url(ctx)).password or "") == SECRETS["postgres_app_password"]
    owner = endpoint(ctx, "app-1", owner=True)
    assert (owner.host, owner.port, owner.user, owner.tls) == ("10.0.0.13", 5432, "shop_owner", "require")
    assert urls.local_url(owner, 4711).startswith("postgresql://shop_owner:postgres_owner_password")
    assert urls.local_url(owner, 4711).endswith("@127.0.0.1:4711/shop")
    assert urls.cache_url(ctx).startswith("redis://shop:redis_cache_password%2F")
    assert urls.cache_url(ctx).endswith("@10.0.0.13:6379/0")
    assert urls.durable_url(ctx).endswith("@10.0.0.13:6380/0")
    assert urls.cache_url(make()).endswith("@127.0.0.1:6379/0")
    assert endpoint(make(), "web-1", owner=True).tls == "disable"


def test_servers_of_the_users_own(make: Make) -> None:
    secrets = {
        **SECRETS,
        "database_url": "postgresql://me:p%40ss@db.example.com/store?sslmode=verify-full",
        "redis_cache_url": "rediss://cache.example.com",
        "redis_durable_url": "rediss://durable.example.com",
    }
    ctx = make("app-1", SPREAD, secrets, redis={"external": True}, postgres={"external": True})
    assert urls.cache_url(ctx) == "rediss://cache.example.com"
    assert urls.durable_url(ctx) == "rediss://durable.example.com"
    assert urls.database_url(ctx) == "postgresql://me:p%40ss@10.0.0.14:6432/store"
    assert endpoint(ctx, "app-1", owner=True).tls == "verify-full"
    text = render("pgbouncer", "/etc/pgbouncer/pgbouncer.ini", ctx, **pgbouncer._values(ctx))
    assert "store = host=db.example.com port=5432 dbname=store" in text
    assert "server_tls_sslmode = verify-full" in text
    assert pgbouncer.userlist(ctx).startswith('"me" "p@ss"\n')


@pytest.mark.parametrize("url", ["", "mysql://a:b@c/d", "postgres://a@c/d", "postgres://a:s3cret@c", "postgres://[x"])
def test_bad_urls_are_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="secret database_url: is not a URL") as refused:
        parse(url)
    assert "s3cret" not in str(refused.value)


def test_what_a_stack_has(make: Make) -> None:
    alone = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app"]}}
    assert not urls.has_cache(make(hosts=alone))
    assert not urls.has_database(make(hosts=alone))
    assert not urls.has_cache(make(phase="phase1"))
    assert urls.has_cache(make())
    assert urls.pooled(make())


def test_users_of_pgbouncer(make: Make) -> None:
    text = pgbouncer.userlist(make())
    assert [line.split()[0] for line in text.splitlines()] == ['"shop"', '"roadbed"']
    assert not [value for value in SECRETS.values() if value in text]
    database = endpoint(make(), "web-1")
    assert verifiers(make(), "shop", "shop_owner")["shop"] in text, "PgBouncer and the server must hold the same one"
    assert "postgres_app" not in repr(database)


def test_pools_of_the_stack(make: Make) -> None:
    ctx = make("pool-1", SPREAD, app={"replicas": 3, "memory": 256, "database": {"pool": 4}})
    assert pgbouncer.pools(ctx).pool_size == 48
    from dataclasses import replace

    part = replace(ctx, facts={name: facts for name, facts in ctx.facts.items() if name != "app-2"})
    assert pgbouncer.pools(part) == pgbouncer.pools(ctx), "a host that is away still has its instances"


def test_the_projects_repository_brings_pgbouncer_alone(make: Make) -> None:
    ctx = make(codename="bookworm", pgbouncer={"source": "pgdg"})
    source = render("pgbouncer", "/etc/apt/sources.list.d/roadbed-pgdg.sources", ctx)
    assert "Suites: bookworm-pgdg\n" in source
    assert "Signed-By: /usr/share/postgresql-common/pgdg/apt.postgresql.org.asc\n" in source
    pins = render("pgbouncer", "/etc/apt/preferences.d/roadbed-pgdg", ctx).split("\n\n")
    assert ["Package: *" in pins[0], "Pin-Priority: -1" in pins[0]] == [True, True]
    assert ["Package: pgbouncer\n" in pins[1], "Pin-Priority: 990" in pins[1]] == [True, True]


def test_parameters_of_an_own_database_are_kept(make: Make) -> None:
    """Prisma's schema goes everywhere; what is for the server does not go to PgBouncer, which would refuse it."""
    url = {
        "database_url": "postgresql://me:secret@db.example.com/shop?sslmode=require&schema=store&options=endpoint%3Dx"
    }
    external = {"postgres": {"external": True}, "secrets": url}
    pooled = urls.database_url(make(**external), "prisma")
    assert "schema=store" in pooled
    assert "options" not in pooled
    alone = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app", "cache"]}}
    assert "schema=store&options=endpoint%3Dx" in urls.database_url(make(hosts=alone, **external), "prisma")
