"""What `provision check` says about the data tier: sums, names, drivers, and services of the user's own."""

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadbed.engine.errors import InventoryError
from roadbed.engine.preflight_data import check_data, check_stack, sums
from roadbed.engine.session import Result

Make = Callable[..., Any]
ROLES = ["web", "app", "cache", "pooler", "database"]
TOGETHER = {"web-1": {"address": "192.0.2.10", "roles": ROLES}}
PASSWORD = "it's; \\$a `secret`"  # noqa: S105


class Local:
    """Runs what a host would be asked on this computer, with programs of its own in ``PATH``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.commands: list[str] = []

    def run(self, command: str, *, check: bool = True) -> Result:
        return self._sh(command)

    def run_words(self, texts: list[str], *, timeout: float | None = 60) -> list[Result]:
        return [self._sh(f"{{ {text}\n}}") for text in texts]

    def _sh(self, text: str) -> Result:
        self.commands.append(text)
        done = subprocess.run(["sh"], input=text, env={"PATH": self.path}, capture_output=True, text=True, timeout=20)
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def make(make_context: Make) -> Make:
    """A context in phase2 with secrets of its own."""

    def context(secrets: dict[str, str] | None = None, **blocks: Any) -> Any:
        def secret(name: str) -> str:
            try:
                return (secrets or {})[name]
            except KeyError:
                raise InventoryError(f"app/secrets: {name} has no value. Set it") from None

        return replace(make_context(**{"hosts": TOGETHER, "phase": "phase2", **blocks}), secret=secret)

    return context


def told(ctx: Any) -> dict[str, tuple[str, str]]:
    return {what: (level, message) for what, level, message in sums(ctx)}


def test_sums_that_work_are_shown(make: Make) -> None:
    assert told(make()) == {
        "redis": ("ok", "318 MiB for the cache, 79 MiB durable, of 4096 MiB"),
        "postgres": ("ok", "17, database shop"),
        "pool": ("ok", told(make())["pool"][1]),
        "pgbouncer": ("ok", "1.24: prepared statements work"),
    }
    assert "= 10 clients; max_connections 100 - 3 for superusers" in told(make(app={"replicas": 1}))["pool"][1]


@pytest.mark.parametrize(
    ("blocks", "what", "words"),
    [
        ({"redis": {"cache_memory": 4000}}, "redis", "redis/cache_memory: 4000 MiB for the cache and 79 MiB durable"),
        ({"memory_mb": 1024, "app": {"replicas": 1, "memory": 256}}, "redis", "redis/durable_memory|redis/cache_mem"),
        ({"app": {"name": "default"}}, "redis", "app/name: Redis keeps the name 'default'"),
        ({"app": {"name": "template1"}}, "postgres", "app/name: PostgreSQL keeps the name 'template1' for itself"),
        ({"pgbouncer": {"pool_size": 500}}, "pool", r"1 x 500 \(pgbouncer/pool_size\) = 500. Lower"),
        ({"app": {"replicas": 1, "memory": 4000}}, "pool", "Lower app/replicas or app/memory"),
    ],
)
def test_sums_that_cannot_work_are_errors(make: Make, blocks: dict[str, Any], what: str, words: str) -> None:
    level, message = told(make(**blocks))[what]
    assert level == "error"
    assert re.search(words, message)


def test_a_pgbouncer_without_prepared_statements_is_a_warning(make: Make) -> None:
    level, message = told(make(codename="bookworm"))["pgbouncer"]
    assert level == "warning"
    assert "web-1 has PgBouncer 1.18, which knows no prepared statements" in message


def test_ports_are_not_opened_by_name(make: Make) -> None:
    hosts = {
        "app-1": {"address": "app.example.com", "roles": ["web", "app"]},
        "data-1": {"address": "192.0.2.13", "roles": ["cache", "pooler", "database"]},
    }
    level, message = told(make(name="data-1", hosts=hosts))["private"]
    assert (level, message.partition(":")[0]) == ("error", "hosts/app-1/private")


def test_nothing_is_said_in_phase1(make: Make) -> None:
    local: Any = Local("/bin:/usr/bin")
    assert check_data(local, make(phase="phase1")) == []
    assert check_stack(make(phase="phase1", app={"migrate": "x"}), None) == []


@pytest.mark.parametrize(
    ("driver", "note", "app", "expected"),
    [
        ("pg", "", {}, ("ok", "pg, by its dependencies; it opens 10 connections an instance unless")),
        ("prisma", "", {}, ("ok", "prisma, by its dependencies")),
        ("pg", "", {"database": {"driver": "pg"}}, ("ok", "pg, by app/database/driver")),
        (None, "", {}, ("warning", "no driver for PostgreSQL among the dependencies")),
        (None, "x speaks to Neon", {}, ("warning", "x speaks to Neon")),
    ],
)
def test_what_is_known_of_the_driver(
    make: Make, driver: str | None, note: str, app: dict[str, Any], expected: tuple[str, str]
) -> None:
    (finding,) = check_stack(make(app=app), driver, note)
    assert (finding.host, finding.what, finding.level) == ("stack", "driver", expected[0])
    assert finding.message.startswith(expected[1])


def test_no_driver_by_the_users_own_word_is_no_finding(make: Make) -> None:
    assert check_stack(make(app={"database": {"driver": "none"}}), None) == []


def test_migrations_without_a_database_are_told(make: Make) -> None:
    hosts = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app", "cache"]}}
    (finding,) = check_stack(make(hosts=hosts, app={"migrate": "npm run migrate"}), None)
    assert (finding.what, finding.level) == ("migrations", "warning")
    assert "`npm run migrate` is not run: no host has the role database" in finding.message


URL = "postgresql://me:it%27s%3B%20%5C%24a%20%60secret%60@127.0.0.1:{port}/store?sslmode=require"


@pytest.fixture
def ask(make: Make, tmp_path: Path) -> Callable[..., Any]:
    """``ask(port, psql=...)``: the finding about a database at a port of this computer, from a host with that psql."""

    def about(port: int, psql: str = "") -> Any:
        (tmp_path / "bin").mkdir()
        for program in ("sh", "bash", "timeout"):
            (tmp_path / "bin" / program).symlink_to(subprocess.check_output(["which", program], text=True).strip())
        if psql:
            (tmp_path / "bin/psql").write_text(f"#!/bin/sh\n{psql}\n")
            (tmp_path / "bin/psql").chmod(0o755)
        local: Any = Local(str(tmp_path / "bin"))
        ctx = make({"database_url": URL.format(port=port)}, postgres={"external": True})
        (found,) = [finding for finding in check_data(local, ctx) if finding.what == "database"]
        return found

    return about


@pytest.fixture
def listening() -> Iterator[int]:
    """A port of this computer on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_database_that_is_away(ask: Callable[..., Any]) -> None:
    found = ask(1)
    assert found.level == "error"
    assert "127.0.0.1:1 cannot be reached from here: Connection refused. Let this host in there" in found.message


def test_without_psql_the_password_is_not_tried_and_that_is_said(ask: Callable[..., Any], listening: int) -> None:
    found = ask(listening)
    assert (found.level, found.message) == (
        "ok",
        f"127.0.0.1:{listening} can be reached; its password was not tried, because this host has no psql yet",
    )


def test_a_password_that_is_accepted(ask: Callable[..., Any], listening: int, tmp_path: Path) -> None:
    """psql gets the URL's parts as its environment, the password as well; its arguments hold neither."""
    keep = (
        f'echo "$*" >{tmp_path}/argv; echo "$PGPASSWORD|$PGUSER|$PGDATABASE|$PGSSLMODE" >{tmp_path}/env; echo accepted'
    )
    found = ask(listening, keep)
    assert (found.level, found.message) == ("ok", f"127.0.0.1:{listening} can be reached, and lets me in")
    assert (tmp_path / "env").read_text() == f"{PASSWORD}|me|store|require\n"
    assert "secret" not in (tmp_path / "argv").read_text()


def test_a_wrong_password(ask: Callable[..., Any], listening: int) -> None:
    said = (
        'psql: error: connection to server at "x", port 1 failed: FATAL:  password authentication failed for user "me"'
    )
    found = ask(listening, f"echo '{said}' >&2; exit 2")
    assert found.level == "error"
    assert 'does not let me in: password authentication failed for user "me". Set the right URL' in found.message
    assert PASSWORD not in found.message


@pytest.mark.parametrize(("phase", "asked"), [("", False), ("phase1", False), ("phase2", True), ("phase3", True)])
def test_the_stacks_own_database_is_asked_once_it_has_to_be_there(make: Make, phase: str, asked: bool) -> None:
    """A database that is away is what the next run mends: no error."""
    ctx = make({"postgres_app_password": "secret"})
    ctx = replace(ctx, facts={name: replace(facts, phase=phase) for name, facts in ctx.facts.items()})
    away: Any = SimpleNamespace(run=lambda *_, **__: Result(1, "", "bash: connect: Connection refused\nbash: line 1"))
    found = [finding for finding in check_data(away, ctx) if finding.what == "database"]
    assert [finding.level for finding in found] == ["warning"] * asked
    if asked:
        assert "127.0.0.1:5432 cannot be reached from here: Connection refused. See systemctl" in found[0].message


def test_urls_that_are_none_or_not_stored(make: Make) -> None:
    local: Any = Local("/bin:/usr/bin")
    secrets = {"database_url": "nonsense", "redis_cache_url": "http://x"}
    ctx = make(secrets, postgres={"external": True}, redis={"external": True})
    found = {finding.what: finding for finding in check_data(local, ctx)}
    assert {found[name].level for name in ("database", "redis cache", "redis durable")} == {"error"}
    assert "secret database_url: is not a URL" in found["database"].message
    assert "secret redis_cache_url: is not a URL such as rediss://" in found["redis cache"].message
    assert "redis_durable_url has no value" in found["redis durable"].message
    assert local.commands == []
