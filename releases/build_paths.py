"""What a standalone build remembers of the machine that made it, and no server needs: folders, the number of cores.

They are the same in every release after this, so that builds on two machines have the same bytes.
"""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

SOURCE, RUNTIME = "/roadbed/source", "/roadbed/runtime"
"""Instead of the folders of the build. A server runs elsewhere anyway: Next.js looks beside its server.js."""
CORES = re.compile(r'("cpus":\s*)\d+')
"""``experimental.cpus``: how many processes a build may use, by default all cores but one (config-shared.js)."""


def settle(server: Path, dist: str) -> None:
    """Rewrites server.js and required-server-files.json; ``server`` is the folder of the first, ``dist`` the name of
    the build folder in it."""
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


def _root(manifest: dict[str, Any]) -> str:
    """The folder that holds all of the project; in a workspace it is above it."""
    here, below = str(manifest.get("appDir", "")), str(manifest.get("relativeAppDir", ""))
    return here.removesuffix(f"/{below}") if below else here


def _adapter(config: dict[str, Any]) -> str:
    """The path of the build adapter: a setting of its own since 16, experimental before."""
    return str(config.get("adapterPath") or config.get("experimental", {}).get("adapterPath") or "")
