"""The backup of the database: it is made, it is closed to others, and it can be restored."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from testinfra.host import Host

from roadbed.deploys.context import Context
from roadbed.deploys.postgres import BACKUPS, RESTORE_CHECK, TIMER, database_name
from roadbed.deploys.postgres_roles import AS_POSTGRES

ROLES = ("database",)
DATABASES = "SELECT datname FROM pg_database"


def applies(ctx: Context) -> bool:
    """Where the inventory wants backups of a database of the stack."""
    settings = ctx.inventory.postgres
    return ctx.reached("phase2") and not settings.external and settings.backup != "off"


@pytest.fixture
def folder(host: Host, ctx: Context) -> str:
    """The folder of the backups, with at least one in it: a new stack has had no night yet."""
    path = f"{BACKUPS}/{ctx.inventory.app.name}"
    host.check_output(f"ls {path}/*.dump >/dev/null 2>&1 || systemctl start roadbed-backup.service")
    return path


def test_timer(host: Host) -> None:
    """The nightly backup is scheduled."""
    assert host.check_output(f"systemctl is-enabled {TIMER}; systemctl is-active {TIMER}") == "enabled\nactive"
    assert host.check_output(f"systemctl show -p NextElapseUSecRealtime --value {TIMER}") != ""


def test_newest_is_young(host: Host, folder: str, measure: Callable[..., None]) -> None:
    """The newest backup is not older than 26 hours."""
    newest = host.check_output(f"ls {folder} | grep -E '^[0-9TZ]+[.]dump$' | sort | tail -n 1")
    made = datetime.strptime(newest, "%Y%m%dT%H%M%SZ.dump").replace(tzinfo=UTC).timestamp()
    now = host.check_output("date +%s")
    measure("age of the newest backup", (int(now) - made) / 3600, "h", 26)


def test_newest_can_be_restored(host: Host, ctx: Context, folder: str, measure: Callable[..., None]) -> None:
    """The newest backup is restored into a scratch database, with the tables and rows it was made of."""
    done = host.run(RESTORE_CHECK)
    assert done.rc == 0, done.stderr
    said = re.fullmatch(r"restored (\d+) tables, (\d+) rows in ([0-9.]+) s from (\S+)\n?", done.stdout)
    assert said, done.stdout
    assert said[4].startswith(folder)
    measure("restore of the newest backup", float(said[3]), "s", 3600)
    databases = host.check_output(f'{AS_POSTGRES} -c "{DATABASES}"').splitlines()
    assert f"{database_name(ctx)}_restore" not in databases


def test_closed_to_others(host: Host, folder: str) -> None:
    """Backups are readable by the database's own user alone, and none is half written."""
    assert host.check_output(f"stat -c '%a %U' {folder}") == "700 postgres"
    assert set(host.check_output(f"stat -c '%a %U' {folder}/*").splitlines()) == {"600 postgres"}
    assert host.check_output(f"ls -A {folder} | grep -v -E '^[0-9TZ]+[.](dump|rows|info|checked)$' || true") == ""


def test_old_ones_go(host: Host, ctx: Context, folder: str) -> None:
    """No backup but the newest is kept longer than the inventory says."""
    days = ctx.inventory.postgres.backup_days + 1
    old = host.check_output(f"ls -1 {folder}/*.dump | sort | head -n -1 | xargs -r -I F find F -mtime +{days}")
    assert old == ""
