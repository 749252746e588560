"""Migrations on one machine with every role, and database drivers through the PgBouncer of Debian 12 and 13."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from roadbed.checks.pgwire import PgClient, PgError
from roadbed.deploys.node import NodeSettings
from roadbed.deploys.pgbouncer import RECONNECT
from roadbed.engine.secrets import Secrets
from roadbed.machines.model import MachineSpec
from roadbed.releases.cache import build_folder
from roadbed.releases.node_builds import resolve_all
from roadbed.releases.toolchain import fetch

from .conftest import PROVISION, Stack, make_stack, spec
from .tiny import DOMAIN, operations
from .tunnels import tunnel

pytestmark = pytest.mark.long

PROJECTS = Path(__file__).with_name("projects")
HOST, OLD_HOST = "mi-13", "mi-12"
ROLES = ["web", "app", "cache", "pooler", "database"]
MIGRATE, RENEW = "Run the migrations: npm run migrate", "Have PgBouncer open new connections"
POOL = 3


@pytest.fixture(scope="module")
def make(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Stack]:
    """``make("mi-13", 86, "trixie")``: a fresh machine and an inventory for a project that migrates."""

    def stack(host: str, number: int, suite: str) -> Stack:
        machine = spec(host, number, suite)
        booted([machine])
        folder = tmp_path_factory.mktemp(host)
        shutil.copytree(PROJECTS / "tables", folder / "tables")
        app = {"name": "tables", "source": str(folder / "tables"), "health": "/", "streaming": None, "replicas": 1}
        hosts = {host: {"address": machine.address, "roles": ROLES}}
        app |= {"memory": 256, "migrate": "npm run migrate"}
        made = make_stack(folder, [machine], app=app, hosts=hosts)
        made.write(redis={"cache_memory": 64, "durable_memory": 32}, pgbouncer={"pool_size": POOL})
        made.first = made.converge(phase="phase2")
        return made

    return stack


@pytest.fixture(scope="module")
def stack(make: Callable[..., Stack]) -> Stack:
    """The project in phase2 on Debian 13. The tests of this module go on from where the one before stopped."""
    return make(HOST, 86, "trixie")


@pytest.fixture(scope="module")
def older(make: Callable[..., Stack]) -> Stack:
    """The project in phase2 on Debian 12."""
    return make(OLD_HOST, 85, "bookworm")


def orders(stack: Stack) -> dict[str, Any]:
    """What the app reads through PgBouncer, asked through nginx."""
    name = next(iter(stack.data["hosts"]))
    here = f"--resolve {DOMAIN}:443:127.0.0.1 https://{DOMAIN}/orders"
    found: dict[str, Any] = json.loads(stack.ssh(name, f"curl -ksS -m 10 {here}"))
    return found


def psql(stack: Stack, *statements: str) -> str:
    """What the database says to its superuser."""
    words = " ".join(f"-c {shlex.quote(statement)}" for statement in statements)
    return stack.ssh(HOST, f"runuser -u postgres -- psql -X -A -t -q -v ON_ERROR_STOP=1 tables {words}")


def runs(stack: Stack) -> list[str]:
    """User and TLS of every time that the project's command has run."""
    return psql(stack, "SELECT who, tls FROM runs ORDER BY at").split()


def migration(stack: Stack, name: str, sql: str) -> None:
    """Writes a migration into the project: a new source, so a new release."""
    (Path(stack.data["app"]["source"]) / "migrations" / name).write_text(sql)


def secrets(stack: Stack) -> Secrets:
    """The secrets of the stack, as its commands read them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROADBED_IDENTITY", stack.environment["ROADBED_IDENTITY"])
        return Secrets(stack.path.with_name("stack.secrets.age"))


def remembered(stack: Stack) -> list[str]:
    """The releases whose migrations the machine knows to have run."""
    return stack.ssh(HOST, "cut -d' ' -f2 /var/lib/roadbed/tables/migrated").split()


def test_the_first_deploy_migrates(stack: Stack) -> None:
    """Before the first instance starts, as the owner of the schema; the app's own user reads what came of it."""
    done = operations(stack.first, "changed")
    assert [done.index(MIGRATE), done.index(RENEW)] == [done.index(MIGRATE), done.index(MIGRATE) + 1]
    assert done[done.index(RENEW) + 1].startswith("Start release")
    assert runs(stack) == ["tables_owner|f"]
    assert [row["item"] for row in orders(stack)["rows"]] == ["lamp", "hammer"]
    assert remembered(stack) == [orders(stack)["release"]]


def test_the_second_run_does_not(stack: Stack) -> None:
    assert operations(stack.converge(phase="phase2"), "changed") == []
    assert len(runs(stack)) == 1


def test_another_slot_for_the_same_release_does_not(stack: Stack) -> None:
    """A changed environment rolls the release into the next slot; its migrations have run."""
    stack.write(app={"drain": 20})
    done = operations(stack.converge(phase="phase2"), "changed")
    assert any(name.startswith("Switch traffic") for name in done)
    assert MIGRATE not in done
    assert len(runs(stack)) == 1


def test_a_dry_run_tells_and_does_nothing(stack: Stack) -> None:
    migration(stack, "002-price.sql", "ALTER TABLE order ADD COLUMN price integer NOT NULL DEFAULT 1;")
    assert MIGRATE in operations(stack.converge("--dry-run", phase="phase2"), "changed")
    assert len(runs(stack)) == 1


def test_a_migration_that_fails_leaves_the_old_release_serving(stack: Stack) -> None:
    """Exit code 4, with what the database said; no new instance is started; the next run tries again."""
    before = orders(stack)
    for attempt in (2, 3):
        failed = stack.provision("phase2", code=4)
        assert "app/migrate: `npm run migrate` failed with exit code 1 before" in failed.stderr
        assert f"{before['release']} goes on serving" in failed.stderr
        assert 'syntax error at or near "order"' in failed.stderr
        assert len(runs(stack)) == attempt
        assert orders(stack) == before
    assert remembered(stack) == [before["release"]]
    running = stack.ssh(HOST, "systemctl list-units --plain --no-legend --state=active 'tables@*.service'")
    assert len(running.splitlines()) == 1


def test_the_repaired_migration_goes_through(stack: Stack) -> None:
    """A statement that was prepared through PgBouncer before gives the new columns after; the new release serves.

    Without RECONNECT it fails: shown last, with a change of the schema that nobody told PgBouncer of.
    """
    before = orders(stack)["release"]
    migration(stack, "002-price.sql", "ALTER TABLE orders ADD COLUMN price integer NOT NULL DEFAULT 1;")
    password = secrets(stack).get("postgres_app_password")
    with tunnel(HOST, 6432) as port, PgClient(port, "tables", password, "tables") as client:
        client.prepare("orders", "SELECT * FROM orders ORDER BY id")
        assert client.execute("orders") == [["1", "lamp"], ["2", "hammer"]]
        assert {MIGRATE, RENEW} <= set(operations(stack.converge(phase="phase2"), "changed"))
        assert client.execute("orders") == [["1", "lamp", "1"], ["2", "hammer", "1"]]
        psql(stack, "SET ROLE tables_owner", "ALTER TABLE orders ADD COLUMN note text")
        with pytest.raises(PgError, match="cached plan must not change result type"):
            client.execute("orders")
        stack.ssh(HOST, RECONNECT)
        assert client.execute("orders") == [["1", "lamp", "1", None], ["2", "hammer", "1", None]]
    assert orders(stack)["rows"][0] == {"id": 1, "item": "lamp", "price": 1, "note": None}
    assert remembered(stack) == [before, orders(stack)["release"]]


def test_going_back_migrates_nothing(stack: Stack) -> None:
    """The release of before runs with the schema of now: its migrations are known to have run."""
    kept = Path(stack.data["app"]["source"]) / "migrations/002-price.sql"
    text, count, now = kept.read_text(), len(runs(stack)), orders(stack)["release"]
    kept.unlink()
    assert MIGRATE not in operations(stack.converge(phase="phase2"), "changed")
    assert orders(stack)["release"] != now
    kept.write_text(text)
    assert MIGRATE not in operations(stack.converge(phase="phase2"), "changed")
    assert (orders(stack)["release"], len(runs(stack))) == (now, count)


def test_a_run_that_is_killed_is_repeated(stack: Stack) -> None:
    """SIGKILL while the database works: nothing is recorded, and the next run migrates and goes on."""
    migration(stack, "003-slow.sql", "SELECT pg_sleep(6); CREATE TABLE slow ();")
    before = remembered(stack)
    process = subprocess.Popen(
        [PROVISION, "phase2", "-i", str(stack.path)],
        cwd=stack.folder,
        env=stack.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    try:
        for _ in range(600):
            if psql(stack, busy).strip() == "1":
                break
            assert process.poll() is None, "it was over before it could be killed"
            time.sleep(0.2)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert remembered(stack) == before
    assert MIGRATE in operations(stack.converge(phase="phase2"), "changed")
    assert remembered(stack) == [*before, orders(stack)["release"]]
    assert psql(stack, "SELECT name FROM migrations ORDER BY name").split()[-1] == "003-slow.sql"


def test_a_copy_that_is_gone_is_made_again(stack: Stack) -> None:
    """Without the record and the copy: packages are installed, the migrations run, and no instance restarts."""
    shutil.rmtree(build_folder("tables") / "source")
    (build_folder("tables") / "source.hash").unlink()
    stack.ssh(HOST, "rm /var/lib/roadbed/tables/migrated")
    pids = stack.ssh(HOST, "systemctl show -p MainPID --value 'tables@*.service'")
    assert operations(stack.converge(phase="phase2"), "changed") == [MIGRATE, RENEW]
    assert stack.ssh(HOST, "systemctl show -p MainPID --value 'tables@*.service'") == pids


def test_secrets_stay_where_they_belong(stack: Stack) -> None:
    """The owner's password is in no file of the build, and the running app does not have it."""
    password = secrets(stack).get("postgres_owner_password")
    work = build_folder("tables")
    assert (work / "migrate.log").stat().st_mode & 0o777 == 0o600
    found = subprocess.run(["grep", "-rlF", password, str(work)], capture_output=True, text=True)
    assert found.stdout == ""
    assert password not in stack.ssh(HOST, "cat /etc/roadbed/tables/env")


def test_check_and_verify_say_why_there_is_no_database(stack: Stack) -> None:
    """Away, or refusing the password: the reason, of which clients of PgBouncer do not hear."""
    stack.ssh(HOST, "systemctl stop postgresql@17-main")
    assert "127.0.0.1:5432 cannot be reached from here: Connection refused" in stack.provision("check").stderr
    stack.ssh(HOST, "systemctl start postgresql@17-main")
    psql(stack, "ALTER ROLE tables PASSWORD 'other'")
    stack.ssh(HOST, "systemctl restart pgbouncer")
    reason = '127.0.0.1:5432 does not let tables in: password authentication failed for user "tables"'
    assert reason in stack.provision("check").stderr
    red = json.loads(stack.provision("verify", "--only", "pgbouncer", "--json", code=5).stdout)["checks"]
    problems = {item["claim"]: item["problem"] for item in red if not item["passed"]}
    assert reason in problems["PgBouncer gets through to the database and is let in"]
    assert operations(stack.converge(phase="phase2"), "changed") == ["Mend the database and its users"]
    assert "127.0.0.1:5432 can be reached, and lets tables in" in stack.provision("check").stderr


def test_a_release_file_cannot_migrate(stack: Stack) -> None:
    """Said before any host is asked, with both ways out; without the command the file is deployed."""
    source, file = stack.data["app"]["source"], stack.folder / "release.tar.gz"
    stack.provision("build", "-o", str(file))
    stack.write(app={"source": str(file)})
    refused = stack.provision("phase2", code=2)
    assert "app/migrate: `npm run migrate` runs in the project, and app/source is the release file" in refused.stderr
    stack.write(app={"migrate": None})
    assert operations(stack.converge(phase="phase2"), "changed") == []
    stack.write(app={"source": source, "migrate": "npm run migrate"})


def test_a_database_of_the_users_own_is_migrated_through_an_app_host(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its URL wants TLS: it is spoken all the way, though the command itself is given a plain local port."""
    owner = secrets(stack).get("postgres_owner_password")
    url = f"postgresql://tables_owner:{owner}@127.0.0.1:5432/tables?sslmode=require"
    monkeypatch.setenv("ROADBED_IDENTITY", stack.environment["ROADBED_IDENTITY"])
    secrets(stack).set("database_url", url)
    stack.write(postgres={"external": True})
    assert MIGRATE in operations(stack.converge(phase="phase2"), "changed")
    assert runs(stack)[-1] == "tables_owner|t"
    assert [row["item"] for row in orders(stack)["rows"]] == ["lamp", "hammer"]
    stack.ssh(HOST, "systemctl stop postgresql@17-main")
    stack.ssh(HOST, "rm /var/lib/roadbed/tables/migrated")
    away = stack.provision("phase2", code=4)
    assert f"{HOST}: 127.0.0.1:5432 cannot be reached from there: Connect failed" in away.stderr
    stack.ssh(HOST, "systemctl start postgresql@17-main")
    stack.write(postgres={"external": False})
    stack.converge(phase="phase2")


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """``ask(stack, "pg")``: 6 clients of a driver ask through PgBouncer, with the URL that the app has."""
    folder = tmp_path_factory.mktemp("drivers")
    shutil.copytree(PROJECTS / "drivers", folder, dirs_exist_ok=True)
    tools = fetch(resolve_all(NodeSettings(source="npm")))
    path = os.pathsep.join([str(tools.node.parent), *os.get_exec_path()])
    install = [*tools.npm, "ci", "--no-audit", "--no-fund", "--prefer-offline"]
    subprocess.run(install, cwd=folder, env={**os.environ, "PATH": path}, check=True, capture_output=True)

    def answers(stack: Stack, driver: str, *, parameters: bool = True) -> dict[str, Any]:
        host = next(iter(stack.data["hosts"]))
        line = stack.ssh(host, "grep ^DATABASE_URL= /etc/roadbed/tables/env").strip()
        url = urlsplit(line.removeprefix('DATABASE_URL="').removesuffix('"'))
        with tunnel(host, 6432) as port:
            login = url.netloc.rpartition("@")[0]
            here = url._replace(netloc=f"{login}@127.0.0.1:{port}", query=url.query if parameters else "")
            words = [str(tools.node), "ask.mjs", driver]
            try:
                done = subprocess.run(
                    words, cwd=folder, env={"DATABASE_URL": here.geturl()}, capture_output=True, text=True, timeout=30
                )
            except subprocess.TimeoutExpired:
                return {"errors": ["no answer within 30 s"]}
            finally:
                stack.ssh(host, RECONNECT)  # server connections forget what was prepared on them
        found: dict[str, Any] = json.loads(done.stdout or json.dumps({"errors": [done.stderr]}))
        return found

    return answers


GOOD = {"connections": POOL, "errors": []}


@pytest.mark.parametrize("driver", ["postgres", "pg", "prisma"])
def test_drivers_work_with_the_url_they_are_given(
    stack: Stack, older: Stack, ask: Callable[..., dict[str, Any]], driver: str
) -> None:
    """postgres.js, pg and Prisma's adapter for pg, 6 clients over 3 server connections, on Debian 12 and 13."""
    assert ask(older, driver) == GOOD
    assert ask(stack, driver) == GOOD


def test_the_url_says_what_this_pgbouncer_needs(stack: Stack, older: Stack, ask: Callable[..., dict[str, Any]]) -> None:
    """PgBouncer 1.18 knows no prepared statements: without the parameter postgres.js fails, and so do named ones of pg.

    Newer ones keep them apart, and the URL has no parameter.
    """
    assert orders(older)["prepare"] is False
    assert orders(stack)["prepare"] is True
    assert ask(older, "postgres", parameters=False)["errors"]
    assert any("prepared statement" in line for line in ask(older, "named")["errors"])
    assert ask(stack, "named") == GOOD
