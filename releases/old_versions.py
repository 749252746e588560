"""What builds of older versions of Next.js lack, added to the finished build."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from .command import BuildFailed

CONFIG = re.compile(r"^const nextConfig = (\{.*\})$", re.MULTILINE)
"""The configuration in the server.js of a standalone build."""
Config = dict[str, object]


def embed_key(dist: Path, key: bytes) -> None:
    """Writes the action key into a build of a version that reads it at run time alone (14.2).

    There the build prerenders with the key of its environment, and then stores a random one for
    the server, which would not understand those pages (encryption-utils.js, getActionEncryptionKey).
    """
    for file in dist.rglob("server/server-reference-manifest.json"):
        manifest = json.loads(file.read_text())
        file.write_text(json.dumps({**manifest, "encryptionKey": key.decode()}))


def keep_pages_in_memory(server: Path, dist: str) -> None:
    """Has a server keep pages it renders anew in memory, instead of writing them among its own code.

    Versions before 15.5 write to .next/server/app, which is part of the release and so read-only
    (option: https://nextjs.org/docs/app/api-reference/config/next-config-js/incrementalCacheHandlerPath,
    experimental.isrFlushToDisk). Raises BuildFailed when server.js has another form.
    """
    _change_config(server, dist, _without_flush)


def add_cache_handler(server: Path, dist: str, handlers: Path) -> str | None:
    """Gives the server the cache handler that adapters give to newer versions; ``handlers`` has its files.

    Returns a note for the user when the app has one of its own, which is kept. Raises BuildFailed
    when server.js has another form.
    """
    manifest = json.loads((server / dist / "required-server-files.json").read_text())
    if own := manifest["config"].get("cacheHandler"):
        return f"Kept the app's own cacheHandler ({own}): Roadbed does not share what it caches"
    target = server / "node_modules/.roadbed"
    shutil.copytree(handlers, target, dirs_exist_ok=True)
    handler = os.path.relpath(target / "cache-handler.cjs", server / dist)
    _change_config(server, dist, lambda config: {**config, "cacheHandler": handler})
    return None


def _change_config(server: Path, dist: str, change: Callable[[Config], Config]) -> None:
    """Changes the configuration of a standalone server, in both places where it is kept."""
    required, program = server / dist / "required-server-files.json", server / "server.js"
    manifest = json.loads(required.read_text())
    text = program.read_text()
    found = CONFIG.search(text)
    if not found:
        raise BuildFailed(f"app/source: {program.name} of this version of Next.js has an unknown form. Upgrade Next.js")
    config = change(json.loads(found[1]))
    program.write_text(text[: found.start(1)] + json.dumps(config) + text[found.end(1) :])
    required.write_text(json.dumps({**manifest, "config": change(manifest["config"])}))


def _without_flush(config: Config) -> Config:
    experimental = config.get("experimental")
    known = experimental if isinstance(experimental, dict) else {}
    return {**config, "experimental": {**known, "isrFlushToDisk": False}}
