"""`provision restore` and `provision backup`: the backups of the database, and the way back."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .locked import locked
from .options import sudo_password
from .style import console, myself, output, say

if TYPE_CHECKING:
    from roadbed.engine.backups import Backup, BackupHost, Restored
    from roadbed.engine.inventory import Inventory
    from roadbed.engine.session import Session


@dataclass(frozen=True)
class Wanted:
    """What the user asked for beside the inventory. At most one of ``check``, ``into``, ``replace``, ``upload``."""

    backup: str | None = None
    check: bool = False
    into: str | None = None
    replace: bool = False
    upload: Path | None = None
    yes: bool = False
    as_json: bool = False
    ask_sudo_password: bool = False
    break_lock: bool = False


def restore(inventory: str | None, wanted: Wanted) -> None:
    """The whole command. Raises VerificationFailed (5) for a bad backup; see `engine/backups.py` for the others."""
    from roadbed.engine.backups import backup_name, database_host, new_database
    from roadbed.engine.load import load

    stack = load(inventory)
    database_host(stack)
    _only_one(wanted)
    name = backup_name(wanted.backup) if wanted.backup else None
    if wanted.into is not None:
        new_database(stack, wanted.into)
    what = f"restore {name} --replace" if wanted.replace else ""
    with connected(stack, wanted.ask_sudo_password, what, wanted.break_lock) as (host, poolers, guard):
        if wanted.upload:
            _upload(host, wanted)
        elif wanted.check:
            _check(host, name, wanted)
        elif wanted.into is not None and name:
            _into(host, name, wanted)
        elif wanted.replace and name:
            _replace(stack, host, poolers, name, wanted, guard)
        else:
            _list(host, wanted)


def backup(inventory: str | None, target: Path | None, *, plain: bool, as_json: bool, ask_sudo_password: bool) -> None:
    """Makes a backup now; with ``target`` a copy of it comes here. Raises what `engine/copies.py` raises."""
    from roadbed.engine.copies import download
    from roadbed.engine.errors import InventoryError
    from roadbed.engine.load import load

    stack = load(inventory)
    if plain and not target:
        raise InventoryError("--plain: says how a copy is written. Name a file for it: --download FILE")
    if target and (target.is_dir() or not target.absolute().parent.is_dir()):
        raise InventoryError(f"--download: {target} is no file in a folder that exists. Name one")
    if target and target.exists():
        raise InventoryError(f"--download: {target} exists already. Name another file, or remove it")
    with connected(stack, ask_sudo_password) as (host, _, _):
        made = host.make()
        say(f"{host.session.name}: backup {made.name}, {_size(made.size)}")
        written = download(host, made.name, target, plain=plain) if target else 0
        if target:
            say(f"{target}: {_size(written)}" + ("" if plain else ", encrypted with the key of the stack's secrets"))
    if as_json:
        copy = {"file": str(target), "bytes": written, "encrypted": not plain} if target else None
        output(json.dumps({"host": host.session.name, "backup": as_data(made), "copy": copy}, indent=1))


@contextmanager
def connected(
    stack: "Inventory", ask_sudo_password: bool, change: str = "", break_lock: bool = False
) -> Iterator[tuple["BackupHost", dict[str, "Session"], Callable[[str], None]]]:
    """The database host, connected. For a ``change`` of the live database, which other runs are told, the hosts that
    run PgBouncer too, all of them locked, and what is to be called before each step of it."""
    from roadbed.engine.backups import BackupHost, database_host
    from roadbed.engine.fleet import Fleet

    name = database_host(stack)
    with_pooler = stack.with_role("pooler") if change else []
    names = list(dict.fromkeys([name, *with_pooler]))
    with (
        Fleet(stack, sudo_password=sudo_password(ask_sudo_password)) as fleet,
        locked(fleet, names, change, lock=bool(change), break_lock=break_lock) as mine,
    ):
        fleet.connect(names, opened=mine.opened)
        mine.take()
        poolers = {pooler: fleet.session(pooler) for pooler in with_pooler}
        yield BackupHost(stack, fleet.session(name)), poolers, mine.begins


def _only_one(wanted: Wanted) -> None:
    from roadbed.engine.errors import InventoryError

    asked = {
        "--check": wanted.check,
        "--into": wanted.into is not None,
        "--replace": wanted.replace,
        "--upload": wanted.upload is not None,
    }
    chosen = [option for option, given in asked.items() if given]
    if len(chosen) > 1:
        raise InventoryError(f"{chosen[0]}, {chosen[1]}: are two different things. Choose one")
    if wanted.backup and chosen in ([], ["--upload"]):
        raise InventoryError("BACKUP: what is to be done with it? --check, --into NAME or --replace")
    if not wanted.backup and chosen in (["--into"], ["--replace"]):
        raise InventoryError(f"{chosen[0]}: of which backup? `{myself()} restore` lists them; name one before it")
    if wanted.replace and not wanted.yes and not (sys.stdin.isatty() and console.is_terminal):
        raise InventoryError("--replace: asks first, and there is no terminal to ask on. Say --yes")


def _list(host: "BackupHost", wanted: Wanted) -> None:
    backups, databases = host.listing()
    if wanted.as_json:
        rows = [as_data(backup) for backup in backups]
        output(json.dumps({"host": host.session.name, "backups": rows, "databases": databases}, indent=1))
        return
    say(f"{host.session.name}: {len(backups)} backups of {host.database} in {host.folder}")
    for backup in backups:
        whole = f"{_size(backup.size):>9}  of {_size(backup.database_size):>9}"
        say(f"  {backup.name}  {whole}  {_checked(backup)}")
    for name, size in databases.items():
        if name != host.database:
            ours = name.startswith((f"{host.database}_restored_", f"{host.database}_before_"))
            say(f"  beside it: database {name}, {_size(size)}" + (f". {_drop(host, name)}" if ours else ""))


def _check(host: "BackupHost", name: str | None, wanted: Wanted) -> None:
    from roadbed.engine.errors import OperationFailed

    backups, _ = host.listing()
    if name is None and not backups:
        raise OperationFailed(f"{host.session.name}: has no backup yet. Make one: {myself()} backup")
    restored = host.restore((host.find(name) if name else backups[0]).name)
    say(f"{host.session.name}: backup {_told(restored)}; the scratch database is dropped")
    if wanted.as_json:
        output(json.dumps({"host": host.session.name, **asdict(restored)}, indent=1))


def _into(host: "BackupHost", name: str, wanted: Wanted) -> None:
    host.find(name)
    restored = host.restore(name, wanted.into)
    say(f"{host.session.name}: backup {_told(restored)}, in the database {wanted.into}")
    say(f"Look at it there: runuser -u postgres -- psql {wanted.into}. {_drop(host, str(wanted.into))}")
    if wanted.as_json:
        output(json.dumps({"host": host.session.name, **asdict(restored), "database": wanted.into}, indent=1))


def _replace(
    stack: "Inventory",
    host: "BackupHost",
    poolers: dict[str, "Session"],
    name: str,
    wanted: Wanted,
    guard: Callable[[str], None],
) -> None:
    from roadbed.engine.errors import Refused
    from roadbed.engine.replace import replace

    chosen = host.find(name)
    if not wanted.yes:
        say(f"Backup {name} ({_checked(chosen)}) takes the place of the live database {host.database}.")
        say("What was written since then is no longer in it. The present database is kept under another name.")
        if not typer.confirm("Replace it?", default=False, err=True):
            raise Refused("Nothing was changed")
    done = replace(host, poolers, name, stack.pgbouncer.query_wait, say, guard)
    for note in done.notes:
        say(f"  ! {note}")
    say(f"{host.session.name}: {host.database} is backup {name}; clients were kept out for {done.seconds:.2f} s")
    say(f"What it was is now {done.former}. {_drop(host, done.former)}")
    say("Pages in the cache are still those of before, until they are made anew.")
    if stack.app.migrate:
        apps = ", ".join(stack.with_role("app"))
        say("Migrations that it lacks are not run again by themselves. To run them: remove")
        say(f"{stack.app.migrated} on {apps}, and run the phase again.")
    if wanted.as_json:
        data = {"host": host.session.name, **asdict(done.restored), "former": done.former}
        data |= {"present_state": done.fresh.name, "swap_seconds": done.seconds, "notes": list(done.notes)}
        output(json.dumps(data, indent=1))


def _upload(host: "BackupHost", wanted: Wanted) -> None:
    from roadbed.engine.copies import upload

    name = upload(host, Path(str(wanted.upload)))
    say(f"{host.session.name}: has backup {name}. Try it: {myself()} restore {name} --check")
    if wanted.as_json:
        output(json.dumps({"host": host.session.name, "backup": as_data(host.find(name))}, indent=1))


def as_data(backup: "Backup") -> dict[str, Any]:
    """A backup as JSON has it; times in ISO 8601, sizes in bytes."""
    at = backup.checked_at.isoformat() if backup.checked_at else None
    return {**asdict(backup), "made": backup.made.isoformat(), "checked_at": at}


def _told(restored: "Restored") -> str:
    return (
        f"{restored.backup} was restored in {restored.seconds:.1f} s: "
        f"{restored.tables} tables, {restored.rows} rows, as when it was made"
    )


def _checked(backup: "Backup") -> str:
    if backup.checked_at is None:
        return "not checked yet"
    verdict = "checked" if backup.good else "BAD"
    return f"{verdict} {backup.checked_at:%Y-%m-%d %H:%M}: {backup.checked}"


def _drop(host: "BackupHost", database: str) -> str:
    return f"Drop it on {host.session.name}: runuser -u postgres -- dropdb {database}"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{count / 2**10:.1f} kB"
