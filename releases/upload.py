"""Bring a release to a host: only the files it lacks, checked there, and put in place with one rename."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from roadbed.deploys.app import AppSettings
from roadbed.engine.errors import OperationFailed
from roadbed.engine.session import Session

from .artefact import Artefact
from .host_state import HostState
from .manifest import MANIFEST
from .scripts import script

SPARE_MB = 200
"""MiB that stay free on a host: logs, apt and the app's cache go on needing some."""
WORKING_SHARE = 1.2
"""Room for a release, relative to its size: the archive lies beside the tree while it is unpacked."""
TIMEOUT = 600
"""Seconds without output: hashing and copying on a slow disk."""


def check_room(name: str, state: HostState, artefact: Artefact) -> None:
    """Raises OperationFailed when a host cannot take the release: too little disk, another architecture."""
    if not artefact.tree.is_dir():
        raise OperationFailed(
            f"{name}: lacks files of {artefact.release}, and this machine does not have the release. Deploy its source "
            "again, or roll back to another one"
        )
    system, _, arch = artefact.manifest.platform.partition("-")
    if (system, arch) != ("linux", state.arch):
        raise OperationFailed(
            f"{name}: the release was built on {artefact.manifest.platform}, and the host is linux-{state.arch}: "
            "its native modules would not load. Build on a machine like the hosts"
        )
    needed = int(artefact.manifest.size / 2**20 * WORKING_SHARE) + SPARE_MB
    free = state.free_kb // 1024
    if free < needed:
        raise OperationFailed(
            f"{name}: /srv has {free} MB free, the release needs {needed} MB. Free space or lower app/keep"
        )


def upload(
    session: Session,
    app: AppSettings,
    artefact: Artefact,
    *,
    node: str | None,
    progress: Callable[[int, int], None],
) -> int:
    """Makes ``releases/<id>`` on a host and returns the bytes that were sent.

    ``node`` is the path of the node binary on the host; None for a web host without the role app,
    which gets what nginx serves and no more. ``progress`` is told bytes sent and bytes in all. A
    broken upload leaves a hidden folder that the next one removes.
    """
    manifest, public_only = artefact.manifest, node is None
    base = f"/var/lib/roadbed/upload-{app.name}"
    session.run("install -d -m 755 /var/lib/roadbed")
    with tempfile.TemporaryDirectory() as folder:
        sums = Path(folder) / "files.sha256"
        sums.write_text(manifest.sums(public_only=public_only))
        session.upload(sums, f"{base}.sha256")
        receive = script("receive", root=app.root, id=artefact.release, sums=f"{base}.sha256")
        missing = session.run(receive, timeout=TIMEOUT).out.splitlines()
        archive = Path(folder) / "files.tar.gz"
        with archive.open("wb") as output:
            artefact.write_archive(output, [*missing, *_links(artefact, public_only), MANIFEST])
        total, sent = archive.stat().st_size, 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            progress(sent, total)

        session.upload(archive, f"{base}.tar.gz", progress=count)
    unpack = script(
        "unpack",
        app=app.name,
        root=app.root,
        id=artefact.release,
        archive=f"{base}.tar.gz",
        node=node or "",
        created=str(int(manifest.created.timestamp())),
        public=manifest.public,
        static=manifest.static,
        writable="" if public_only else "\n".join(manifest.writable),
        group="root" if public_only else app.name,
    )
    session.run(unpack, timeout=TIMEOUT)
    return total


def _links(artefact: Artefact, public_only: bool) -> list[str]:
    wanted = artefact.manifest.links
    return [path for path in wanted if not public_only or path.startswith(".roadbed/")]
