"""A mirror of a git repository in the user's cache: fetched, asked for a commit, and laid out as files.

The mirror is bare and has all branches and tags, so that the next fetch brings only what is new. What a build is made
from is a folder with the files of one commit, made once for each commit, without .git.
"""

import difflib
import os
import re
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from roadbed.deploys.source import GitSource
from roadbed.engine.errors import InventoryError, OperationFailed

from . import cache
from .git import GitError, git, hint, installed

HEAD = "refs/roadbed/HEAD"
"""Where the mirror keeps what the default branch is at."""
KEPT, IN_USE = 3, 3600
"""Commits whose files are kept, and the seconds within which one that was used is not removed."""
COMMIT = re.compile(r"[0-9a-f]{40}")
SHORT = re.compile(r"[0-9a-f]{7,40}")


def folder_of(source: GitSource) -> Path:
    """The mirror's folder: of the repository's name, for people, and a hash of its URL."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", source.url.rstrip("/").rpartition("/")[2].removesuffix(".git"))[:40]
    return cache.mirror_folder(f"{name}-{sha256(source.url.encode()).hexdigest()[:12]}")


def fetched(source: GitSource, say: Callable[[str], None]) -> tuple[str, Path]:
    """The commit that ``source`` names, as the repository has it now, and the folder with its files.

    A full commit that is there already is not asked for again: it never changes. Raises InventoryError for a ref
    that does not exist, OperationFailed when the repository cannot be read.
    """
    installed()
    mirror = folder_of(source)
    with cache.alone(mirror, say, f"Waiting for another run that reads {source.url}"):
        if not (mirror / "objects").is_dir():
            git(mirror, "init", "--quiet", "--bare")
        commit = _resolve(mirror, source.ref) if COMMIT.fullmatch(source.ref) else None
        if commit is None:
            say(f"Fetching {source.url}")
            _fetch(mirror, source)
            commit = _resolve(mirror, source.ref)
        if commit is None:
            raise InventoryError(f"app/source: {source.url} has no {_missing(mirror, source.ref)}")
        return commit, _lay_out(mirror, commit, say)


def known(source: GitSource) -> Path | None:
    """The files of what ``source`` named when it was last fetched, asking nobody; None when they are not here."""
    try:
        mirror = folder_of(source)
        commit = _resolve(mirror, source.ref) if (mirror / "objects").is_dir() else None
    except OSError:
        return None
    tree = mirror / "trees" / (commit or "-")
    return tree if tree.is_dir() else None


def _fetch(mirror: Path, source: GitSource) -> None:
    refs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
    if source.ref == "HEAD":
        refs.append(f"+HEAD:{HEAD}")
    options = ["--prune", "--no-tags", "--force", "--quiet", "--no-write-fetch-head"]
    try:
        git(mirror, "fetch", *options, "--", source.url, *refs)
        if COMMIT.fullmatch(source.ref) and _resolve(mirror, source.ref) is None:  # of no branch, say of a pull request
            _fetch_commit(mirror, source)
    except GitError as error:
        raise OperationFailed(
            f"app/source: {source.url} cannot be read: {error.said}. {hint(error.said, source.url)}"
        ) from None


def _fetch_commit(mirror: Path, source: GitSource) -> None:
    """One commit by its name. Not every server gives it; that it does not exist is said later."""
    try:
        git(mirror, "fetch", "--no-tags", "--quiet", "--no-write-fetch-head", "--", source.url, source.ref)
    except GitError:
        return


def _resolve(mirror: Path, ref: str) -> str | None:
    """The commit of a tag, a branch or a commit's own name, in the order of gitrevisions(7); None: there is none."""
    names = [HEAD] if ref == "HEAD" else [f"refs/tags/{ref}", f"refs/heads/{ref}"]
    names += [ref] if SHORT.fullmatch(ref) or ref.startswith("refs/") else []
    for name in names:
        try:
            return git(mirror, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()
        except GitError:
            continue
    return None


def _missing(mirror: Path, ref: str) -> str:
    """The end of an error: what is missing, and what there is instead."""
    listing = ["--format=%(refname:lstrip=2)", "--sort=-creatordate"]
    tags = git(mirror, "for-each-ref", *listing, "refs/tags").split()
    branches = git(mirror, "for-each-ref", *listing, "refs/heads").split()
    if ref == "HEAD":
        return f"default branch. Name one after #: {', '.join(branches[:5]) or 'it is empty'}"
    near = difflib.get_close_matches(ref, [*tags, *branches], n=3, cutoff=0.5)
    there = [f"branches: {', '.join(branches[:5])}"] if branches else []
    there += [f"newest tags: {', '.join(tags[:5])}"] if tags else []
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"branch, tag or commit {ref}. {meant}" + (f"There are {'; '.join(there)}" if there else "It is empty")


def _lay_out(mirror: Path, commit: str, say: Callable[[str], None]) -> Path:
    """The folder with the files of ``commit``, made when it is not there: complete or not at all."""
    trees = mirror / "trees"
    tree, partial, index = trees / commit, trees / f".{commit}.partial", trees / f".{commit}.index"
    if not tree.is_dir():
        trees.mkdir(exist_ok=True)
        cache.remove_tree(partial)
        partial.mkdir()
        try:
            git(mirror, f"--work-tree={partial}", "read-tree", commit, index=index)
            git(mirror, f"--work-tree={partial}", "checkout-index", "--all", "--force", "--quiet", index=index)
        except GitError as error:
            raise OperationFailed(f"app/source: the files of {commit[:12]} were not laid out: {error.said}") from None
        finally:
            index.unlink(missing_ok=True)
        _complete(mirror, commit, partial, say)
        partial.rename(tree)
    os.utime(tree)
    _prune(trees, tree)
    return tree


def _complete(mirror: Path, commit: str, tree: Path, say: Callable[[str], None]) -> None:
    """What git alone leaves out is told. Raises InventoryError for pointers in the place of files."""
    modules = [line for line in git(mirror, "ls-tree", "-r", commit).splitlines() if line.startswith("160000 ")]
    if modules:
        names = ", ".join(line.partition("\t")[2] for line in modules[:3])
        say(f"Submodules are not fetched: {names}. If the app needs them, name a folder in which they are checked out")
    attributes = tree / ".gitattributes"
    if attributes.is_file() and "filter=lfs" in attributes.read_text(errors="replace"):
        try:
            git(mirror, "lfs", "version")
        except GitError:
            cache.remove_tree(tree)
            raise InventoryError(
                "app/source: the repository keeps files in Git LFS, and git-lfs is not installed here. Install it"
            ) from None


def _prune(trees: Path, used: Path) -> None:
    others = sorted((path for path in trees.glob("[!.]*") if path != used), key=lambda path: path.stat().st_mtime)
    for old in others[: -KEPT + 1]:
        if old.stat().st_mtime < time.time() - IN_USE:
            cache.remove_tree(old)
