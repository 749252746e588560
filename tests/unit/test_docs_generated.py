"""The pages that scripts/docs writes are those that it would write now, and their ranges are what the model holds."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from roadbed.engine.inventory import Inventory

ROOT = Path(__file__).resolve().parents[2]


def generator() -> ModuleType:
    """scripts/docs as a module; it has no ending, because it is a command."""
    if "roadbed_docs" not in sys.modules:
        loader = importlib.machinery.SourceFileLoader("roadbed_docs", str(ROOT / "scripts/docs"))
        spec = importlib.util.spec_from_loader("roadbed_docs", loader)
        assert spec is not None
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        sys.modules["roadbed_docs"] = module = importlib.util.module_from_spec(spec)
        try:
            loader.exec_module(module)
        finally:
            sys.dont_write_bytecode = before
    return sys.modules["roadbed_docs"]


DOCS = generator()


@pytest.mark.parametrize("page", DOCS.PAGES)
def test_page_is_up_to_date(page: str) -> None:
    written = (ROOT / page).read_text() if (ROOT / page).exists() else ""
    assert written == DOCS.PAGES[page](), f"{page}: run scripts/docs"


def test_check_writes_nothing_and_tells_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DOCS, "ROOT", tmp_path)
    assert DOCS.main(["--check"]) == 1
    assert "docs/inventory.md: is out of date" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "docs").mkdir()
    assert DOCS.main([]) == 0
    assert DOCS.main(["--check"]) == 0
    assert DOCS.main(["--chekc"]) == 2


def ranges() -> list[tuple[str, Any, Any]]:
    """(key, least, most) of every number that has a limit."""
    found = []
    for place, _, _, fields in DOCS.blocks(Inventory):
        for name, field in fields.items():
            low, high = DOCS.limits(f"{place}.{name}", field)
            if (low, high) != (None, None):
                found.append((f"{place}.{name}", low, high))
    return found


def accepts(place: str, value: Any) -> bool:
    """Whether the inventory takes a value there, whatever else it says."""
    app = {"name": "shop", "source": ".", "domain": "shop.example.com"}
    raw: dict[str, Any] = {"app": app, "hosts": {"one": {"address": "192.0.2.1", "roles": ["web", "app"]}}}
    at: Any = raw
    *above, last = place.split(".")
    for name in above:
        at = at.setdefault(name, {})
        at = at["one"] if name == "hosts" else at
    if place.startswith("firewall.allow."):
        raw["firewall"] = {"allow": [{"port": 9100, last: value}]}
    else:
        at[last] = value
    try:
        Inventory.model_validate(raw)
    except ValidationError as error:
        return not any(last in detail["loc"] for detail in error.errors())
    return True


@pytest.mark.parametrize(("place", "low", "high"), ranges())
def test_range_is_what_the_model_holds(place: str, low: Any, high: Any) -> None:
    if place == "hosts.machine.cpus":
        assert [accepts(place, value) for value in (0, 0.5, high, high + 1)] == [False, True, True, False]
        return
    if low is not None:
        assert accepts(place, low)
        assert not accepts(place, low - 1)
    if high is not None:
        assert accepts(place, high)
        assert not accepts(place, high + 1)


def test_every_key_stands_in_the_page() -> None:
    page = DOCS.inventory_page()
    for place, shown, _, fields in DOCS.blocks(Inventory):
        assert f"\n## {place}\n" in page or f"\n### {place}\n" in page
        for name, field in fields.items():
            assert f"| `{shown}.{name}` | " in page
            assert str(field.description) in page
