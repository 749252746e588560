"""What a new release has in common with one that a host has: so that only the rest is sent.

Beside files that are the same, which the host finds by itself, those count that differ by the release's id alone
(Next.js puts it into every page and into the server's code), and the two lists of files, which are long and change
little. Nothing is trusted: the host checks every file and both lists before the release takes its place.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from .artefact import Artefact, cached
from .manifest import MANIFEST
from .scripts import script

APPLY = r"""
NR == FNR { old[NR] = $0; next }
/^=/ { split(substr($0, 2), range, " "); for (line = range[1]; line <= range[2]; line++) print old[line]; next }
{ print substr($0, 2) }
"""
"""awk: makes a text from an old one and ``difference``; the first file is the old text."""


@dataclass(frozen=True)
class Held:
    """A release on a host: SHA-256 of its list of files and of its manifest, as ``host/held.sh`` says them."""

    sums: str
    manifest: str


def held(lines: Iterable[str]) -> dict[str, Held]:
    """The releases on a host, by id."""
    return {release: Held(sums, manifest) for release, sums, manifest in (line.split() for line in lines)}


def choose(artefact: Artefact, there: Mapping[str, Held], *, public_only: bool) -> Artefact | None:
    """The newest other release that both the host and this machine have; None where there is none."""
    for release in cached(artefact.manifest.app):
        found = there.get(release.release)
        if found and release.release != artefact.release and found.sums == release.digest(public_only=public_only):
            return release
    return None


def difference(old: str, new: str) -> str:
    """``new`` as told by lines of ``old``: ``=3 7`` stands for those from 3 to 7, and ``+`` precedes a line of its own.

    Both end with a line break, or are empty. Both lists are sorted, so looking ahead for the next line that is in
    both is enough, and takes one pass; difflib takes seconds for the 10 000 lines of a manifest.
    """
    before, after = old.splitlines(), new.splitlines()
    counts = Counter(before)
    only = {line: number for number, line in enumerate(before) if counts[line] == 1}
    told: list[str] = []
    first = place = 0  # the lines of ``before`` from first to place are being copied
    for line in after:
        ahead = next((at for at in (place, place + 1) if at < len(before) and before[at] == line), only.get(line, -1))
        if ahead >= place:
            if ahead != place or first == place:
                told += [f"={first + 1} {place}\n"] if first < place else []
                first = ahead
            place = ahead + 1
        else:
            told += [f"={first + 1} {place}\n"] if first < place else []
            told.append(f"+{line}\n")
            first = place
    return "".join([*told, *([f"={first + 1} {place}\n"] if first < place else [])])


def renamed(artefact: Artefact, base: Artefact, paths: Iterable[str]) -> list[str]:
    """Those of ``paths`` whose files are those of ``base`` with one release's id in the place of the other's."""
    old, new = base.release.encode(), artefact.release.encode()
    found = []
    for path in paths:
        before = base.manifest.files.get(path)
        data = (artefact.tree / path).read_bytes() if before else b""
        back = data.replace(new, old)
        if before and sha256(back).hexdigest() == before.sha256 and back.replace(old, new) == data:
            found.append(path)
    return found


@dataclass(frozen=True)
class Parcel:
    """What goes to a host in one archive: files of the release, and what tells the host how to make the others."""

    paths: list[str]
    extra: dict[str, bytes]


def parcel(
    artefact: Artefact,
    base: Artefact | None,
    there: Mapping[str, Held],
    lacks: list[str],
    moved: list[str],
    *,
    public_only: bool,
) -> Parcel:
    """What is sent to a host that lacks the files ``lacks``, and has found ``moved`` at another path."""
    files = artefact.manifest.files
    own = renamed(artefact, base, lacks) if base else []
    known = base.manifest.files if base else {}
    changed = {
        path
        for path in known.keys() & files.keys()
        if known[path].mode != files[path].mode and (not public_only or artefact.manifest.is_public(path))
    }
    modes = sorted({*own, *moved, *changed} - ({*lacks} - {*own}))
    extra = {
        ".derive": script("derive", base=base.release if base else "", id=artefact.release, apply=APPLY).encode(),
        ".renamed": "".join(f"{path}\n" for path in own).encode(),
        ".modes": "".join(f"{files[path].mode} {path}\n" for path in modes).encode(),
    }
    paths = [path for path in lacks if path not in own]
    if base and sha256(_manifest(base)).hexdigest() == there[base.release].manifest:
        extra[".manifest"] = difference(_manifest(base).decode(), _manifest(artefact).decode()).encode()
    else:
        paths.append(MANIFEST)
    return Parcel(paths, extra)


def _manifest(artefact: Artefact) -> bytes:
    return (artefact.tree / MANIFEST).read_bytes()
