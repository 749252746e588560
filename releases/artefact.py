"""A built release on the control machine: its tree and manifest, and the archive of it."""

import fcntl
import gzip
import io
import os
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pydantic import ValidationError

from roadbed.engine.errors import InventoryError

from . import cache
from .manifest import MANIFEST, SUMS, Manifest

if TYPE_CHECKING:
    from .job import Job

KEPT = 5
"""Built releases kept on the control machine for each app."""
IN_USE = 3600
"""Seconds after which a cached release is not being rolled out any more, by another run, say."""


@dataclass(frozen=True)
class Artefact:
    """A release: ``tree`` holds app/ and .roadbed/ as they will be on a host.

    ``job`` is the build that made it; None for a release file, whose project is elsewhere.
    """

    tree: Path
    manifest: Manifest
    job: "Job | None" = None

    @property
    def release(self) -> str:
        """The release's id."""
        return self.manifest.release

    def digest(self, *, public_only: bool = False) -> str:
        """SHA-256 over the hashes of the files: two hosts with the same digest have the same release."""
        return sha256(self.manifest.sums(public_only=public_only).encode()).hexdigest()

    def write_archive(
        self, output: BinaryIO, paths: Iterable[str] | None = None, extra: Mapping[str, bytes] | None = None
    ) -> None:
        """Writes the release, or only the files in ``paths``, as tar.gz; ``extra`` are more files (path -> content).

        The same release always gives the same bytes: sorted names, owner 0, and the time of the
        build as the time of every file. (Not 0: nginx makes an ETag from time and size, and
        Next.js takes the age of a prerendered page from the file's time.)
        """
        everything = {*self.manifest.files, *self.manifest.links, MANIFEST, SUMS}
        with (
            gzip.GzipFile(filename="", mode="wb", fileobj=output, compresslevel=6, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
        ):
            for path, content in sorted((extra or {}).items()):
                info = tarfile.TarInfo(path)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            for path in sorted(everything if paths is None else set(paths)):
                self._add(archive, path)

    def _add(self, archive: tarfile.TarFile, path: str) -> None:
        info = tarfile.TarInfo(path)
        info.mtime = int(self.manifest.created.timestamp())
        if path in self.manifest.links:
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, self.manifest.links[path], 0o777
            archive.addfile(info)
            return
        entry = self.manifest.files.get(path)
        info.mode = int(entry.mode, 8) if entry else 0o644
        file = self.tree / path
        info.size = file.stat().st_size
        with file.open("rb") as data:
            archive.addfile(info, data)


def complete(tree: Path, manifest: Manifest) -> Artefact:
    """Writes the manifest and the hashes into ``tree``, at once or not at all."""
    for name, text in ((SUMS, manifest.sums()), (MANIFEST, manifest.model_dump_json(indent=1) + "\n")):
        partial = tree / f"{name}.new"
        partial.write_text(text)
        partial.replace(tree / name)
    return Artefact(tree, manifest)


def save(tree: Path, manifest: Manifest) -> Artefact:
    """Completes ``tree`` and moves it to the release cache."""
    complete(tree, manifest)
    place = cache.release_folder(manifest.app) / manifest.release
    if place.exists():
        cache.remove_tree(place)
    tree.rename(place)
    _prune(manifest.app, place)
    return Artefact(place, manifest)


def find(app: str, source_hash: str) -> Artefact | None:
    """The newest cached release that was built from the same source."""
    with _nobody_prunes(app):
        for file in _manifests(app):
            if f'"{source_hash}"' in file.read_text() and (release := _read(file.parents[1])):
                os.utime(release.tree)  # in use: see _prune
                return release
    return None


def cached(app: str) -> list[Artefact]:
    """The built releases of ``app`` in the cache, newest first."""
    return [release for file in _manifests(app) if (release := _read(file.parents[1])) is not None]


def load(file: Path, app: str) -> Artefact:
    """Unpacks a release archive into the cache and checks every file against the manifest.

    Raises InventoryError for a file that is not a release of ``app`` or is damaged.
    """
    wrong = f"app/source: {file} "
    tree = cache.release_folder(app) / f".{file.name}.partial"
    cache.remove_tree(tree)
    try:
        with tarfile.open(file, "r:gz") as archive:
            archive.extractall(tree, filter="data")
        manifest = Manifest.model_validate_json((tree / MANIFEST).read_bytes())
        damaged = [path for path, entry in manifest.files.items() if _hash(tree / path) != entry.sha256]
    except (OSError, tarfile.TarError, EOFError, ValidationError) as error:
        cache.remove_tree(tree)
        raise InventoryError(
            f"{wrong}is not a release file: {error}. Point app/source at a project or a release"
        ) from None
    if manifest.app != app or damaged:
        cache.remove_tree(tree)
        reason = f"is damaged ({damaged[0]})" if damaged else f"is a release of {manifest.app}, not of {app}"
        raise InventoryError(f"{wrong}{reason}. Build it again, or point app/source at the right file")
    return save(tree, manifest)


def _manifests(app: str) -> list[Path]:
    """The manifests of the cached releases, newest first."""
    return sorted(cache.release_folder(app).glob(f"[!.]*/{MANIFEST}"), reverse=True)


def _read(tree: Path) -> Artefact | None:
    """A cached release; None when another version of Roadbed wrote it."""
    try:
        return Artefact(tree, Manifest.model_validate_json((tree / MANIFEST).read_bytes()))
    except ValidationError:
        return None


def _hash(file: Path) -> str:
    with file.open("rb") as data:
        total = sha256()
        while piece := data.read(1 << 20):
            total.update(piece)
        return total.hexdigest()


def _prune(app: str, fresh: Path) -> None:
    before = time.time() - IN_USE
    with _nobody_prunes(app):
        others = sorted(path for path in cache.release_folder(app).glob("[!.]*") if path != fresh)
        for old in others[: -KEPT + 1]:
            if old.stat().st_mtime < before:
                cache.remove_tree(old)


@contextmanager
def _nobody_prunes(app: str) -> Iterator[None]:
    """What is found inside is not removed by another run before it is marked as in use."""
    with (cache.release_folder(app) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
