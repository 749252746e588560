"""What the project is: where it lies, its package manager, its version of Next.js. Nothing is run here."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from roadbed.engine.errors import InventoryError, Refused

from . import lock_file, versions

Manager = Literal["npm", "pnpm"]
LOCK_FILES: dict[str, Manager] = {"package-lock.json": "npm", "npm-shrinkwrap.json": "npm", "pnpm-lock.yaml": "pnpm"}
OTHER_LOCK_FILES = {"yarn.lock": "Yarn", "bun.lock": "Bun", "bun.lockb": "Bun"}
EXPORT = re.compile(r"""^[^/\n*]*\boutput["']?\s*:\s*["'`]export["'`]""", re.MULTILINE)
CONFIGS = ("next.config.ts", "next.config.mts", "next.config.mjs", "next.config.js", "next.config.cjs")


@dataclass(frozen=True)
class Project:
    """A Next.js project on disk.

    ``root`` holds the lock file; in a workspace it is above the project, and ``folder`` is the
    project's path inside it ("." otherwise). ``scripts`` are those of its package.json, ``runtime``
    the names of its dependencies in production.
    """

    root: Path
    folder: Path
    manager: Manager
    lock: str
    next_version: str
    scripts: dict[str, str]
    runtime: frozenset[str] = frozenset()

    @property
    def path(self) -> Path:
        """The folder that holds next.config.*."""
        return self.root / self.folder


def detect(source: Path, *, within: Path | None = None, allow_vulnerable: bool = False) -> Project:
    """Reads the project at ``source``; what lies above ``within`` is nothing of it.

    Raises InventoryError when it cannot be built, and Refused when its version of Next.js is
    known to be vulnerable and ``allow_vulnerable`` is not set.
    """
    package = _package(source)
    root, lock = _lock_file(source, package, within)
    manager = LOCK_FILES[lock]
    folder = source.relative_to(root)
    version = _locked_version(root / lock, folder) or package["dependencies"]["next"]
    _check_version(source, version, allow_vulnerable)
    _check_output(source)
    scripts = {name: text for name, text in package.get("scripts", {}).items() if isinstance(text, str)}
    runtime = frozenset(name for kind in lock_file.RUNTIME for name in package.get(kind) or {})
    return Project(root, folder, manager, lock, version, scripts, runtime)


def _package(source: Path) -> dict[str, Any]:
    wrong = f"app/source: {source} is not a Next.js project: "
    out = " Point app/source at the folder that holds next.config.*"
    if not source.is_dir():
        raise InventoryError(
            f"app/source: {source} is not a folder. Write the path of the Next.js project, relative to the inventory"
            + (f", or file://{source} for a branch or tag of a repository here" if "#" in source.name else "")
        )
    try:
        package = json.loads((source / "package.json").read_text())
    except FileNotFoundError:
        raise InventoryError(f"{wrong}it has no package.json.{out}") from None
    except (ValueError, OSError) as error:
        raise InventoryError(f"app/source: {source}/package.json cannot be read: {error}. Repair the file") from None
    if not isinstance(package, dict) or "next" not in (package.get("dependencies") or {}):
        raise InventoryError(f'{wrong}package.json has no dependency "next".{out}')
    return package


def _lock_file(source: Path, package: dict[str, Any], within: Path | None) -> tuple[Path, str]:
    """The folder of the lock file and its name: the project's own, or that of the workspace around it."""
    above = [folder for folder in source.parents if within is None or folder.is_relative_to(within)]
    for folder in (source, *above):
        if folder != source and not _is_workspace(folder):
            continue
        found = [name for name in LOCK_FILES if (folder / name).is_file()]
        if len(found) > 1:
            wanted = str(package.get("packageManager", "")).partition("@")[0]
            found = [name for name in found if LOCK_FILES[name] == wanted]
            if len(found) != 1:
                raise InventoryError(
                    f"app/source: {folder} has lock files of npm and pnpm. Delete the one that is not used, "
                    'or set "packageManager" in package.json'
                )
        if found:
            return folder, found[0]
        _refuse_other_manager(folder)
    raise InventoryError(
        f"app/source: {source} has no lock file, so two builds could differ. "
        "Run `npm install` (or `pnpm install`) in it and commit the lock file"
    )


def _refuse_other_manager(folder: Path) -> None:
    for name, manager in OTHER_LOCK_FILES.items():
        if (folder / name).is_file():
            raise InventoryError(
                f"app/source: {folder} has {name}, but {manager} projects are not supported. "
                "Run `npm install` and commit package-lock.json, or use pnpm"
            )


def _is_workspace(folder: Path) -> bool:
    if (folder / "pnpm-workspace.yaml").is_file():
        return True
    try:
        return "workspaces" in json.loads((folder / "package.json").read_text())
    except (OSError, ValueError):
        return False


def _locked_version(lock: Path, folder: Path) -> str | None:
    """The exact version of Next.js that the lock file installs for the project in ``folder``."""
    content = lock_file.read(lock)
    try:
        if lock.suffix == ".json":
            packages = content.get("packages", {})
            near = f"{folder.as_posix()}/node_modules/next" if folder != Path() else "node_modules/next"
            entry = packages.get(near) or packages.get("node_modules/next") or {}
            return entry.get("version")
        importer = content["importers"][folder.as_posix()]
        return str(importer["dependencies"]["next"]["version"]).partition("(")[0]
    except (KeyError, TypeError, AttributeError):
        return None


def _check_version(source: Path, text: str, allow_vulnerable: bool) -> None:
    version = versions.parse(text)
    if version is None:
        raise InventoryError(
            f"app/source: {source}: the version of Next.js is '{text}', and the lock file does not say which that is. "
            "Install a released version and commit the lock file"
        )
    if version < versions.OLDEST:
        raise InventoryError(
            f"app/source: {source} uses Next.js {text}, and the oldest supported version is "
            f"{_dotted(versions.OLDEST)}. Upgrade it: npm install next@latest"
        )
    advisory = versions.advisory_for(version)
    if advisory and not allow_vulnerable:
        raise Refused(
            f"app/source: {source} uses Next.js {text}, which is vulnerable: {advisory.summary} ({advisory.name}). "
            f"Upgrade to {_dotted(versions.repaired(version))} or later, or pass --allow-vulnerable"
        )


def _check_output(source: Path) -> None:
    for config in (source / name for name in CONFIGS):
        if config.is_file() and EXPORT.search(config.read_text(errors="replace")):
            raise InventoryError(
                f'app/source: {config} sets output: "export": a static site, and there is no server to run. '
                "Remove it, or serve the exported folder with any web server"
            )


def _dotted(version: versions.Version) -> str:
    return ".".join(map(str, version))
