"""Build a release from the project, or find the one that was built from the same source before."""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from roadbed.engine.inventory import Inventory

from . import action_key as keys
from . import artefact, cache, layout, leaks, runtime_files, source, versions
from .artefact import Artefact
from .build_env import build_environment
from .command import BuildFailed, BuildLog, run
from .manifest import Manifest, Route, this_platform
from .node_version import node_version
from .project import Project, detect

FORMAT = "1"
"""Part of the source hash: raised when the tree of a release changes, so that it is built anew."""
PLAIN_BUILD = re.compile(r"next build((?: +--?[a-z-]+)*)")


class Toolchain(Protocol):
    """Node.js and the package managers of the control machine (``releases/toolchain.py``)."""

    @property
    def node(self) -> Path: ...
    @property
    def npm(self) -> list[str]: ...
    @property
    def pnpm(self) -> list[str]: ...


def ensure(
    inventory: Inventory,
    action_key: bytes,
    toolchain: Toolchain,
    say: Callable[[str], None],
    *,
    secrets: Mapping[str, str] | None = None,
    allow_vulnerable: bool = False,
) -> Artefact:
    """The release of ``inventory.app``: a cached one when nothing it depends on has changed, else a fresh build.

    ``action_key`` is base64 of 32 bytes. ``say`` is told what goes on, one sentence at a time.
    ``secrets`` (name -> value) must not turn up in client code. Raises InventoryError or Refused
    for a project that cannot be deployed, BuildFailed when its build fails; no host is touched.
    """
    fingerprint = keys.fingerprint(action_key)
    path = (inventory.path.parent / Path(inventory.app.source).expanduser()).resolve()
    if path.name.endswith((".tar.gz", ".tgz")):
        return _from_file(path, inventory.app.name, fingerprint, say)
    job = _job(inventory, detect(path, allow_vulnerable=allow_vulnerable), toolchain, action_key, say)
    hidden = {"the action key": action_key.decode(), **(secrets or {})}
    with _alone(job.work):
        known = [release for release in artefact.cached(job.app) if release.manifest.source_hash == job.source_hash]
        if known:
            say(f"Release {known[0].release} is built already")
            return known[0]
        return _build(job, fingerprint, hidden)


@dataclass(frozen=True)
class _Job:
    """One build: all that it depends on."""

    app: str
    project: Project
    files: list[Path]
    source_hash: str
    toolchain: Toolchain
    node: str
    key: bytes
    env: Mapping[str, str]
    work: Path
    say: Callable[[str], None]


def _job(inventory: Inventory, project: Project, toolchain: Toolchain, key: bytes, say: Callable[[str], None]) -> _Job:
    app = inventory.app
    for name in source.local_env_files(project.path):
        say(f"{name} stays behind: it is for development. Use app/env, or `provision secrets set`")
    files = source.files_of(project.root)
    node = node_version(toolchain.node)
    also = {
        "format": FORMAT,
        "app": app.name,
        "folder": project.folder.as_posix(),
        "manager": project.manager,
        "node": node,
        "platform": this_platform(),
        "runtime": runtime_files.runtime_hash(),
        "key": keys.fingerprint(key),
        **{f"env {name}": value for name, value in app.env.items()},
    }
    source_hash = source.hash_of(project.root, files, also)
    work = cache.build_folder(app.name)
    return _Job(app.name, project, files, source_hash, toolchain, node, key, app.env, work, say)


def _from_file(path: Path, app: str, fingerprint: str, say: Callable[[str], None]) -> Artefact:
    release = artefact.load(path, app)
    if release.manifest.key_fingerprint != fingerprint:
        raise BuildFailed(
            f"app/source: {path} was built with another action key ({release.manifest.key_fingerprint}, the stack has "
            f"{fingerprint}), so the Server Actions of open pages would fail. Build it with the key of this stack"
        )
    say(f"Release {release.release} comes from {path.name}")
    return release


def _build(job: _Job, fingerprint: str, secrets: Mapping[str, str]) -> Artefact:
    now = datetime.now(UTC).replace(microsecond=0)
    release = f"{now:%Y%m%dT%H%M%S}-{job.source_hash[:7]}"
    log = BuildLog(job.work / "build.log")
    copy = job.work / "source"
    source.copy(job.project.root, job.files, copy)
    runtime_files.copy_all(job.work / "runtime")
    project = copy / job.project.folder
    _install(job, copy, log)
    _next_build(job, project, release, log)
    info = layout.find_build(project)
    _check_key(info, job.key)
    job.say(f"Putting release {release} together")
    tree = cache.release_folder(job.app) / f".{release}.partial"
    _clear(tree.parent)
    tree.mkdir()
    writable = layout.lay_out(info, project, tree)
    manifest = _manifest(job, release, now, fingerprint, info, writable)
    public = (manifest.static, manifest.public)
    leaks.check(tree, public, secrets)
    files, links = layout.describe(tree, public)
    return artefact.save(tree, manifest.model_copy(update={"files": files, "links": links}))


def _install(job: _Job, copy: Path, log: BuildLog) -> None:
    cached = str(cache.cache_root() / "packages" / job.project.manager)
    if job.project.manager == "npm":
        arguments = ["ci", "--no-audit", "--no-fund", "--prefer-offline", "--cache", cached]
        command = [*job.toolchain.npm, *arguments]
    else:
        arguments = ["install", "--frozen-lockfile", "--prefer-offline", "--store-dir", cached]
        command = [*job.toolchain.pnpm, *arguments]
    title = f"{job.project.manager} {' '.join(arguments[:2] if job.project.manager == 'pnpm' else arguments[:1])}"
    job.say(f"Installing packages: {title}")
    run(command, folder=copy, env=_environment(job, {}), log=log, title=title)


def _next_build(job: _Job, project: Path, release: str, log: BuildLog) -> None:
    version = versions.parse(job.project.next_version) or versions.ADAPTERS
    ours = {
        "NEXT_SERVER_ACTIONS_ENCRYPTION_KEY": job.key.decode(),
        "ROADBED_RELEASE": release,
        "NODE_ENV": "production",
    }
    if version >= versions.ADAPTERS:
        ours["NEXT_ADAPTER_PATH"] = str(job.work / "runtime" / "adapter.cjs")
    else:  # undocumented, present in every version from 14.2 on
        ours |= {"NEXT_PRIVATE_STANDALONE": "1", "NEXT_DEPLOYMENT_ID": release}
    command, title = _build_command(job, project)
    job.say(f"Building with Next.js {job.project.next_version}: {title}")
    run(command, folder=project, env=_environment(job, ours), log=log, title=title)
    if version < versions.ADAPTERS:
        describe = [str(job.toolchain.node), str(job.work / "runtime" / "describe.cjs"), str(project)]
        run(describe, folder=project, env=_environment(job, {}), log=log, title="node describe.cjs")


def _build_command(job: _Job, project: Path) -> tuple[list[str], str]:
    """``next build`` itself, or the project's build script when that does more."""
    scripts = job.project.scripts
    plain = PLAIN_BUILD.fullmatch(scripts.get("build", "next build").strip())
    if plain and not {"prebuild", "postbuild"} & scripts.keys():
        places = (project, *project.parents[: len(job.project.folder.parts)])
        found = [place / "node_modules/next/dist/bin/next" for place in places]
        program = next((file for file in found if file.exists()), found[0])
        flags = plain[1].split()
        return [str(job.toolchain.node), str(program), "build", *flags], " ".join(["next build", *flags])
    manager = job.toolchain.npm if job.project.manager == "npm" else job.toolchain.pnpm
    return [*manager, "run", "build"], f"{job.project.manager} run build"


def _environment(job: _Job, ours: Mapping[str, str]) -> dict[str, str]:
    return build_environment(job.toolchain.node, job.work / "source", job.env, ours)


def _check_key(info: layout.BuildInfo, key: bytes) -> None:
    """Next.js makes a key of its own when it does not see ours, and every later build then breaks open pages."""
    used = info.data["actionKeyFingerprint"]
    if used is not None and used != sha256(key).hexdigest():
        raise BuildFailed(
            "app/source: the build did not use the stack's action key. "
            "Remove NEXT_SERVER_ACTIONS_ENCRYPTION_KEY from the project's .env files and scripts"
        )


def _manifest(
    job: _Job, release: str, created: datetime, fingerprint: str, info: layout.BuildInfo, writable: list[str]
) -> Manifest:
    git = source.git_state(job.project.root)
    return Manifest(
        app=job.app,
        release=release,
        source_hash=job.source_hash,
        created=created,
        next=info.data["nextVersion"],
        node=job.node,
        platform=this_platform(),
        build_id=info.data["buildId"],
        deployment_id=info.data["deploymentId"],
        key_fingerprint=fingerprint,
        server=info.server,
        dist=info.dist_name,
        writable=tuple(writable),
        base_path=info.data["basePath"],
        asset_prefix=info.data["assetPrefix"],
        commit=git.commit,
        dirty=git.dirty,
        routes=tuple(Route(**route) for route in info.data["routes"]),
        files={},
        links={},
    )


def _clear(folder: Path) -> None:
    """Removes what an interrupted build left."""
    for partial in folder.glob(".*.partial"):
        shutil.rmtree(partial)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """One build of an app at a time on this machine; a second one waits."""
    descriptor = os.open(work / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
