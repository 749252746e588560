"""Copies of the sample app that differ in a word, so that each is a release of its own."""

import shutil
from pathlib import Path

STOREFRONT = Path(__file__).resolve().parents[2] / "examples/storefront"


def edition(folder: Path, name: str, health: str = "") -> Path:
    """``folder/name``: the sample app with a page that says ``name``, and ``health`` as its health route if given."""
    project = folder / name
    shutil.copytree(STOREFRONT, project, ignore=shutil.ignore_patterns("node_modules", ".next"))
    page = project / "pages/legacy.tsx"
    text = page.read_text()
    assert "<main>" in text
    page.write_text(text.replace("<main>", f"<main data-edition='{name}'>"))
    if health:
        (project / "app/api/info/route.ts").write_text(health)
    return project
