"""Secrets: encrypted at rest, opened with the identity, never shown."""

import base64
import stat
from pathlib import Path

import pytest

from roadbed.engine.errors import InventoryError
from roadbed.engine.secrets import ACTION_KEY, Secrets, identity_path, new_action_key


@pytest.fixture(autouse=True)
def own_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADBED_IDENTITY", str(tmp_path / "identity.age"))


def test_a_secret_survives_and_is_not_readable_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "prod.secrets.age"
    Secrets(path).set("DATABASE_URL", "postgres://hunter2")
    assert Secrets(path).get("DATABASE_URL") == "postgres://hunter2"
    assert b"hunter2" not in path.read_bytes()
    assert path.read_bytes().startswith(b"age-encryption.org/v1")


def test_the_identity_is_private(tmp_path: Path) -> None:
    Secrets(tmp_path / "a.age").set("A", "b")
    assert stat.S_IMODE(identity_path().stat().st_mode) == 0o600


def test_the_action_key_is_made_once_and_has_32_bytes(tmp_path: Path) -> None:
    path = tmp_path / "prod.secrets.age"
    key = Secrets(path).get_or_create(ACTION_KEY, new_action_key)
    assert len(base64.b64decode(key, validate=True)) == 32
    assert Secrets(path).get_or_create(ACTION_KEY, new_action_key) == key


def test_a_missing_secret_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"app/secrets: TOKEN has no value.*provision secrets set TOKEN"):
        Secrets(tmp_path / "prod.secrets.age").get("TOKEN")


def test_another_identity_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prod.secrets.age"
    Secrets(path).set("A", "b")
    monkeypatch.setenv("ROADBED_IDENTITY", str(tmp_path / "other.age"))
    with pytest.raises(InventoryError, match="does not open it"):
        Secrets(path).names()


def test_a_broken_identity_is_explained(tmp_path: Path) -> None:
    identity_path().write_text("hello\n")
    with pytest.raises(InventoryError, match="is not an age identity"):
        Secrets(tmp_path / "prod.secrets.age").set("A", "b")


def test_values_are_never_shown(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "prod.secrets.age")
    secrets.set("A", "hunter2")
    assert "hunter2" not in repr(secrets)
    secrets.remove("A")
    assert secrets.names() == []
