"""The files of a project that a build is made from: which they are, their hash, a copy of them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .cache import remove_tree
from .git import outside_hooks

SKIPPED_FOLDERS = frozenset({"node_modules", ".next", ".git", ".turbo", ".vercel"})
SKIPPED_FILES = frozenset({"next-env.d.ts", ".DS_Store"})
"""Written by tools beside the source; `next build` makes next-env.d.ts itself."""
CARRIED = (".env", ".env.production")
"""Read by Next.js in a build, whether git ignores them or not."""


@dataclass(frozen=True)
class GitState:
    """Commit that the source is at, and whether files differ from it. ``commit`` is None without git.

    ``ref`` is the branch, or what ``app.source`` names in the repository ``repository``.
    """

    commit: str | None
    dirty: bool
    ref: str | None = None
    repository: str | None = None


def files_of(root: Path) -> list[Path]:
    """Paths, relative to ``root`` and sorted, of what belongs to a build.

    In a git work tree: tracked files and new ones that are not ignored, as a clean checkout in CI
    would have them, and ``.env``/``.env.production``, which Next.js carries into a release
    (ignored or not). Elsewhere: everything. Folders that tools make are left out, and so are
    ``.env*.local`` files: they are the developer's own (nextjs.org/docs: environment variables).
    """
    everything = set(_walk(str(root)))
    listed = _git_files(root)
    found = everything
    if listed is not None and "package.json" in listed:  # else the folder itself is ignored by git
        found = everything & listed | {path for path in everything if path.rpartition("/")[2] in CARRIED}
    return sorted(path for path in map(Path, found) if not _skipped(path))


def local_env_files(root: Path) -> list[str]:
    """Names of the ``.env*.local`` files of a project: they stay behind, which the user should be told."""
    return sorted(path.name for path in root.glob(".env*.local"))


def hash_of(root: Path, files: list[Path], also: dict[str, str]) -> str:
    """SHA-256 over names, contents and executable bits of ``files``, and over the pairs of ``also``."""
    total = sha256()
    for key, value in sorted(also.items()):
        total.update(f"{key}={len(value)}:{value}\n".encode())
    for path in files:
        file = root / path
        executable = os.access(file, os.X_OK)
        total.update(f"{path.as_posix()}\0{executable}\0{sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def copy(root: Path, files: list[Path], target: Path) -> None:
    """Makes ``target`` hold exactly ``files``; links become the files they point at."""
    if target.exists():
        remove_tree(target)
    for path in files:
        to = target / path
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, to)


def git_state(root: Path) -> GitState:
    """The commit of ``root``; a folder outside git has none."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", ".")
    branch = _git(root, "symbolic-ref", "--short", "--quiet", "HEAD") if commit else None
    return GitState(commit.strip() if commit else None, bool(changes), branch.strip() if branch else None)


def _skipped(path: Path) -> bool:
    if SKIPPED_FOLDERS.intersection(path.parts[:-1]) or path.name in SKIPPED_FILES or path.suffix == ".tsbuildinfo":
        return True
    return path.name.startswith(".env") and path.name.endswith(".local")


def _walk(root: str, inside: str = "") -> Iterator[str]:
    """Files below ``root``, links to files included; not Paths: a project may have thousands."""
    try:
        entries = list(os.scandir(f"{root}/{inside}"))
    except OSError:  # a folder of somebody else: git does not see into it either
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in SKIPPED_FOLDERS:
                yield from _walk(root, f"{inside}{entry.name}/")
        elif entry.is_file():
            yield inside + entry.name


def _git_files(root: Path) -> set[str] | None:
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".")
    return None if listed is None else set(listed.split("\0"))


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, env=outside_hooks(), capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(done.stdout)
