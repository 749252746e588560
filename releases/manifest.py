"""The manifest of a release: what was built, from what, and the hash of every file."""

import platform
from datetime import datetime
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field

MANIFEST = ".roadbed/manifest.json"
SUMS = ".roadbed/files.sha256"
RELEASE_ID = r"^[A-Za-z0-9_-]{1,32}$"
"""What Next.js accepts as a deployment id, nginx as part of a flag's name, and a file system as a name."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Frozen):
    """One file of a release. ``mode`` is octal text, ``size`` is in bytes."""

    sha256: str
    mode: str
    size: int


class Route(_Frozen):
    """A route and how Next.js renders it. ``revalidate`` is in seconds; null: never, or decided by the first render."""

    path: str
    router: str
    kind: str
    rendering: str
    revalidate: int | None
    prerendered: tuple[str, ...]


class Manifest(_Frozen):
    """What a release is.

    ``server`` is the folder of server.js inside ``app/``, ``dist`` the build folder inside that one;
    ``writable`` are the folders a running server writes to, from the root of the release.
    ``guarded``: middleware, conditions on headers or a detected language decide about pages, so that not all that
    declare s-maxage may be kept. ``platform`` is that of the native modules inside. ``source_hash`` covers
    everything a build depends on: equal hash, same release. ``database_driver`` is the npm package that speaks to
    PostgreSQL (``releases/drivers.py``), null where none was found. ``ref`` is the branch or tag that ``commit`` was
    found by, ``repository`` the URL it came from, null for a folder on the machine that built it.
    ``reproducible``: whether another build of the same source under the same id has the same bytes; null where nobody
    has tried and nothing speaks against it. ``because`` says what makes them differ.
    """

    app: str
    release: str = Field(pattern=RELEASE_ID)
    source_hash: str
    created: datetime
    next: str
    node: str
    platform: str
    build_id: str
    deployment_id: str | None
    key_fingerprint: str
    server: str
    dist: str
    writable: tuple[str, ...]
    base_path: str
    asset_prefix: str
    guarded: bool = False
    commit: str | None
    dirty: bool
    ref: str | None = None
    repository: str | None = None
    database_driver: str | None = None
    reproducible: bool | None = None
    because: tuple[str, ...] = ()
    routes: tuple[Route, ...]
    files: dict[str, FileEntry]
    links: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    def is_public(self, path: str) -> bool:
        """Whether nginx serves this file of the release from disk."""
        return path.startswith((self.static + "/", self.public + "/"))

    @property
    def static(self) -> str:
        """Folder of the hashed client files, from the root of the release."""
        return str(PurePosixPath("app", self.server, self.dist, "static"))

    @property
    def public(self) -> str:
        """Folder of the project's public files, from the root of the release."""
        return str(PurePosixPath("app", self.server, "public"))

    def sums(self, *, public_only: bool = False) -> str:
        """The files in the format of ``sha256sum --check``, sorted by path."""
        return "".join(
            f"{entry.sha256}  {path}\n"
            for path, entry in sorted(self.files.items())
            if not public_only or self.is_public(path)
        )


def this_platform() -> str:
    """Platform of the native modules that an install here brings: ``linux-x86_64``."""
    return f"{platform.system().lower()}-{platform.machine().replace('arm64', 'aarch64')}"
