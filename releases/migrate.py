"""Migrations of the database: the project's own command, once for each new release, before its instances start.

The command runs on this machine, in the copy of the project that the release was built from, and reaches the
database through SSH as the owner of the schema. What has run is recorded on the app hosts, after PgBouncer was
told: a run that failed or was killed is repeated, so the command has to bear that, as every tool for migrations
does. Until the switch the old release works with the new schema.
"""

from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import quote

from roadbed.deploys.context import Context
from roadbed.deploys.database import Endpoint, endpoint
from roadbed.deploys.peers import serving
from roadbed.deploys.pgbouncer import RECONNECT
from roadbed.deploys.urls import has_database, local_url
from roadbed.engine.errors import OperationFailed, RoadbedError
from roadbed.engine.postgres_tunnel import postgres_tunnel
from roadbed.engine.session import Session

from . import cache, next_build
from .artefact import Artefact
from .command import BuildLog, call
from .host_state import HostState
from .job import Job
from .protocols import Run
from .stages import Stages

REMEMBERED = 50
"""Releases whose migrations a host remembers: more than are kept anywhere."""


class Migrations:
    """The migrations of one release on one stack. ``apps`` are the app hosts of the rollout."""

    def __init__(self, artefact: Artefact, run: Run, apps: list[str], stages: Stages) -> None:
        self.artefact, self.fleet, self.contexts = artefact, run.fleet, run.contexts
        self.app, self.apps, self.stages = run.fleet.inventory.app, apps, stages
        self.title = f"Run the migrations: {self.app.migrate}"

    def due(self, states: Mapping[str, HostState]) -> bool:
        """Whether there are migrations that no app host of this rollout knows to have run."""
        if not (self.app.migrate and self.apps and has_database(self._ctx)):
            return False
        key = self._key()
        return not any(line.partition(" ")[0] == key for host in self.apps for line in states[host].migrated)

    def announce(self) -> None:
        """Tells a dry run."""
        self.stages.tell(self.apps[:1], self.title, "changed")

    def perform(self, states: Mapping[str, HostState]) -> None:
        """Runs the command, has the poolers reconnect, and records it. Raises Stopped; nothing was started then."""
        before = next((state.current for state in states.values() if state.current), None)
        self.stages.here(self.apps[0], self.title, lambda: self._migrate(before))
        poolers = self.fleet.inventory.with_role("pooler")
        renew = "Have PgBouncer open new connections"
        self.stages.stage(poolers, renew, _reconnect)
        line = f"{self._key()} {self.artefact.release}"

        def record(session: Session, host: str) -> None:
            lines = [*states[host].migrated, line][-REMEMBERED:]
            session.write(self.app.migrated, "".join(f"{each}\n" for each in lines).encode())

        self.stages.ask(self.apps, self.title, record)

    def _migrate(self, before: str | None) -> str:
        job = self.artefact.job
        if job is None or self.app.migrate is None:
            raise OperationFailed("app/migrate: the project of this release is not on this machine")
        for pooler in self.fleet.inventory.with_role("pooler"):
            self._session(pooler, "and a migration makes PgBouncer there open new connections")
        session = self._way()
        database = endpoint(self.contexts[session.name], session.name, owner=True)
        with cache.alone(job.work, self._say):
            self.stages.check(self.title)  # another build may have taken minutes
            self._say("Making the project ready for its migrations")
            next_build.prepare(job)
            self._say(self.title)
            with postgres_tunnel(session, database) as port:
                _run(job, self.app.migrate, database, port, self.artefact.release, before)
        return f"from this machine through {session.name}, as {database.user}"

    def _say(self, text: str) -> None:
        self.stages.doing(self.apps[0], text)

    @property
    def _ctx(self) -> Context:
        return self.contexts[self.apps[0]]

    def _key(self) -> str:
        """What must be the same for migrations to be the same: source, command, database."""
        assert self.app.migrate is not None
        inventory, database = self.fleet.inventory, endpoint(self._ctx, self.apps[0])
        place = f"{database.host}:{database.port}" if inventory.postgres.external else serving(self._ctx, "database")
        words = (self.artefact.manifest.source_hash, self.app.migrate, place, database.name)
        return sha256("\0".join(words).encode()).hexdigest()

    def _way(self) -> Session:
        """The host through which the database is reached: its own if this run is connected to it, else an app host."""
        if not self.fleet.inventory.postgres.external:
            own = serving(self._ctx, "database")
            try:
                return self.fleet.session(own)
            except RoadbedError:  # left out by --limit
                pass
        return self.fleet.session(self.apps[0])

    def _session(self, host: str, why: str) -> Session:
        try:
            return self.fleet.session(host)
        except RoadbedError:
            raise OperationFailed(
                f"app/migrate: {host} is not connected, {why}. Repair it, or do not leave it out by --limit"
            ) from None


def _reconnect(session: Session, _: str) -> None:
    session.run(RECONNECT)


def _run(job: Job, command: str, database: Endpoint, port: int, release: str, before: str | None) -> None:
    """The command, with the database's URL in its environment alone. Raises OperationFailed with the end of its log."""
    log, url = BuildLog(job.work / "migrate.log"), local_url(database, port)
    env = next_build.with_programs(job, {"DATABASE_URL": url, "DIRECT_DATABASE_URL": url})
    code = call(["sh", "-c", command], folder=job.folder, env=env, log=log, title=command)
    if code != 0:
        said = log.tail().replace(url, "(URL)")
        for secret in {database.password, quote(database.password, safe="")}:
            said = said.replace(secret, "(password)")
        serving = f"{before} goes on serving" if before else "nothing serves yet"
        raise OperationFailed(
            f"app/migrate: `{command}` failed with exit code {code} before {release} was started; {serving}. "
            f"The end of {log.path}:\n{said}"
        )
