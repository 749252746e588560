"""What goes to the host that builds, and what comes back: in each direction only what the other side lacks."""

import os
import shlex
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path, PurePosixPath
from shutil import copyfile

from roadbed.engine.errors import HostUnreachable, InventoryError
from roadbed.engine.session import Session

from . import artefact
from .build_host import BuildHost
from .command import BuildFailed
from .host_step import as_user
from .scripts import script
from .unit import BASE, USER

SLOW = 600
"""Seconds without output: hashing and unpacking on a slow disk."""
INCOMING = f"{BASE}/incoming"


def send_tool(host: BuildHost, name: str, folder: Path) -> str:
    """A folder of programs, kept there under ``name``, which has its version in it; returns its path there.

    It is root's, so that no build can change what the next one runs.
    """
    place = f"{BASE}/tools/{name}"
    if name not in host.tools:
        host.say(f"{host.name}: sending {name}")
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "tool.tar.gz"
            with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
                tar.add(folder, ".", filter=_of_root)
            host.session.upload(archive, f"{INCOMING}/tool")
        unpack = f"mkdir -p {place}.partial && tar -xzf {INCOMING}/tool -C {place}.partial && rm {INCOMING}/tool"
        host.session.run(f"umask 022; {unpack} && mv -T {place}.partial {place}", timeout=SLOW)
        host.tools.add(name)
    return place


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def send_source(host: BuildHost, root: Path, files: list[Path], work: str) -> int:
    """Makes ``work``/source hold exactly ``files``, which lie in ``root``; returns the bytes that were sent."""
    sums, programs = [], []
    for path in files:
        name = path.as_posix()
        if "\n" in name or "\\" in name:
            raise InventoryError(f"app/source: {name!r}: the name has a line break or a backslash. Rename the file")
        sums.append(f"{sha256((root / path).read_bytes()).hexdigest()}  {name}\n")
        programs += [f"{name}\n"] if os.access(root / path, os.X_OK) else []
    given = {"work": work, "sums": f"{INCOMING}/sums"}
    with tempfile.TemporaryDirectory() as scratch:
        _send(host.session, Path(scratch) / "sums", "".join(sums))
        _send(host.session, Path(scratch) / "programs", "".join(programs))
        lacking = host.session.run(as_user(script("build-receive", **given)), timeout=SLOW).out.splitlines()
        archive = Path(scratch) / "files"
        with tarfile.open(archive, "w:gz", compresslevel=6, dereference=True) as tar:
            for name in lacking:
                tar.add(root / name, name, recursive=False)
        _send(host.session, archive)
        size = archive.stat().st_size
    given |= {"archive": f"{INCOMING}/files", "programs": f"{INCOMING}/programs"}
    done = host.session.run(as_user(script("build-unpack", **given)), timeout=SLOW, check=False)
    if not done.ok:
        raise BuildFailed(
            f"app/source: {host.name} did not get the project as it was read: {done.err.strip()}. Did it change during "
            "this run? Run the command again"
        )
    host.session.run(f"rm -f {INCOMING}/*")
    return size


def _send(session: Session, file: Path, text: str | None = None) -> None:
    """A file that the user of builds may read."""
    if text is not None:
        file.write_text(text)
    session.upload(file, f"{INCOMING}/{file.name}")
    session.run(f"chown root:{USER} {INCOMING}/{file.name} && chmod 640 {INCOMING}/{file.name}")


def fetch(host: BuildHost, app: str, project: str, dist: str, target: Path) -> int:
    """Brings a finished build into the new folder ``target``: the folder of the build, and public/.

    Files whose content is in a release that is kept here are not sent. Returns the bytes that were received.
    """
    listing = host.session.run(as_user(script("build-list", dist=dist, project=project)), timeout=SLOW).out
    files, links, programs = _listed(listing, PurePosixPath(project))
    known = _contents(app)
    lacking = []
    for name, checksum in files.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if checksum in known and known[checksum].is_file():
            copyfile(known[checksum], place)
        else:
            lacking.append(name)
    received = _receive(host.session, project, lacking, target) if lacking else 0
    for name, checksum in files.items():
        if not (target / name).is_file() or sha256((target / name).read_bytes()).hexdigest() != checksum:
            raise BuildFailed(f"app/source: {host.name}: {name} was changed while the build was fetched. Run it again")
    for name in programs & files.keys():
        (target / name).chmod(0o755)
    for name, link in links.items():
        _link(target, name, link)
    return received


def _link(target: Path, name: str, link: str) -> None:
    """A link inside of ``target``. Raises BuildFailed for one that leads out of it: a build host may be anybody's."""
    base, place = target.resolve(), target / name
    if not place.parent.resolve().is_relative_to(base):
        raise BuildFailed(f"app/source: the build has {name!r} behind a link that leads out of it")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(link)
    if not place.resolve().is_relative_to(base):
        place.unlink()
        raise BuildFailed(
            f"app/source: the build links {name!r} to {link!r}, outside of itself. Set outputFileTracingRoot in "
            "next.config to the folder that holds all of the project"
        )


def _listed(listing: str, project: PurePosixPath) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """What ``host/build-list.sh`` said: checksum of each file, target of each link, and the programs."""
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    programs: set[str] = set()
    lines = iter(listing.splitlines())

    def inside(path: str) -> str:
        name = PurePosixPath(path)
        if not name.is_relative_to(project) or ".." in name.parts:
            raise BuildFailed(f"app/source: {path!r}: the build has a name that cannot be carried. Rename the file")
        return str(name.relative_to(project))

    for line in lines:
        if line.startswith("link "):
            links[inside(next(lines, ""))] = line.removeprefix("link ")
        elif line.startswith("program "):
            programs.add(inside(line.removeprefix("program ")))
        else:  # a name with a line break begins with a backslash in the output of sha256sum, and is refused
            files[inside(line[66:] if line[64:66] == "  " else line)] = line[:64]
    return files, links, programs


def _contents(app: str) -> dict[str, Path]:
    """Checksum -> a file with that content, of the releases that are kept on this machine."""
    found: dict[str, Path] = {}
    for release in artefact.cached(app):
        for path, entry in release.manifest.files.items():
            found.setdefault(entry.sha256, release.tree / path)
    return found


def _receive(session: Session, project: str, names: list[str], target: Path) -> int:
    """Unpacks ``names`` into ``target``. Raises HostUnreachable, or BuildFailed with what the host said."""
    with tempfile.TemporaryDirectory() as scratch:
        _send(session, Path(scratch) / "names", "".join(f"{name}\0" for name in names))
        command = as_user(f"tar -C {shlex.quote(project)} -c --null -T {INCOMING}/names | gzip -3")
        packed = Path(scratch) / "build.tar.gz"
        with packed.open("wb") as output, session.start(command) as channel:
            try:
                while piece := channel.recv(1 << 18):
                    output.write(piece)
                said = channel.makefile_stderr("rb").read().decode(errors="replace").strip()
            except (OSError, EOFError) as error:
                raise HostUnreachable(f"{session.name}: the connection broke while the build was fetched") from error
        try:
            with tarfile.open(packed, "r:gz") as tar:
                tar.extractall(target, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise BuildFailed(f"{session.name}: the build was not fetched: {said or error}") from None
        session.run(f"rm -f {INCOMING}/*")
        return packed.stat().st_size
