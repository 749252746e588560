"""Roadbed's own JavaScript (``runtime/``): which of it goes into a release, and a hash of it."""

import os
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from . import cache
from .command import BuildLog, run

RUNTIME = Path(__file__).resolve().parents[1] / "runtime"
PATTERNS = ("*.cjs", "lib/*.cjs", "cache/*.cjs", "cache/entry/*.cjs", "package.json", "package-lock.json")
BUILD_ONLY = frozenset({"adapter.cjs", "describe.cjs", "package.json", "package-lock.json"})
PACKAGES = ("package.json", "package-lock.json")
BUNDLE = "shared-cache.cjs"
NOTICE = "/* Contains @redis/client, Copyright (c) 2022-2023 Redis, inc., MIT License: github.com/redis/node-redis */"


class Tools(Protocol):
    """Node.js and npm (``releases/toolchain.py``)."""

    @property
    def node(self) -> Path: ...
    @property
    def npm(self) -> list[str]: ...


def runtime_files() -> list[Path]:
    """Every file of the runtime, relative to ``RUNTIME``; its tests are not part of it."""
    return sorted(path.relative_to(RUNTIME) for pattern in PATTERNS for path in RUNTIME.glob(pattern))


def runtime_hash() -> str:
    """SHA-256 over names and contents: another runtime makes another release."""
    return _hash(runtime_files())


def copy_all(target: Path, handlers: Path) -> None:
    """Copies the runtime, and what ``cache_handlers`` has made, for a build to use."""
    _copy([path for path in runtime_files() if path.parts[0] != "cache"], target)
    shutil.copytree(handlers, target / "cache")


def copy_server(target: Path) -> None:
    """Copies what a running server needs of the runtime. The build takes in the cache handlers by itself."""
    needed = [path for path in runtime_files() if path.name not in BUILD_ONLY and path.parts[0] != "cache"]
    _copy(needed, target)


def cache_handlers(tools: Tools, env: Mapping[str, str], log: BuildLog) -> Path:
    """The folder with the cache handlers as files that need nothing else, made when there is none yet.

    A build takes files from below the project alone, so the Redis client has to be inside. It is kept
    by its contents in ``~/.cache/roadbed/runtime``. ``env`` is for npm. Raises BuildFailed.
    """
    sources = [path for path in runtime_files() if path.parts[0] == "cache" or path.name in PACKAGES]
    folder = cache.cache_root() / "runtime" / f"handlers-{_hash(sources)[:16]}"
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        _copy([path for path in sources if path.parts[0] == "cache"], partial)
        _bundle(partial / "cache", _packages(tools, env, log), tools, log)
        _publish(partial / "cache" / "entry", folder)
        cache.remove_tree(partial)
    return folder


def _bundle(source: Path, packages: Path, tools: Tools, log: BuildLog) -> None:
    """One file out of many (https://esbuild.github.io/api/); names stay, so that errors can be read."""
    program = packages / "node_modules/esbuild/bin/esbuild"
    options = ["--bundle", "--platform=node", "--target=node20", "--external:next/*", "--log-level=warning"]
    options += ["--minify-whitespace", "--minify-syntax", f"--banner:js={NOTICE}"]
    command = [str(tools.node), str(program), "index.cjs", *options, f"--outfile=entry/{BUNDLE}"]
    env = {"NODE_PATH": str(packages / "node_modules"), "PATH": os.defpath}
    run(command, folder=source, env=env, log=log, title=f"esbuild {BUNDLE}")


def _packages(tools: Tools, env: Mapping[str, str], log: BuildLog) -> Path:
    """The folder with the packages of the lock file, installed without running their scripts."""
    folder = cache.cache_root() / "runtime" / f"packages-{_hash([Path(name) for name in PACKAGES])[:16]}"
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        _copy([Path(name) for name in PACKAGES], partial)
        options = ["--ignore-scripts", "--include=dev", "--no-audit", "--no-fund", "--prefer-offline"]
        stored = ["--cache", str(cache.cache_root() / "packages" / "npm")]
        command = [*tools.npm, "ci", *options, *stored]
        run(command, folder=partial, env=dict(env), log=log, title="npm ci (runtime)")
        _publish(partial, folder)
    return folder


def _publish(made: Path, folder: Path) -> None:
    """Puts a folder in its place at once. Another build may have been faster, with the same contents."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        cache.remove_tree(made)


def _hash(paths: list[Path]) -> str:
    total = sha256()
    for path in paths:
        total.update(f"{path.as_posix()}\0{sha256((RUNTIME / path).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _copy(files: list[Path], target: Path) -> None:
    if target.exists():
        cache.remove_tree(target)
    for path in files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RUNTIME / path, target / path)
