"""What a standalone build remembers of the machine that made it, and no server needs: folders, the number of cores,
and in which order its processes ended. After this it is the same in every release of the same source.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

SOURCE, RUNTIME = "/roadbed/source", "/roadbed/runtime"
"""Instead of the folders of the build. A server runs elsewhere anyway: Next.js looks beside its server.js."""
CORES = re.compile(r'("cpus":\s*)\d+')
"""``experimental.cpus``: how many processes a build may use, by default all cores but one (config-shared.js)."""


def settle(server: Path, dist: str) -> None:
    """Rewrites server.js and manifests; ``server`` is the folder of the first, ``dist`` the name of the build folder
    in it."""
    required = server / dist / "required-server-files.json"
    manifest = json.loads(required.read_text())
    config = manifest.get("config", {})
    changes = {_root(manifest): SOURCE, str(PurePosixPath(_adapter(config)).parent): RUNTIME}
    changes = {old: new for old, new in changes.items() if old.count("/") > 1}
    for file in (required, server / "server.js"):
        text = file.read_text()
        for old in sorted(changes, key=len, reverse=True):
            text = re.sub(rf'"{re.escape(old)}(?=[/"])', f'"{changes[old]}', text)
        file.write_text(CORES.sub(r"\g<1>1", text))
    # Both are written as pages are exported (15.5, build/index.js): in another order each time, which nobody reads.
    _rewrite(server / dist / "server/pages-manifest.json", _in_order)
    _rewrite(server / dist / "prerender-manifest.json", lambda found: {**found, "routes": _in_order(found["routes"])})


def _rewrite(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    try:
        found = json.loads(file.read_text())
        file.write_text(json.dumps(change(found), indent=2, ensure_ascii=False))
    except (OSError, KeyError):  # of a version without this file, or without this part of it
        return


def _in_order(found: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(found.items()))


def _root(manifest: dict[str, Any]) -> str:
    """The folder that holds all of the project; in a workspace it is above it."""
    here, below = str(manifest.get("appDir", "")), str(manifest.get("relativeAppDir", ""))
    return here.removesuffix(f"/{below}") if below else here


def _adapter(config: dict[str, Any]) -> str:
    """The path of the build adapter: a setting of its own since 16, experimental before."""
    return str(config.get("adapterPath") or config.get("experimental", {}).get("adapterPath") or "")
