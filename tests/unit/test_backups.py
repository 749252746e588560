"""`provision restore` and `backup` without a host: what is refused before SSH, and what the host's list means."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from roadbed.cli.restore import as_data
from roadbed.engine.backups import Backup, backup_name, database_host, new_database, parse
from roadbed.engine.errors import InventoryError
from roadbed.engine.inventory import Inventory
from roadbed.engine.load import parse as parse_inventory
from roadbed.engine.replace import PAUSE, RESUME, _text

from .test_cli import GOOD, provision

LISTED = """backup 20261124T023000Z 5301 8123456 - good 20261124T023107Z 2 tables, 201 rows
backup 20261125T023000Z 5400 8123999 - \

backup 20261123T023000Z 5200  - bad 20261124T090000Z is damaged: the checksum of its .dump file differs
backup 99 1 1 -
database shop 8500000
database shop_before_20261124_101500 8400000
"""
ONE = "20261124T023000Z"


def stack(name: str = "shop", roles: str = "[web, app, database]", more: str = "") -> Inventory:
    text = f"app: {{name: {name}, source: app, domain: shop.example.com}}\n"
    return parse_inventory(f"{text}hosts: {{one: {{address: 192.0.2.1, roles: {roles}}}}}\n{more}", Path("x.yml"))


def test_the_list_of_a_host() -> None:
    backups, databases = parse(LISTED)
    assert [(backup.name, backup.database_size, backup.good) for backup in backups] == [
        ("20261125T023000Z", 8123999, None),
        (ONE, 8123456, True),
        ("20261123T023000Z", 0, False),
    ]
    assert backups[1].checked == "2 tables, 201 rows"
    assert backups[1].checked_at == datetime(2026, 11, 24, 2, 31, 7, tzinfo=UTC)
    assert backups[2].checked.startswith("is damaged: ")
    assert databases == {"shop": 8500000, "shop_before_20261124_101500": 8400000}
    assert as_data(backups[1])["made"] == "2026-11-24T02:30:00+00:00"
    assert as_data(backups[0])["checked_at"] is None


def test_names_of_backups() -> None:
    assert backup_name(ONE) == backup_name(f"/var/backups/roadbed/shop/{ONE}.dump") == ONE
    for text in ("newest", "", "20261124", f"{ONE}.rows", f"../{ONE}x", f"{ONE}; reboot"):
        with pytest.raises(InventoryError, match="is no name of a backup"):
            backup_name(text)


def test_names_of_new_databases() -> None:
    assert new_database(stack(), "shop_then") == "shop_then"
    assert new_database(stack(), "shop_owner") == "shop_owner"
    for name in ("Shop", "1st", "", "x" * 64, "a b", "a;b"):
        with pytest.raises(InventoryError, match="is no name for a database"):
            new_database(stack(), name)
    with pytest.raises(InventoryError, match="keeps the name 'template1'"):
        new_database(stack(), "template1")
    with pytest.raises(InventoryError, match="'my_shop' is the live database"):
        new_database(stack("my-shop"), "my_shop")


def test_the_host_of_the_database() -> None:
    assert database_host(stack()) == "one"
    with pytest.raises(InventoryError, match="hosts: no host has the role database"):
        database_host(stack(roles="[web, app]"))
    with pytest.raises(InventoryError, match="app/name: PostgreSQL keeps the name 'template1'"):
        database_host(stack("template1"))
    with pytest.raises(InventoryError, match="postgres/external: the database is a server of your own"):
        database_host(stack(more="postgres: {external: true}\n"))


def test_the_pause_ends_by_itself() -> None:
    words = {"CONSOLE": "psql -c", "DATABASE": "shop", "WAIT": "10", "LIMIT": "22"}
    pause = _text(PAUSE, words)
    assert pause.index("--on-active=22") < pause.index("timeout 10 psql -c 'PAUSE shop'")
    assert "psql -c 'RESUME shop' || exit" in pause
    assert _text(RESUME, words).startswith("cd / && psql -c 'RESUME shop' || exit; ")


def test_a_backup_knows_when_it_was_made() -> None:
    assert Backup(ONE, 1, 1).made == datetime(2026, 11, 24, 2, 30, tzinfo=UTC)


REFUSED = [
    (["restore", "--check", "--replace"], "--check, --replace: are two different things. Choose one"),
    (["restore", ONE], "BACKUP: what is to be done with it? --check, --into NAME or --replace"),
    (["restore", "--into", "shop_then"], "--into: of which backup? `provision restore` lists them"),
    (["restore", "--replace", "--yes"], "--replace: of which backup?"),
    (["restore", ONE, "--replace"], "--replace: asks first, and there is no terminal to ask on. Say --yes"),
    (["restore", "yesterday", "--check"], "BACKUP: 'yesterday' is no name of a backup, such as 20261124T023000Z"),
    (["restore", ONE, "--into", "shop"], "--into: 'shop' is the live database"),
    (["restore", ONE, "--into", "x;y"], "--into: 'x;y' is no name for a database"),
    (["backup", "--plain"], "--plain: says how a copy is written. Name a file for it: --download FILE"),
    (["backup", "--download", "nowhere/copy.age"], "--download: nowhere/copy.age is no file in a folder that exists"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_refused_before_any_host_is_asked(tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "good.yml").write_text(GOOD)
    done = provision(tmp_path, *words, "-i", "good.yml")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize("words", [["restore"], ["backup"], ["restore", ONE, "--replace", "--yes"]])
def test_a_server_of_the_users_own(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "own.yml").write_text(f"{GOOD}postgres: {{external: true}}\n")
    done = provision(tmp_path, *words, "-i", "own.yml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "postgres/external: the database is a server of your own, and Roadbed makes no backups of it" in done.stderr
