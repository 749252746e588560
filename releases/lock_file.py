"""Lock files of npm and pnpm: what is installed for a project, and for what of it."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

import yaml

from roadbed.engine.errors import InventoryError

Entries = Mapping[str, Any]
RUNTIME = ("dependencies", "optionalDependencies")
"""What is there in production: no devDependencies."""


def read(lock: Path) -> dict[str, Any]:
    """The content of a lock file; empty where it is no mapping. Raises InventoryError when it cannot be parsed."""
    return _read(lock, lock.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(lock: Path, _: int) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, for lock files of 1 MB
    try:
        text = lock.read_text()
        found = json.loads(text) if lock.suffix == ".json" else yaml.load(text, Loader=loader)  # noqa: S506
    except (ValueError, OSError, yaml.YAMLError) as error:
        raise InventoryError(
            f"app/source: {lock} cannot be read: {error}. Make it anew with the package manager"
        ) from None
    return found if isinstance(found, dict) else {}


def production(lock: Path, folder: Path) -> frozenset[str]:
    """Names of the packages that the project in ``folder`` has in production, other packages' needs included.

    ``folder`` is relative to the lock file. Packages of a workspace are followed. Optional peers are not:
    that one is there says that somebody else needs it. Empty for lock files of npm 6 and older.
    """
    content, here = read(lock), folder.as_posix()
    try:
        walk = _npm if lock.suffix == ".json" else _pnpm
        return frozenset(walk(content, here))
    except (AttributeError, KeyError, TypeError):  # a format that nobody has seen yet
        return frozenset()


def _npm(content: dict[str, Any], folder: str) -> Iterator[str]:
    """package-lock.json, versions 2 and 3 (https://docs.npmjs.com/cli/configuring-npm/package-lock-json)."""
    packages: Entries = content.get("packages", {})
    todo, seen = ["" if folder == "." else folder], set()
    while todo:
        place = todo.pop()
        entry = packages.get(place, {})
        optional = {name for name, about in entry.get("peerDependenciesMeta", {}).items() if about.get("optional")}
        peers = set(entry.get("peerDependencies", {})) - optional
        for name in (*peers, *(name for kind in RUNTIME for name in entry.get(kind, {}))):
            found = _npm_place(packages, place, name)
            if found is None or found in seen:
                continue
            seen.add(found)
            todo.append(packages[found]["resolved"] if packages[found].get("link") else found)
            yield str(packages[found].get("name", name))  # "name" stands there for an alias


def _npm_place(packages: Entries, place: str, name: str) -> str | None:
    """Where Node.js finds ``name`` from ``place``: in the nearest node_modules, upwards."""
    above = PurePosixPath(place)
    for folder in (above, *above.parents) if place else (PurePosixPath(),):
        candidate = (folder / "node_modules" / name).as_posix()
        if candidate in packages:
            return candidate
    return None


def _pnpm(content: dict[str, Any], folder: str) -> Iterator[str]:
    """pnpm-lock.yaml, lockfileVersion 6 and 9."""
    importers: Entries = content.get("importers", {".": content})
    packages: Entries = content.get("snapshots") or content.get("packages") or {}
    todo, seen = [(folder, importers[folder])], set()
    while todo:
        place, entry = todo.pop()
        wanted = {name: about for kind in RUNTIME for name, about in (entry.get(kind) or {}).items()}
        for name, about in wanted.items():
            version = str(about["version"] if isinstance(about, dict) else about)
            if version.startswith("link:"):
                linked = normpath(f"{place}/{version.removeprefix('link:')}")
                following = (linked, importers.get(linked, {}))
            else:
                keys = (f"{name}@{version}", f"/{name}@{version}", version)  # the last one: an alias
                found = next((key for key in keys if key in packages), keys[0])
                name = found.removeprefix("/")[:1] + found.removeprefix("/")[1:].partition("@")[0]
                following = (found, packages.get(found) or {})
            if following[0] not in seen:
                seen.add(following[0])
                todo.append(following)
                yield name
