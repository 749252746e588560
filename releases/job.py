"""One build: the project, and all that the result depends on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from roadbed.deploys.app import AppSettings
from roadbed.deploys.node import NodeBuild

from . import action_key as keys
from . import cache, runtime_files, source, versions
from .build_env import build_settings
from .manifest import this_platform
from .project import Project
from .source import GitState

FORMAT = "4"
"""Part of the source hash: raised when the tree of a release changes, so that it is built anew."""


class Toolchain(Protocol):
    """Node.js and the package managers of the control machine (``releases/toolchain.py``), fetched when asked for."""

    @property
    def build(self) -> NodeBuild: ...
    @property
    def node(self) -> Path: ...
    @property
    def npm(self) -> list[str]: ...
    @property
    def pnpm(self) -> list[str]: ...


@dataclass(frozen=True)
class Job:
    """``files`` are relative to the project's root, ``node`` is an exact version, ``env`` the app's own settings,
    ``asset_prefix`` the URL that browsers load assets from.

    ``depends`` is what ``source_hash`` covers beside the files. ``work`` is the folder of the app's builds;
    ``say`` is told what goes on; ``platform`` is that of the machine that builds; ``git`` tells the commit, given
    the project's root.
    """

    app: str
    project: Project
    files: list[Path]
    depends: Mapping[str, str]
    source_hash: str
    toolchain: Toolchain
    node: str
    key: bytes
    env: Mapping[str, str]
    asset_prefix: str | None
    work: Path
    say: Callable[[str], None]
    platform: str
    git: Callable[[Path], GitState] = source.git_state

    @property
    def version(self) -> versions.Version:
        """The version of Next.js."""
        return versions.parse(self.project.next_version) or versions.OLDEST

    @property
    def manager(self) -> list[str]:
        """The package manager as the beginning of an argv."""
        return self.toolchain.npm if self.project.manager == "npm" else self.toolchain.pnpm

    @property
    def copy(self) -> Path:
        """The copy of the source that is built."""
        return self.work / "source"

    @property
    def folder(self) -> Path:
        """The project inside the copy."""
        return self.copy / self.project.folder

    @property
    def copied(self) -> Path:
        """File that names the source hash of the copy, once it is complete and its packages are installed."""
        return self.work / "source.hash"


def make_job(
    app: AppSettings,
    project: Project,
    toolchain: Toolchain,
    key: bytes,
    say: Callable[[str], None],
    git: Callable[[Path], GitState] = source.git_state,
    *,
    platform: str | None = None,
) -> Job:
    """Reads the source and hashes what a build of it depends on; ``platform`` is that of the machine that builds."""
    for name in source.local_env_files(project.path):
        say(f"{name} stays behind: it is for development. Use app/env, or `provision secrets set`")
    files, env = source.files_of(project.root), build_settings(app.env)
    node, platform = toolchain.build.version, platform or this_platform()
    also = {
        "format": FORMAT,
        "app": app.name,
        "folder": project.folder.as_posix(),
        "manager": project.manager,
        "node": node,
        "platform": platform,
        "runtime": runtime_files.runtime_hash(),
        "key": keys.fingerprint(key),
        "asset prefix": app.cdn.asset_prefix or "",
        **{f"env {name}": value for name, value in env.items()},
    }
    source_hash = source.hash_of(project.root, files, also)
    work = cache.build_folder(app.name)
    prefix = app.cdn.asset_prefix
    return Job(app.name, project, files, also, source_hash, toolchain, node, key, env, prefix, work, say, platform, git)
