"""Whether a release can be built again byte by byte: two builds compared, and why they differ where they do."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from .manifest import Manifest

RENDERED = re.compile(r"/route-cache/|\.(html|rsc|body|meta)$|/server/pages/.+\.json$")
"""Files that `next build` renders: pages, and their data (server/lib/incremental-cache/file-system-cache.js)."""
SHOWN = 8
"""Names that a reason lists."""
RANDOM_ID = 21
"""Characters of a build id that Next.js makes at random (nanoid)."""


def foreseen(manifest: Manifest) -> tuple[str, ...]:
    """Why another build would differ, as far as the first one tells."""
    if len(manifest.build_id) == RANDOM_ID and manifest.build_id != manifest.release:
        return (f"Next.js {manifest.next} names each build at random. Set generateBuildId, or upgrade to 15.4",)
    return ()


def differences(first: Manifest, second: Manifest) -> list[str]:
    """Paths of what is not the same in both, sorted."""
    one: Mapping[str, object] = {**first.files, **first.links}
    other: Mapping[str, object] = {**second.files, **second.links}
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def because(first: Manifest, paths: list[str]) -> tuple[str, ...]:
    """The reasons for which ``paths`` differ, in words."""
    pages = [path for path in paths if RENDERED.search(path)]
    others = [path for path in paths if path not in pages]
    found = list(foreseen(first))
    if pages:
        names = sorted({_page(path) for path in pages})
        found.append(
            f"rendered pages differ ({_shown(names)}): they show times, random values or fetched data, or bind "
            "arguments to a Server Action, which Next.js encrypts anew each time"
        )
    if others:
        found.append(f"files differ that are no pages ({_shown(others)})")
    return tuple(found)


def _page(path: str) -> str:
    """The page that a rendered file is of, ``/products/1`` for example."""
    for place in ("/$/", "/server/app/", "/server/pages/"):  # the first one: /$/ is below a hash since 15.5
        if place in path:
            path = "/" + path.partition(place)[2]
            break
    name = path.partition(".segments/")[0]
    return name.removesuffix(PurePosixPath(name).suffix)


def _shown(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
