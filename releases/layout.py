"""Turn the output of ``next build`` into the tree of a release (see ``manifest.py`` for its description)."""

import json
import os
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from . import old_versions, runtime_files
from .command import BuildFailed
from .manifest import FileEntry

BUILD_INFO = "roadbed-build.json"
CODE = ("server/app", "server/pages")
"""Folders in which older versions mix pages rendered anew with code: nobody may write there."""
START = """\
#!/bin/sh
# Starts one instance of this release. The unit gives its environment; ROADBED_NODE_FLAGS are words for node.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
cd "$here/../app/{server}" || exit 1
# shellcheck disable=SC2086  # several words are meant
exec "$here/node" ${{ROADBED_NODE_FLAGS:-}} --require "$here/runtime/server.cjs" server.js
"""


@dataclass(frozen=True)
class BuildInfo:
    """What the build says of itself (written by ``runtime/lib/build-info.cjs``)."""

    data: dict[str, Any]
    dist: Path
    """The build folder on this machine."""

    @property
    def dist_name(self) -> str:
        """The build folder as the server knows it, from the project's folder."""
        return str(self.data["distDir"])

    @property
    def project(self) -> Path:
        """The project's folder on this machine."""
        return self.dist.parents[len(PurePosixPath(self.dist_name).parts) - 1]

    @property
    def server(self) -> str:
        """Folder of server.js inside the standalone tree; "" unless the project is part of a workspace."""
        return str(self.data["appDir"])


def find_dist(project: Path) -> Path:
    """The build folder of ``project``. Raises BuildFailed when there is none."""
    found = [file for pattern in (".*/", "*/", "*/*/") for file in project.glob(pattern + "required-server-files.json")]
    if not found:
        raise BuildFailed(f"app/source: the build of {project} left no server. See the build log")
    return found[0].parent


def find_build(project: Path) -> BuildInfo:
    """The finished build in ``project``. Raises BuildFailed when there is none that can be served."""
    dist = find_dist(project)
    if not (dist / BUILD_INFO).is_file():
        raise BuildFailed(f"app/source: the build of {project} left no {BUILD_INFO}. See the build log")
    info = BuildInfo(json.loads((dist / BUILD_INFO).read_text()), dist)
    if not (dist / "standalone" / info.server / "server.js").is_file():
        raise BuildFailed(
            f"app/source: the build made no standalone server in {dist}. "
            'Remove `output` from next.config: Roadbed sets output: "standalone"'
        )
    return info


def lay_out(info: BuildInfo, tree: Path) -> list[str]:
    """Moves the build into ``tree`` and returns the writable folders, as paths from the root of the release.

    The standalone output lacks the client files and public/ (vercel/next.js#49283), so both are
    added. What the server writes to later is set aside as a seed: a release itself never changes. Lists of traced
    files (``*.nft.json``) are for the build alone, and would differ with every release.
    """
    app, meta = tree / "app", tree / ".roadbed"
    shutil.move(info.dist / "standalone", app)
    server = app / info.server
    shutil.copytree(info.dist / "static", server / info.dist_name / "static", dirs_exist_ok=True)
    if (info.project / "public").is_dir():
        shutil.copytree(info.project / "public", server / "public", dirs_exist_ok=True)
    names = [name for name in info.data["writableDirs"] if name not in CODE]
    if len(names) < len(info.data["writableDirs"]):
        old_versions.keep_pages_in_memory(server, info.dist_name)
    writable = [str(PurePosixPath("app", info.server, info.dist_name, name)) for name in names]
    for path in writable:
        if (tree / path).is_dir():
            (meta / "seed" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(tree / path, meta / "seed" / path)
    for trace in (server / info.dist_name).rglob("*.nft.json"):
        trace.unlink()
    runtime_files.copy_server(meta / "runtime")
    _link(meta / "static", server / info.dist_name / "static")  # where nginx finds them
    (server / "public").mkdir(exist_ok=True)
    _link(meta / "public" / info.data["basePath"].strip("/"), server / "public")
    (meta / "start").write_text(START.format(server=info.server))
    (meta / "start").chmod(0o755)
    return writable


def _link(place: Path, target: Path) -> None:
    """A relative link, in folders that are made where they lack."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(target, place.parent))


def describe(tree: Path, public: tuple[str, ...]) -> tuple[dict[str, FileEntry], dict[str, str]]:
    """Files and links of ``tree``, with the mode each has on a host.

    Files in the ``public`` folders are for nginx: 644. The metadata is 644 too. All else is for
    the app's group alone: a server build embeds the action key and may embed .env files.
    Raises BuildFailed for a name or a link that cannot be carried to a host.
    """
    files: dict[str, FileEntry] = {}
    links: dict[str, str] = {}
    for folder, folders, names in os.walk(tree):
        for name in names + [name for name in folders if (Path(folder) / name).is_symlink()]:
            file = Path(folder) / name
            path = file.relative_to(tree).as_posix()
            if any(character in path for character in "\n\r\\"):
                raise BuildFailed(f"app/source: {path!r}: the name has a line break or a backslash. Rename the file")
            if file.is_symlink():
                links[path] = _link_target(tree, file)
            else:
                data = file.read_bytes()
                mode = _mode(path, bool(file.stat().st_mode & 0o100), public)
                files[path] = FileEntry(sha256=sha256(data).hexdigest(), mode=mode, size=len(data))
    return dict(sorted(files.items())), dict(sorted(links.items()))


def _mode(path: str, executable: bool, public: tuple[str, ...]) -> str:
    if path == ".roadbed/start":
        return "755"
    if path.startswith(tuple(f"{folder}/" for folder in public)):
        return "644"
    if path.startswith(".roadbed/") and not path.startswith(".roadbed/seed/"):
        return "644"
    return "750" if executable else "640"


def _link_target(tree: Path, link: Path) -> str:
    target = str(link.readlink())
    inside = os.path.normpath(link.parent / target)
    if Path(target).is_absolute() or not Path(inside).is_relative_to(tree):
        raise BuildFailed(
            f"app/source: the build links {link.relative_to(tree)} to {target}, outside of itself. "
            "Set outputFileTracingRoot in next.config to the folder that holds all of the project"
        )
    return target
