"""Bring a release to a host: only the files it lacks, checked there, and put in place with one rename."""

import gzip
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from roadbed.deploys.app import AppSettings
from roadbed.engine.errors import OperationFailed
from roadbed.engine.session import Session

from . import delta
from .artefact import Artefact
from .host_state import HostState
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


@dataclass(frozen=True)
class Sent:
    """What an upload took: ``size`` in bytes, and how many of the ``files`` of the release were ``sent``."""

    size: int
    sent: int
    files: int
    total: int

    def __str__(self) -> str:
        size = f"{self.size / 2**20:.1f} MB" if self.size >= 2**20 else f"{self.size / 2**10:.0f} KB"
        return f"sent {size} for a release of {self.total / 2**20:.1f} MB, {self.sent} of {self.files} files"


def upload(
    session: Session,
    app: AppSettings,
    artefact: Artefact,
    *,
    node: str | None,
    progress: Callable[[int, int], None],
) -> Sent:
    """Makes ``releases/<id>`` on a host and returns what was sent for it.

    ``node`` is the path of the node binary on the host; None for a web host without the role app,
    which gets what nginx serves and no more. ``progress`` is told bytes sent and bytes in all. A
    broken upload leaves a hidden folder that the next one removes. What an older release on the host
    has that is damaged is found by its hash: then the whole release is sent.
    """
    there = delta.held(session.run(script("held", root=app.root)).out.splitlines())
    base = delta.choose(artefact, there, public_only=node is None)
    parts = _Parts(session, app, artefact, node, progress)
    try:
        return parts.send(base, there, reuse=True)
    except OperationFailed as error:
        if not there or "No space left" in str(error):
            raise
        return parts.send(None, {}, reuse=False)


@dataclass(frozen=True)
class _Parts:
    """One upload; the arguments are those of ``upload``."""

    session: Session
    app: AppSettings
    artefact: Artefact
    node: str | None
    progress: Callable[[int, int], None]

    def send(self, base: Artefact | None, there: Mapping[str, delta.Held], *, reuse: bool) -> Sent:
        """Both parts: the list of files, and then what the host lacks of them."""
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "upload"
            archive.write_bytes(gzip.compress(self._list(base).encode(), mtime=0))
            listed = archive.stat().st_size
            self.session.upload(archive, f"{self._place}.sums.gz")
            lacks, moved = self._receive(base, reuse=reuse)
            parcel = delta.parcel(self.artefact, base, there, lacks, moved, public_only=self._public)
            with archive.open("wb") as output:
                self.artefact.write_archive(output, [*parcel.paths, *_links(self.artefact, self._public)], parcel.extra)
            total, sent = archive.stat().st_size, 0

            def count(size: int) -> None:
                nonlocal sent
                sent += size
                self.progress(sent, total)

            self.session.upload(archive, f"{self._place}.tar.gz", progress=count)
        self._unpack()
        files = self.artefact.manifest.files
        mine = [entry for path, entry in files.items() if not self._public or self.artefact.manifest.is_public(path)]
        return Sent(listed + total, len(files.keys() & {*parcel.paths}), len(mine), sum(entry.size for entry in mine))

    @property
    def _public(self) -> bool:
        return self.node is None

    @property
    def _place(self) -> str:
        return f"/var/lib/roadbed/upload-{self.app.name}"

    def _list(self, base: Artefact | None) -> str:
        """The list of files, as it differs from that of ``base``."""
        sums = self.artefact.manifest.sums(public_only=self._public)
        return delta.difference(base.manifest.sums(public_only=self._public), sums) if base else sums

    def _receive(self, base: Artefact | None, *, reuse: bool) -> tuple[list[str], list[str]]:
        """Paths that the host lacks, and that it has found elsewhere."""
        receive = script(
            "receive",
            root=self.app.root,
            id=self.artefact.release,
            sums=f"{self._place}.sums.gz",
            base=base.release if base else "",
            digest=self.artefact.digest(public_only=self._public),
            apply=delta.APPLY,
            reuse="yes" if reuse else "",
        )
        found: dict[str, list[str]] = {"lacks": [], "moved": []}
        for line in self.session.run(receive, timeout=TIMEOUT).out.splitlines():
            word, _, path = line.partition(" ")
            found[word].append(path)
        return found["lacks"], found["moved"]

    def _unpack(self) -> None:
        manifest = self.artefact.manifest
        unpack = script(
            "unpack",
            app=self.app.name,
            root=self.app.root,
            id=self.artefact.release,
            archive=f"{self._place}.tar.gz",
            node=self.node or "",
            created=str(int(manifest.created.timestamp())),
            public=manifest.public,
            static=manifest.static,
            writable="" if self._public else "\n".join(manifest.writable),
            group="root" if self._public else self.app.name,
        )
        self.session.run(unpack, timeout=TIMEOUT)


def _links(artefact: Artefact, public_only: bool) -> list[str]:
    wanted = artefact.manifest.links
    return [path for path in wanted if not public_only or path.startswith(".roadbed/")]
