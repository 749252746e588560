"""The keys of draft mode, which Next.js makes at random for each build: from the action key and the release's id.

So two builds of a release have the same bytes, and two releases have different keys, as before: who has a key of one
release can do nothing with it at the next. The action key cannot be found from them (HKDF, RFC 5869).
"""

import hmac
import json
from hashlib import sha256
from pathlib import Path

from . import action_key

SIZES = {"previewModeId": 16, "previewModeSigningKey": 32, "previewModeEncryptionKey": 32}
"""Name in the manifest -> bytes; Next.js writes them in hex (build/preview-key-utils.js)."""
KINDS = frozenset({".json", ".js", ".cjs", ".mjs", ".html", ".rsc", ".body", ".meta"})
"""Files that may hold a key: the manifests, and the code of middleware, into which the first is built."""


def derive(key: bytes, release: str) -> dict[str, str]:
    """The keys of a release, in hex. ``key`` is the stack's action key in base64."""
    extracted = hmac.new(b"roadbed preview keys", action_key.decode(key), sha256).digest()
    return {
        name: hmac.new(extracted, f"{name} {release}\x01".encode(), sha256).digest()[:size].hex()
        for name, size in SIZES.items()
    }


def settle(server: Path, dist: str, key: bytes, release: str) -> None:
    """Puts the keys of ``release`` in the place of the random ones, wherever they are in a standalone build.

    ``server`` is the folder of server.js, ``dist`` the name of the build folder in it.
    """
    manifest = server / dist / "prerender-manifest.json"
    try:
        preview = json.loads(manifest.read_text())["preview"]
        found = {name: str(preview[name]) for name in SIZES}
    except (OSError, KeyError, TypeError):
        return
    fresh = derive(key, release)
    changes = [(found[name].encode(), fresh[name].encode()) for name in SIZES if len(found[name]) == len(fresh[name])]
    for file in sorted((server / dist).rglob("*")):
        if file.suffix in KINDS and file.is_file() and not file.is_symlink():
            before = after = file.read_bytes()
            for old, new in changes:
                after = after.replace(old, new)
            if after != before:
                file.write_bytes(after)
