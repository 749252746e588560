"""The backups on the database host: list them, make one, restore one beside the live database."""

import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from roadbed.deploys.context import Context
from roadbed.deploys.peers import serving
from roadbed.deploys.postgres import BACKUPS, FORBIDDEN, RESTORE_CHECK, database_name
from roadbed.deploys.postgres_roles import AS_POSTGRES

from .errors import InventoryError, OperationFailed, Refused, VerificationFailed
from .result import Result
from .session import Session

if TYPE_CHECKING:
    from .inventory import Inventory

STAMP = "%Y%m%dT%H%M%SZ"
"""Backups are named by the moment they were made, in UTC."""
NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z")
DATABASE = re.compile(r"[a-z_][a-z0-9_]{0,62}")
DATABASES = """SELECT format('database %s %s', datname, pg_database_size(oid)) FROM pg_database
  WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY datname"""
LIST = f"""
[ -x {RESTORE_CHECK} ] || exit 3
cd FOLDER || exit
for dump in *.dump; do
  [ -e "$dump" ] || continue
  stem=${{dump%.dump}}
  bytes=$(sed -n 's/^bytes //p' "$stem.info" 2>/dev/null)
  echo "backup $stem $(stat -c %s "$dump") $bytes - $(cat "$stem.checked" 2>/dev/null)"
done
cd / && {AS_POSTGRES} postgres -c "{DATABASES}"
"""
MAKE = f"""
[ -x {RESTORE_CHECK} ] || exit 3
unit=roadbed-backup.service
while [ "$(systemctl show -p ActiveState --value $unit)" = activating ]; do sleep 1; done
systemctl start $unit && exit
journalctl -q -o cat -u $unit -n 5 >&2
exit 1
"""
"""One that is being made already began before now: it is waited for, and another one made."""


@dataclass(frozen=True)
class Backup:
    """One backup. ``size`` and ``database_size`` are in bytes; ``checked`` is what the last restore of it said."""

    name: str
    size: int
    database_size: int
    good: bool | None = None
    checked: str = ""
    checked_at: datetime | None = None

    @property
    def made(self) -> datetime:
        """When it was made."""
        return datetime.strptime(self.name, STAMP).replace(tzinfo=UTC)


@dataclass(frozen=True)
class Restored:
    """A backup that was restored and has every table and row it was made of. ``seconds`` it took."""

    backup: str
    tables: int
    rows: int
    seconds: float


def database_host(stack: "Inventory") -> str:
    """The host that keeps the database. Raises InventoryError when no host of the stack does."""
    if stack.postgres.external:
        raise InventoryError(
            "postgres/external: the database is a server of your own, and Roadbed makes no backups of it. "
            "Use what belongs to that server, or set postgres/external: false"
        )
    try:
        ctx = _context(stack, next(iter(stack.hosts)))
        database_name(ctx)
        return serving(ctx, "database")
    except ValueError as error:
        raise InventoryError(str(error)) from None


def backup_name(text: str) -> str:
    """The name of a backup as the list shows it, or of its file. Raises InventoryError for anything else."""
    name = text.rpartition("/")[2].removesuffix(".dump")
    if not NAME.fullmatch(name):
        raise InventoryError(f"BACKUP: '{text}' is no name of a backup, such as 20261124T023000Z. The list has them")
    return name


def new_database(stack: "Inventory", name: str) -> str:
    """The name of a database that is to be made. Raises InventoryError for one that cannot be, or is the app's."""
    if not DATABASE.fullmatch(name):
        raise InventoryError(f"--into: '{name}' is no name for a database. Use small letters, digits and _, at most 63")
    if name in FORBIDDEN or name.startswith("pg_"):
        raise InventoryError(f"--into: PostgreSQL keeps the name '{name}' for itself. Choose another")
    if name == live_database(stack):
        raise InventoryError(f"--into: '{name}' is the live database. --replace replaces it; or choose another name")
    return name


def live_database(stack: "Inventory") -> str:
    """The name of the app's database."""
    return database_name(_context(stack, next(iter(stack.hosts))))


def _context(stack: "Inventory", host: str) -> Context:
    no_secret: dict[str, str] = {}
    return Context(stack, "phase2", host, {}, no_secret.__getitem__)


class BackupHost:
    """The connected database host of a stack. Everything raises HostUnreachable when the connection breaks."""

    def __init__(self, stack: "Inventory", session: Session) -> None:
        self.session = session
        self.database = live_database(stack)
        self.folder = f"{BACKUPS}/{stack.app.name}"

    def listing(self) -> tuple[list[Backup], dict[str, int]]:
        """The backups, newest first, and the databases of the server with their size in bytes.

        Raises OperationFailed where Roadbed has installed no PostgreSQL yet.
        """
        done = self.session.run(LIST.replace("FOLDER", self.folder), check=False)
        self._installed(done)
        if not done.ok:
            raise OperationFailed(f"{self.session.name}: {_reason(done)}")
        return parse(done.out)

    def _installed(self, done: Result) -> None:
        if done.rc == 3:
            raise OperationFailed(
                f"{self.session.name}: PostgreSQL is not installed by Roadbed yet. Run: provision phase2"
            )

    def find(self, name: str) -> Backup:
        """The backup of that name. Raises OperationFailed when there is none."""
        backups, _ = self.listing()
        for backup in backups:
            if backup.name == name:
                return backup
        known = ", ".join(backup.name for backup in backups[:5]) or "none"
        raise OperationFailed(f"{self.session.name}: has no backup {name}. Newest first: {known}")

    def make(self) -> Backup:
        """Makes a backup now. Raises OperationFailed with what kept it."""
        done = self.session.run(MAKE, timeout=None, check=False)
        self._installed(done)
        if not done.ok:
            raise OperationFailed(f"{self.session.name}: no backup was made: {_reason(done)}")
        return self.listing()[0][0]

    def restore(self, name: str, into: str | None = None) -> Restored:
        """Restores a backup into a scratch database that is dropped again, or into a new one, and compares.

        Raises VerificationFailed for a backup that cannot be restored or lacks something, Refused when there
        is a database ``into``, OperationFailed when it could not be tried, such as for want of disk space.
        """
        if into and into in self.listing()[1]:
            raise Refused(f"{self.session.name}: there is a database {into} already. Choose another name, or drop it")
        option = f"--into {into} " if into else ""
        file = f"{self.folder}/{name}.dump"
        done = self.session.run(f"{RESTORE_CHECK} {option}{shlex.quote(file)}", timeout=None, check=False)
        said = re.match(r"restored (\d+) tables, (\d+) rows in ([0-9.]+) s", done.out)
        if said:
            return Restored(name, int(said[1]), int(said[2]), float(said[3]))
        raise (VerificationFailed if done.rc == 5 else OperationFailed)(f"{self.session.name}: {_reason(done)}")

    def hold(self, name: str) -> None:
        """Keeps a backup for as long again as a new one: what is being restored must not go because it is old."""
        self.session.run(f"touch -- {shlex.quote(f'{self.folder}/{name}.dump')}")

    def drop(self, database: str) -> None:
        """Drops a database that this run has made."""
        self.session.run(f"cd / && runuser -u postgres -- dropdb --if-exists --force {shlex.quote(database)}")


def _reason(done: Result) -> str:
    lines = (done.err.strip() or done.out.strip() or f"exit code {done.rc}").splitlines()
    return " / ".join(line.removeprefix("restore-check: ") for line in lines[-4:])


def parse(text: str) -> tuple[list[Backup], dict[str, int]]:
    """What ``LIST`` printed."""
    backups, databases = [], {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "database":
            name, _, size = rest.partition(" ")
            databases[name] = int(size)
        elif match := re.fullmatch(rf"({NAME.pattern}) (\d+) (\d*) - (?:(good|bad) (\S+) (.*))?", rest):
            name, size, whole, verdict, at, said = match.groups()
            seen = datetime.strptime(at, STAMP).replace(tzinfo=UTC) if at else None
            good = verdict == "good" if verdict else None
            backups.append(Backup(name, int(size), int(whole or 0), good, said or "", seen))
    return sorted(backups, key=lambda backup: backup.name, reverse=True), databases
