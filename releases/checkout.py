"""What a release is built from, on this machine: ``app.source`` as it is, or the files of a commit in git."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from roadbed.deploys.source import GitSource
from roadbed.engine.errors import InventoryError, Refused
from roadbed.engine.inventory import Inventory

from . import mirror
from .project import Project, detect
from .source import SKIPPED_FOLDERS, GitState, git_state

ARCHIVES = (".tar.gz", ".tgz")
"""Endings of a release that was built before, elsewhere perhaps."""
SHOWN = 4
"""Projects of a repository that a hint names."""


@dataclass(frozen=True)
class Checkout:
    """``path`` is the project's folder or a release file. For a repository ``tree`` is the folder with all its
    files, and ``git`` says what was asked for and found."""

    path: Path
    tree: Path | None = None
    git: GitState | None = None

    @property
    def is_release(self) -> bool:
        """Whether it is a release file."""
        return self.tree is None and self.path.name.endswith(ARCHIVES)

    def state(self, root: Path) -> GitState:
        """The commit that a build is made from; ``root`` is the project's, see ``Project``."""
        return self.git or git_state(root)


def locate(inventory: Inventory, say: Callable[[str], None]) -> Checkout:
    """Where ``app.source`` is on this machine; a repository is fetched, and asked once by each process.

    Raises InventoryError for a ref or a folder that is not in it, OperationFailed when it cannot be read.
    """
    wanted = inventory.app.git
    if wanted is None:
        return Checkout(inventory.source)
    place = (mirror.folder_of(wanted), wanted)
    if place not in _asked:
        _asked[place] = _checked_out(wanted, say)
    return _asked[place]


_asked: dict[tuple[Path, GitSource], Checkout] = {}
"""A branch that moves while a command runs must not give it two sources."""


def known(inventory: Inventory) -> Checkout | None:
    """As ``locate``, but asking nobody: a repository as it was when it was last fetched; None when it never was."""
    wanted = inventory.app.git
    if wanted is None:
        return Checkout(inventory.source)
    tree = mirror.known(wanted)
    return Checkout(tree / wanted.folder, tree) if tree else None


def read(inventory: Inventory, checkout: Checkout, *, allow_vulnerable: bool = False) -> Project:
    """The project in ``checkout``; errors name the repository, not the folder in the cache. See ``project.detect``."""
    wanted = inventory.app.git
    if wanted is None or checkout.tree is None:
        return detect(checkout.path, allow_vulnerable=allow_vulnerable)
    try:
        return detect(checkout.path, within=checkout.tree, allow_vulnerable=allow_vulnerable)
    except (InventoryError, Refused) as error:
        text = str(error).replace(str(checkout.path), inventory.app.source).replace(str(checkout.tree), wanted.url)
        if not wanted.folder and "is not a Next.js project" in text:
            text = text.partition(" Point app/source")[0] + _projects(checkout.tree, wanted)
        raise type(error)(text) from None


def _checked_out(wanted: GitSource, say: Callable[[str], None]) -> Checkout:
    commit, tree = mirror.fetched(wanted, say)
    say(f"{wanted.url} is at {commit[:12]}" + (f" ({wanted.ref})" if wanted.ref != commit else ""))
    if not (tree / wanted.folder).is_dir():
        raise InventoryError(
            f"app/source: {wanted.url} has no folder {wanted.folder} at {wanted.ref}.{_projects(tree, wanted)}"
        )
    return Checkout(tree / wanted.folder, tree, GitState(commit, False, wanted.ref, wanted.url))


def _projects(tree: Path, wanted: GitSource) -> str:
    """Where in a repository the Next.js projects are, as a hint."""
    found = []
    for file in sorted(tree.glob("*/package.json")) + sorted(tree.glob("*/*/package.json")):
        folder = file.parent.relative_to(tree)
        if SKIPPED_FOLDERS.isdisjoint(folder.parts) and _has_next(file):
            found.append(folder.as_posix())
    if not found:
        return " Name a repository with a Next.js project"
    return f" Next.js projects in it: {', '.join(found[:SHOWN])}. Write #{wanted.ref}:{found[0]}"


def _has_next(package: Path) -> bool:
    try:
        return "next" in json.loads(package.read_text())["dependencies"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
