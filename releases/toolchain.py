"""Node.js, npm and pnpm of the control machine: fetched when a build needs them, verified, cached, never installed.

The build runs with the same Node.js version as the hosts. npm and pnpm are the pinned packages below,
from the npm registry, whatever the source of Node.js is.
"""

import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from roadbed.deploys.node import NodeBuild, NodeSettings
from roadbed.engine.errors import InventoryError

from . import download
from .cache import cache_root
from .node_builds import node_archive, registry, resolve
from .project import Manager

__all__ = ["Toolchain", "fetch", "fetch_node", "resolve"]


@dataclass(frozen=True)
class Package:
    """A package of the npm registry, pinned by its integrity (sha512, base64)."""

    name: str
    version: str
    sha512: str
    program: str


NPM = {
    "20": Package(
        "npm",
        "10.9.9",
        "1g+6jLQvaIuB4zwvHL7yrXuXcWZwDsCtBX8bbWDqbvJSSr9nPiDDWTHNgwXR27iIcTTW7v3A57hDW9RYv2W4Yg==",
        "bin/npm-cli.js",
    ),
    "24": Package(
        "npm",
        "11.19.1",
        "ztsxKxt/kkIaAs+2i0GU6I+DRmUdrNasxTZKJe9TCdSjKxlhah/4r/hl5ygMD6XAg1qZ9c2TNomR4qgOydp10g==",
        "bin/npm-cli.js",
    ),
}
"""The npm for a Node.js major version: the line that Node.js 20 and 22 come with, and that of 24 and later."""
PNPM = Package(
    "pnpm",
    "10.34.9",
    "9JtajqD97bRLs8DB1ldQkqU8KVDZW3rRXfEfF5dId6LeOgHAfpNOmyjOcW5RwJqUlixzBtCb4uHksYqMh2L9Mg==",
    "bin/pnpm.cjs",
)
"""The last line that is JavaScript alone. It runs the version that package.json names in ``packageManager``
by itself (https://pnpm.io/settings#managepackagemanagerversions)."""


@dataclass(frozen=True)
class Toolchain:
    """The programs of a build. Each is fetched when it is first asked for; any may raise OperationFailed.

    ``node`` is a file; ``npm`` and ``pnpm`` are the beginnings of an argv.
    """

    build: NodeBuild
    say: Callable[[str], None]

    @cached_property
    def node(self) -> Path:
        """The node binary."""
        return fetch_node(self.build, self.say)

    @cached_property
    def npm(self) -> list[str]:
        """npm of the line that fits the Node.js version."""
        return self._program(manager_package("npm", self.build.version))

    @cached_property
    def pnpm(self) -> list[str]:
        """pnpm, which switches to the version that the project names."""
        return self._program(PNPM)

    def _program(self, package: Package) -> list[str]:
        return [str(self.node), str(fetch_package(package, self.say) / package.program)]


def manager_package(manager: Manager, node: str) -> Package:
    """The pinned package manager that fits a version of Node.js."""
    return PNPM if manager == "pnpm" else NPM["24" if int(node.partition(".")[0]) >= 24 else "20"]


def fetch_package(package: Package, say: Callable[[str], None]) -> Path:
    """The folder of a package, of which the same is good for every platform. Raises OperationFailed."""
    root = cache_root() / "node"
    name = f"{package.name}-{package.version}"
    url = f"{registry()}/{package.name}/-/{name}.tgz"
    checksum = NodeBuild(package.version, url, f"sha512-{package.sha512}").checksum
    folder = root / name
    if not folder.is_dir():
        tarball = download.archive(url, *checksum, root / "archives" / f"{name}.tgz", say)
        download.unpack(tarball, folder, lambda path: True)
    return folder


def _quiet(_: str) -> None:
    """Standard output belongs to the caller: --json."""


def fetch(builds: Mapping[str, NodeBuild], say: Callable[[str], None] = _quiet) -> Toolchain:
    """The toolchain of this machine for the builds of the hosts (architecture -> build).

    Nothing is downloaded before it is asked for. Raises InventoryError when there is no Node.js for
    this machine.
    """
    if sys.platform == "linux" and (build := builds.get(platform.machine())) and build.url:
        return Toolchain(build, say)
    settings = next((build.settings for build in builds.values()), NodeSettings())
    if settings.from_apt:  # hosts have it from apt; the build takes the same major version from nodejs.org
        settings = NodeSettings(version=settings.version)
    return Toolchain(resolve(settings, platform.machine(), sys.platform), say)


def fetch_node(build: NodeBuild, say: Callable[[str], None] = _quiet) -> Path:
    """The node binary of a build: ~/.cache/roadbed/node/<version>-<checksum>/bin/node. Raises OperationFailed."""
    if not build.url:
        raise InventoryError(f"node/source: {build.settings.source} has no archive to build with")
    folder = cache_root() / "node" / f"{build.version}-{build.checksum[1][:12]}"
    if not folder.is_dir():
        say(f"Fetching Node.js {build.version}")
        download.unpack(node_archive(build), folder, lambda path: path in ("bin/node", "LICENSE"))
    return folder / "bin" / "node"
