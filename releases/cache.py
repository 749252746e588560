"""Where builds and built releases are kept on the control machine: the user's cache folder."""

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/roadbed``, or ``~/.cache/roadbed`` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "roadbed"


def build_folder(app: str) -> Path:
    """Work folder of the builds of ``app``: the copied source, the log, the lock. Private to the user."""
    return _private(cache_root() / "builds" / app)


def release_folder(app: str) -> Path:
    """Built releases of ``app``, one folder each. Private to the user: a server build embeds the action key."""
    return _private(cache_root() / "releases" / app)


def mirror_folder(name: str) -> Path:
    """Mirror of a git repository, and what was checked out of it. Private to the user, as a repository may be."""
    return _private(cache_root() / "git" / name)


@contextmanager
def alone(
    work: Path, say: Callable[[str], None], waiting: str = "Waiting for another build of this app to end"
) -> Iterator[None]:
    """One user of the folder ``work`` at a time on this machine; a second one waits, and is told so."""
    descriptor = os.open(work / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(waiting)
            _wait(descriptor)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int) -> None:
    """Waits for the lock and lets other greenlets work meanwhile: the lock on the hosts needs signs of life."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.5)
        else:
            return


def remove_tree(path: Path) -> None:
    """Removes a folder and all in it; one that is not there is fine.

    By rm(1), not ``shutil.rmtree``: gevent (25.8 and later) puts ``os.close`` of folders off until
    its loop runs, so removing node_modules would run out of file descriptors (1024 by default).
    """
    subprocess.run(["rm", "-rf", "--", str(path)], check=True)


def _private(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
