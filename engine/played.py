"""An inventory whose hosts are played by other machines: the same stack from another file, with other logins."""

import copy
import os
import re
import sys
from pathlib import Path
from typing import Any

from .errors import InventoryError
from .found import Found

FILES = (
    ("nginx", "tls", "authority"),
    ("nginx", "tls", "certificate"),
    ("nginx", "tls", "key"),
    ("nginx", "maintenance", "page"),
)
"""Values that name a file beside the inventory."""


def _moved(raw: dict[str, Any], base: Path, path: Path) -> dict[str, Any]:
    """A copy of ``raw`` whose files are found from ``path`` as they were from ``base``."""
    moved: dict[str, Any] = copy.deepcopy(raw)
    for *folders, last in FILES:
        block: Any = moved
        for name in folders:
            block = block.get(name) if isinstance(block, dict) else None
        if isinstance(block, dict) and isinstance(block.get(last), str):
            block[last] = os.path.relpath(base.parent / Path(block[last]).expanduser(), path.parent)
    source = moved["app"].get("source")
    if isinstance(source, str) and not re.match(r"[a-z+]+://|[^/]+@", source):
        moved["app"]["source"] = os.path.relpath(base.parent / source, path.parent)
    return moved


def with_logins(raw: dict[str, Any], machines: list[Found], base: Path, path: Path) -> dict[str, Any]:
    """The inventory ``raw`` of ``base`` for ``path``: with the hosts that run, and Vagrant's user and keys."""
    by_name = {machine.name: machine for machine in machines}
    if unknown := by_name.keys() - raw["hosts"]:
        raise InventoryError(
            f"{path}: Vagrant's machine {min(unknown)} is not in {base}. Hosts: {', '.join(raw['hosts'])}"
        )
    hosts = {name: {**host, "key": by_name[name].key} for name, host in raw["hosts"].items() if name in by_name}
    user = next((machine.user for machine in machines), None) or "vagrant"
    build = raw.get("build") or {}
    builder = next((name for name, host in hosts.items() if "app" in (host.get("roles") or ["app"])), None)
    if sys.platform != "linux" and "host" not in build and builder:  # what a Mac builds does not run in the machines
        build = {**build, "host": builder}
    return {**_moved(raw, base, path), "ssh": {"user": user}, "hosts": hosts, **({"build": build} if build else {})}
