"""A real build, twice: the same bytes, or a word on what differs. No machine is needed, but minutes."""

import json
from pathlib import Path
from typing import Any

import pytest

from roadbed.releases.cache import release_folder

from .conftest import Stack, make_stack, spec
from .tiny import tiny_stack

pytestmark = pytest.mark.long


def manifest(app: str) -> dict[str, Any]:
    newest = max(path for path in release_folder(app).glob("[!.]*/.roadbed/manifest.json"))
    found: dict[str, Any] = json.loads(newest.read_text())
    return found


def test_a_second_build_has_the_same_bytes(tmp_path: Path) -> None:
    stack = tiny_stack(tmp_path, [spec("nobody", 187)], app={"name": "twice"})
    done = stack.provision("build", "--check-reproducible")
    assert "a second build has the same" in done.stderr
    assert manifest("twice")["reproducible"] is True


def test_pages_that_show_their_time_are_named(tmp_path: Path) -> None:
    """The sample app stamps what it renders; nothing else of it differs."""
    stack: Stack = make_stack(tmp_path, [spec("nobody", 187)], app={"name": "stamped"})
    done = stack.provision("build", "--check-reproducible", code=5)
    assert "rendered pages differ (" in done.stderr
    assert "/flash-sale" in done.stderr
    assert "files differ that are no pages" not in done.stderr
    found = manifest("stamped")
    assert found["reproducible"] is False
    assert found["because"][0].startswith("rendered pages differ (")
