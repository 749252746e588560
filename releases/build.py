"""Build a release from the project, or find the one that was built from the same source before."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from roadbed.engine.errors import InventoryError, Refused
from roadbed.engine.inventory import Inventory

from . import action_key as keys
from . import artefact, build_paths, cache, checkout, layout, leaks, next_build, preview_keys, reproduce
from .artefact import Artefact
from .build_hooks import BuildHooks
from .drivers import detect_driver
from .job import Job, Toolchain, make_job
from .layout import BuildInfo
from .manifest import Manifest, Route

if TYPE_CHECKING:
    from .build_host import BuildHost

TIME = "%Y%m%dT%H%M%S"
"""The time in a release's id, UTC. All times in a release are this one, so that its bytes depend on the id alone."""


def _quiet(_: str) -> None:
    """For callers that only want to know whether it works."""


def ensure(
    inventory: Inventory,
    action_key: bytes,
    toolchain: Toolchain,
    say: Callable[[str], None],
    *,
    secrets: Mapping[str, str] | None = None,
    allow_vulnerable: bool = False,
    host: "BuildHost | None" = None,
) -> Artefact:
    """The release of ``inventory.app``: a cached one when nothing it depends on has changed, else a fresh build.

    ``action_key`` is base64 of 32 bytes. ``say`` is told what goes on, one sentence at a time.
    ``secrets`` (name -> value) must not turn up in client code. ``host`` builds instead of this machine.
    Raises InventoryError or Refused for a project that cannot be deployed, BuildFailed when its build fails; no
    host gets anything of it then.
    """
    app, fingerprint = inventory.app, keys.fingerprint(action_key)
    place = checkout.locate(inventory, say)
    if place.is_release:
        return _from_file(place.path, app.name, fingerprint, say)
    project = checkout.read(inventory, place, allow_vulnerable=allow_vulnerable)
    job = make_job(app, project, toolchain, action_key, say, place.state, platform=host.platform if host else None)
    known = artefact.find(app.name, job.source_hash)  # without waiting for a build of another stack or source
    if known is None:
        with cache.alone(job.work, say):
            known = artefact.find(app.name, job.source_hash)
            if known is None:
                hooks, hidden = BuildHooks(inventory, job), {"the action key": action_key.decode(), **(secrets or {})}
                with hooks.watching():
                    return replace(_build(job, hidden, hooks, host), job=job)
    say(f"Release {known.release} is built already")
    return replace(known, job=job)


def check_source(inventory: Inventory, say: Callable[[str], None] = _quiet, *, allow_vulnerable: bool = False) -> None:
    """Reads the project, asks no host: raises InventoryError or Refused when it cannot be deployed.

    A git repository is fetched. Raises OperationFailed when it cannot be read.
    """
    place = checkout.locate(inventory, say)
    if not place.is_release:
        checkout.read(inventory, place, allow_vulnerable=allow_vulnerable)
    elif inventory.app.migrate:
        raise InventoryError(
            f"app/migrate: `{inventory.app.migrate}` runs in the project, and app/source is the release file "
            f"{place.path.name}. Deploy from where the project is, with its folder or repository as app/source; or "
            "remove app/migrate and run the migrations from there, before this"
        )


def _from_file(path: Path, app: str, fingerprint: str, say: Callable[[str], None]) -> Artefact:
    release = artefact.load(path, app)
    if release.manifest.key_fingerprint != fingerprint:
        raise Refused(
            f"app/source: {path} was built with another action key ({release.manifest.key_fingerprint}, the stack has "
            f"{fingerprint}), so the Server Actions of open pages would fail. Build it with the key of this stack"
        )
    say(f"Release {release.release} comes from {path.name}")
    return release


def again(inventory: Inventory, release: Artefact, action_key: bytes, host: "BuildHost | None" = None) -> Artefact:
    """Builds a release once more, from a clean copy of the source, under the same id; it is not kept.

    Raises InventoryError for one that comes from a release file, BuildFailed when the build fails now.
    """
    job = release.job
    if job is None:
        raise InventoryError("app/source: is a release file. Name its project, to build it once more")
    with cache.alone(job.work, job.say):
        hooks, hidden = BuildHooks(inventory, job), {"the action key": action_key.decode()}
        return artefact.complete(*_make(job, release.release, hidden, hooks, host))


def _build(job: Job, secrets: Mapping[str, str], hooks: BuildHooks, host: "BuildHost | None") -> Artefact:
    release = f"{datetime.now(UTC):{TIME}}-{job.source_hash[:7]}"
    tree, manifest = _make(job, release, secrets, hooks, host)
    reasons = reproduce.foreseen(manifest)
    return artefact.save(
        tree, manifest.model_copy(update={"because": reasons, "reproducible": False if reasons else None})
    )


def _make(
    job: Job, release: str, secrets: Mapping[str, str], hooks: BuildHooks, host: "BuildHost | None"
) -> tuple[Path, Manifest]:
    """Builds; returns the tree of the release, in a hidden folder of the cache, and its manifest."""
    info = _on_host(job, release, host) if host else next_build.build(job, release, hooks.around(release))
    job.say(f"Putting release {release} together")
    tree = _fresh_tree(job.app, release)
    writable = layout.lay_out(info, tree)
    server = tree / "app" / info.server
    build_paths.settle(server, info.dist_name)
    preview_keys.settle(server, info.dist_name, job.key, release)
    manifest = _manifest(job, release, info, writable)
    public = (manifest.static, manifest.public)
    leaks.check(tree, public, secrets)
    files, links = layout.describe(tree, public)
    return tree, manifest.model_copy(update={"files": files, "links": links})


def _on_host(job: Job, release: str, host: "BuildHost") -> BuildInfo:
    from .host_build import build  # it loads paramiko

    return build(job, release, host)


def _fresh_tree(app: str, release: str) -> Path:
    """An empty folder in the release cache; what an interrupted build left there is removed."""
    folder = cache.release_folder(app)
    for partial in folder.glob(".*.partial"):
        cache.remove_tree(partial)
    tree = folder / f".{release}.partial"
    tree.mkdir()
    return tree


def _manifest(job: Job, release: str, info: BuildInfo, writable: list[str]) -> Manifest:
    git, detected = job.git(job.project.root), detect_driver(job.project)
    if detected.note:
        job.say(f"database: {detected.note}")
    return Manifest(
        app=job.app,
        release=release,
        source_hash=job.source_hash,
        created=datetime.strptime(release.partition("-")[0], TIME).replace(tzinfo=UTC),
        next=info.data["nextVersion"],
        node=job.node,
        platform=job.platform,
        build_id=info.data["buildId"],
        deployment_id=info.data["deploymentId"],
        key_fingerprint=keys.fingerprint(job.key),
        server=info.server,
        dist=info.dist_name,
        writable=tuple(writable),
        base_path=info.data["basePath"],
        asset_prefix=info.data["assetPrefix"],
        guarded=info.data["guarded"],
        commit=git.commit,
        dirty=git.dirty,
        ref=git.ref,
        repository=git.repository,
        database_driver=detected.driver,
        routes=tuple(Route(**route) for route in info.data["routes"]),
        files={},
        links={},
    )
