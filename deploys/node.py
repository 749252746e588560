"""Node: the Node.js runtime, one pinned version beside the other in /opt/roadbed/node/<version>.

The control machine finds out the exact version and its checksum (releases/toolchain.py); the hosts
download the archive themselves and accept nothing that has another checksum. A host that cannot
reach the mirror gets the control machine's copy. An upgrade adds a version and removes none, so the
running release keeps the Node it was started with.

What is trusted: for nodejs.org the SHASUMS256.txt of the release, read over HTTPS (its OpenPGP signature
is not checked); for npm the sha512 integrity in the registry's metadata; for NodeSource and the
distribution apt's signatures.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from .model import Settings
from .node_install import install_node, node_from_apt

if TYPE_CHECKING:
    from .context import Context

ROLES = ("app",)
NEEDS = ("base",)
FOLDER = "/opt/roadbed/node"
DEFAULT = "24"
PINNED = {"20": "20.20.2", "22": "22.23.3", "24": "24.21.0", "26": "26.10.0"}
"""The version that a major number alone means, so that the same Roadbed installs the same Node everywhere."""
MIRRORS = {
    "nodejs.org": "https://nodejs.org/dist",
    "npm": "https://registry.npmjs.org",
    "nodesource": "https://deb.nodesource.com",
}


class NodeSettings(Settings):
    """The Node.js runtime."""

    version: str = Field(
        DEFAULT,
        pattern=r"^[1-9][0-9](\.[0-9]{1,3}){0,2}$",
        description="Version: a major one (24: the one Roadbed pins), a line (24.9: its newest) or exact (24.9.0).",
    )
    source: Literal["nodejs.org", "nodesource", "distro", "npm"] = Field(
        "nodejs.org",
        description="nodejs.org: tarball; npm: the registry's binary packages; nodesource, distro: apt, one version.",
    )
    mirror: str | None = Field(
        None,
        pattern=r"^https?://[^\s'\"]+[^\s'\"/]$",
        description="Base URL to use instead of the source's own, without a slash at its end.",
    )

    @field_validator("version", mode="before")
    @classmethod
    def _quoted(cls, value: Any) -> Any:
        if isinstance(value, float):
            raise ValueError(f"{value} is a number, and YAML reads 24.10 as 24.1. Write it in quotes, such as '24.10'")
        return str(value) if type(value) is int else value

    @property
    def major(self) -> str:
        """``24`` of ``24.9.0``."""
        return self.version.partition(".")[0]

    @property
    def from_apt(self) -> bool:
        """Whether apt installs it, which keeps one version only."""
        return self.source in ("nodesource", "distro")


@dataclass(frozen=True)
class NodeBuild:
    """One Node.js archive for one platform; from apt only ``version`` is known, and it is the major one.

    ``integrity`` is ``sha256-<hex>`` or ``sha512-<base64>``. ``archive`` gives the control machine's
    verified copy of the archive, for hosts that cannot reach ``url``. ``settings`` are those it was
    found for.
    """

    version: str
    url: str = ""
    integrity: str = ""
    settings: NodeSettings = field(default=NodeSettings(), repr=False, compare=False)
    archive: Callable[[], Path] | None = field(default=None, repr=False, compare=False)

    @property
    def checksum(self) -> tuple[str, str]:
        """Name of the hash and its value in hex. Raises ValueError for another form of ``integrity``."""
        algorithm, _, value = self.integrity.partition("-")
        if algorithm == "sha256" and re.fullmatch(r"[0-9a-f]{64}", value):
            return algorithm, value
        if algorithm == "sha512":
            return algorithm, base64.b64decode(value, validate=True).hex()
        raise ValueError(f"node: the checksum '{self.integrity}' has an unknown form")

    @property
    def path(self) -> str:
        """The node binary on a host."""
        return f"{FOLDER}/{self.version}/bin/node"


def node_path(ctx: "Context") -> str:
    """The node binary that a release of today is started with on this host."""
    return ctx.node[ctx.me.arch].path


def deploy(ctx: "Context") -> None:
    """Installs the pinned version beside those that are there."""
    settings, build = ctx.inventory.node, ctx.node[ctx.me.arch]
    if settings.from_apt:
        node_from_apt(settings, build)
    else:
        install_node(name=f"Install Node.js {build.version}", build=build)
