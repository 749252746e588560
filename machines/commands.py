"""Running the system's own tools, and removing trees that may have mounts in them."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from roadbed.machines.model import MachinesError

# A plain user's PATH often lacks the sbin folders, where ip, nft and modprobe live.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def find(tool: str) -> str | None:
    """The path of `tool`, looking into the sbin folders too; None when it is not installed."""
    return shutil.which(tool, path=SEARCH_PATH)


def run(*command: str, text: str | None = None) -> str:
    """Run `command` with `text` as standard input and return its standard output.

    Raises MachinesError with the command and the last lines of its standard error when it fails.
    """
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MachinesError(f"{command[0]}: not installed") from error
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:]) or f"exit status {done.returncode}"
        raise MachinesError(f"{' '.join(command)}: {tail}")
    return done.stdout


def mounts_below(folder: Path) -> list[Path]:
    """Mount points at or below `folder`, deepest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(unescape(line.split()[4]))
        if point.is_relative_to(folder):
            found.append(point)
    return found[::-1]


def unescape(field: str) -> str:
    r"""A /proc/self/mountinfo field in plain text: blanks are written \040 there (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), field)


def unmount(folder: Path) -> None:
    """Unmount everything at or below `folder`; lazily when something still holds it."""
    for point in mounts_below(folder):
        for _ in range(20):
            if subprocess.run(["umount", str(point)], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.05)
        else:
            run("umount", "--lazy", str(point))


def remove_tree(folder: Path) -> None:
    """Delete `folder` after unmounting what is in it; never deletes through a mount."""
    unmount(folder)
    if left := mounts_below(folder):
        raise MachinesError(f"{left[0]}: still mounted, so {folder} was not deleted; unmount it and try again")
    if folder.exists():
        shutil.rmtree(folder)
