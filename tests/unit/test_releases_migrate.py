"""Migrations: when they are due, in which order things happen, what the command sees and what is told of a failure."""

import base64
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadbed.deploys import pgbouncer, postgres
from roadbed.engine.errors import HostUnreachable, InventoryError, RoadbedError
from roadbed.engine.parallel import each
from roadbed.releases import migrate
from roadbed.releases.artefact import Artefact
from roadbed.releases.build import check_source
from roadbed.releases.command import BuildFailed
from roadbed.releases.host_state import HostState
from roadbed.releases.job import Job, make_job
from roadbed.releases.manifest import Manifest
from roadbed.releases.migrate import Migrations
from roadbed.releases.next_build import prepare
from roadbed.releases.project import Project
from roadbed.releases.stages import Stages, Stopped

Make = Callable[..., Any]
OLD, NEW = "20260101T000000-aaaaaaa", "20260102T000000-bbbbbbb"
SECRETS = {name: f"{name}/+:@?" for name in (*postgres.SECRETS, *pgbouncer.SECRETS)}
HOSTS = {
    "web-1": {"address": "192.0.2.10", "roles": ["web"]},
    "app-1": {"address": "192.0.2.11", "roles": ["app"]},
    "app-2": {"address": "192.0.2.12", "roles": ["app"]},
    "data-1": {"address": "192.0.2.13", "roles": ["database"]},
    "pool-1": {"address": "192.0.2.14", "roles": ["pooler"]},
}


class Host:
    """Keeps what it is told to do."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name, self.told = name, told

    def run(self, command: str) -> None:
        self.told.append(f"{self.name}: {command}")

    def write(self, path: str, data: bytes) -> None:
        self.told.append(f"{self.name}: {path}={data.decode()}")


class Fleet:
    """Hosts that are connected, by name."""

    def __init__(self, inventory: Any, names: list[str], told: list[str]) -> None:
        self.inventory, self.hosts = inventory, {name: Host(name, told) for name in names}

    def session(self, name: str) -> Host:
        if name not in self.hosts:
            raise HostUnreachable(f"{name}: is not connected")
        return self.hosts[name]

    def each(self, names: Any, work: Callable[[Any, str], Any]) -> dict[str, Any]:
        return each(names, lambda name: work(self.session(name), name))


class Told(SimpleNamespace):
    """The report: (host, operation, status)."""

    def operation(self, host: str, _: str, name: str, status: str, seconds: float = 0.0, detail: str = "") -> None:
        self.lines.append((host, name, status, detail))

    def progress(self, host: str, text: str) -> None: ...


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The build of a project with one file, whose copy is there; Node.js is this Python."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "project").mkdir()
    (tmp_path / "project/package.json").write_text("{}")
    project = Project(tmp_path / "project", Path(), "npm", "package-lock.json", "16.4.6", {})
    tools: Any = SimpleNamespace(build=SimpleNamespace(version="24.21.0"), node=Path(sys.executable), npm=["true"])
    app: Any = SimpleNamespace(
        name="shop", env={"PLAIN": "1", "NODE_ENV": "production"}, cdn=SimpleNamespace(asset_prefix=None)
    )
    made = make_job(app, project, tools, base64.b64encode(bytes(32)), lambda text: None)
    prepare(made)
    return made


@pytest.fixture
def make(make_context: Make, job: Job, monkeypatch: pytest.MonkeyPatch) -> Make:
    """``make(command)``: migrations of release NEW on a stack; what was told is in ``.told`` and ``.report``."""

    @contextmanager
    def tunnel(session: Host, database: Any) -> Iterator[int]:
        session.told.append(f"{session.name}: tunnel to {database.host} as {database.user} with {database.tls}")
        yield 45678

    monkeypatch.setattr(migrate, "postgres_tunnel", tunnel)

    def migrations(
        command: str | None = "true", connected: str = "web-1 app-1 app-2 data-1 pool-1", **blocks: Any
    ) -> Any:
        inventory_blocks = {"hosts": HOSTS, "phase": "phase2", **blocks}
        app = {"migrate": command, **inventory_blocks.pop("app", {})}
        contexts = {
            name: replace(make_context(name=name, app=app, **inventory_blocks), secret=SECRETS.__getitem__)
            for name in inventory_blocks["hosts"]
        }
        told: list[str] = []
        fleet: Any = Fleet(contexts["app-1"].inventory, connected.split(), told)
        report: Any = Told(lines=[])
        run: Any = SimpleNamespace(fleet=fleet, contexts=contexts, report=report, guard=lambda _: None)
        manifest: Any = Manifest.model_construct(release=NEW, source_hash=job.source_hash)
        apps = [name for name in ("app-1", "app-2") if name in inventory_blocks["hosts"]]
        made = Migrations(Artefact(Path(), manifest, job), run, apps, Stages(run, "release"))
        return SimpleNamespace(it=made, told=told, lines=report.lines)

    return migrations


def states(*migrated: str) -> dict[str, HostState]:
    """app-1 knows of some migrations, app-2 of none; OLD serves."""
    return {"app-1": HostState(current=OLD, migrated=migrated), "app-2": HostState(), "web-1": HostState()}


def test_they_run_once_for_a_release(make: Make) -> None:
    made = make()
    assert made.it.due(states())
    assert made.it.due(states("0" * 64 + f" {OLD}"))
    assert not made.it.due(states(f"{made.it._key()} {NEW}"))


@pytest.mark.parametrize(
    "blocks",
    [
        {"phase": "phase1"},
        {"command": None},
        {"hosts": {name: HOSTS[name] for name in ("web-1", "app-1", "app-2")}},
    ],
)
def test_without_a_database_or_a_command_there_are_none(make: Make, blocks: dict[str, Any]) -> None:
    assert not make(**blocks).it.due(states())


def test_another_command_or_another_database_is_something_new(make: Make) -> None:
    elsewhere = {**HOSTS, "data-1": {**HOSTS["data-1"], "roles": ["cache"]}, "pool-1": {**HOSTS["pool-1"]}}
    elsewhere["pool-1"]["roles"] = ["pooler", "database"]
    stacks = [make(), make("false"), make(hosts=elsewhere), make(app={"name": "other"})]
    keys = [stack.it._key() for stack in stacks]
    assert len(set(keys)) == 4
    assert make().it._key() == keys[0]


def test_first_the_command_then_the_poolers_then_the_record(make: Make) -> None:
    made = make()
    made.it.perform(states("aa " + OLD))
    assert made.told == [
        "data-1: tunnel to 127.0.0.1 as shop_owner with disable",
        f"pool-1: {pgbouncer.RECONNECT}",
        *[line for line in made.told[2:] if "migrated" in line],
    ]
    assert sorted(made.told[2:]) == [
        f"app-1: /var/lib/roadbed/shop/migrated=aa {OLD}\n{made.it._key()} {NEW}\n",
        f"app-2: /var/lib/roadbed/shop/migrated={made.it._key()} {NEW}\n",
    ]
    assert [line[:3] for line in made.lines] == [
        ("app-1", "Run the migrations: true", "changed"),
        ("pool-1", "Have PgBouncer open new connections", "changed"),
    ]


def test_the_record_does_not_grow_for_ever(make: Make) -> None:
    made = make()
    made.it.perform(states(*(f"{number} {OLD}" for number in range(80))))
    record = next(line for line in made.told if line.startswith("app-1: /var"))
    assert record.count("\n") == migrate.REMEMBERED


def test_without_its_host_the_database_is_reached_through_an_app_host(make: Make) -> None:
    made = make(connected="app-1 app-2 pool-1")
    made.it.perform(states())
    assert made.told[0] == "app-1: tunnel to 192.0.2.13 as shop_owner with require"


def test_a_pooler_that_is_away_stops_it_before_anything_has_run(make: Make) -> None:
    made = make("touch ran", connected="app-1 app-2 data-1")
    with pytest.raises(Stopped) as stopped:
        made.it.perform(states())
    assert "app/migrate: pool-1 is not connected, and a migration makes PgBouncer" in str(stopped.value.errors["app-1"])
    assert made.told == []


def test_a_failure_is_told_with_the_end_of_its_log_and_nothing_else_happens(make: Make, job: Job) -> None:
    """No reconnect, no record; the password is not shown, even if the command shows it."""
    made = make('echo "cannot: $DATABASE_URL"; exit 3')
    with pytest.raises(Stopped) as stopped:
        made.it.perform(states())
    said = str(stopped.value.errors["app-1"])
    assert stopped.value.errors["app-1"].exit_code == 4
    assert f"failed with exit code 3 before {NEW} was started; {OLD} goes on serving" in said
    assert said.endswith("cannot: (URL)")
    assert "postgres_owner_password" not in said
    assert len(made.told) == 1
    assert [line[2] for line in made.lines] == ["failed"]
    assert (job.work / "migrate.log").stat().st_mode & 0o777 == 0o600


def test_a_password_alone_is_not_shown_either(make: Make) -> None:
    made = make('printf %s "$DATABASE_URL" | cut -d@ -f1; exit 1')
    with pytest.raises(Stopped) as stopped:
        made.it.perform(states())
    said = str(stopped.value.errors["app-1"])
    assert "postgresql://shop_owner:(password)" in said


def test_what_the_command_sees(make: Make, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both URLs are the direct one, in the environment alone; the project's folder; the build's settings; no more."""
    monkeypatch.setenv("ELSEWHERE", "secret")
    words = "pwd; env; cat /proc/$PPID/cmdline /proc/$$/cmdline | tr '\\0' ' '"
    make(f"{{ {words}; }} >seen").it.perform(states())
    seen = (job.folder / "seen").read_text().splitlines()
    url = "postgresql://shop_owner:postgres_owner_password%2F%2B%3A%40%3F@127.0.0.1:45678/shop"
    assert seen[0] == str(job.folder)
    assert {f"DATABASE_URL={url}", f"DIRECT_DATABASE_URL={url}", "PLAIN=1"} <= set(seen)
    assert not [line for line in seen if line.startswith(("ELSEWHERE=", "NODE_ENV="))]
    path = next(line for line in seen if line.startswith("PATH="))
    assert path.startswith(f"PATH={job.folder}/node_modules/.bin:{job.work}/bin:{Path(sys.executable).parent}:")
    assert "postgres_owner_password" not in seen[-1]


def test_the_copy_is_made_again_when_it_is_gone_or_somebody_elses(job: Job) -> None:
    (job.folder / "mark").touch()
    prepare(job)
    assert (job.folder / "mark").exists(), "it was there and is not made again"
    job.copied.write_text("of another release")
    prepare(job)
    assert not (job.folder / "mark").exists()
    assert job.copied.read_text() == job.source_hash


def test_a_project_that_has_changed_since_is_not_taken_for_the_release(job: Job) -> None:
    job.copied.unlink()
    (job.project.root / "package.json").write_text('{"changed": true}')
    with pytest.raises(BuildFailed, match="has changed during this run"):
        prepare(job)
    assert not job.copied.exists()


def test_an_install_that_failed_leaves_no_copy_to_be_used(job: Job) -> None:
    job.copied.unlink()
    broken: Any = SimpleNamespace(build=job.toolchain.build, node=job.toolchain.node, npm=["false"])
    with pytest.raises(BuildFailed, match="npm ci"):
        prepare(replace(job, toolchain=broken))
    assert not job.copied.exists()


def test_a_release_file_cannot_migrate(make_context: Make, tmp_path: Path) -> None:
    for command in (None, "npm run migrate"):
        inventory = make_context(app={"source": "release.tar.gz", "migrate": command}).inventory
        inventory._path = tmp_path / "stack.yml"
        if command is None:
            check_source(inventory)
            continue
        with pytest.raises(InventoryError, match=r"app/migrate: `npm run migrate` .* release file release.tar.gz"):
            check_source(inventory)


@pytest.mark.parametrize("command", ["", "  ", "one\ntwo", "a\x00b"])
def test_a_command_is_one_line(make_context: Make, command: str) -> None:
    with pytest.raises(ValueError, match="must be one command line"):
        make_context(app={"migrate": command})


def test_a_manifest_carries_the_driver() -> None:
    """A manifest from before the field is read, and a new one carries the driver."""
    new = Manifest(
        app="shop", release=NEW, source_hash="0", created=datetime(2026, 1, 2, tzinfo=UTC), next="16.4.6", node="24",
        platform="linux-x86_64", build_id="b", deployment_id=NEW, key_fingerprint="0", server="", dist=".next",
        writable=(), base_path="", asset_prefix="", commit=None, dirty=False, database_driver="pg", routes=(),
        files={}, links={},
    )  # fmt: skip
    text = new.model_dump_json()
    assert Manifest.model_validate_json(text).database_driver == "pg"
    assert Manifest.model_validate_json(text.replace('"database_driver":"pg",', "")).database_driver is None


def test_a_pooler_that_does_not_reconnect_leaves_no_record(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run repeats the migrations and the reconnect."""

    def refuse(self: Host, command: str) -> None:
        raise RoadbedError(f"{self.name}: psql: connection refused")

    monkeypatch.setattr(Host, "run", refuse)
    made = make()
    with pytest.raises(Stopped) as stopped:
        made.it.perform(states())
    assert set(stopped.value.errors) == {"pool-1"}
    assert not [line for line in made.told if "migrated=" in line]
