"""Whether this platform can run rehearsal machines by systemd-nspawn, and the way out where it cannot."""

import os
import subprocess
import sys
from pathlib import Path

from roadbed.machines import base, cgroups, commands
from roadbed.machines.model import MachinesError

VAGRANT = "or rehearse on virtual machines: provision rehearse --provider vagrant"
# Program -> the Debian and Ubuntu package it is in.
_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21  # linux/capability.h


def preflight() -> list[str]:
    """What keeps this platform from running machines, each with the way out; empty when nothing does."""
    if sys.platform != "linux":
        return [f"{sys.platform}: systemd-nspawn needs Linux; {VAGRANT.removeprefix('or ')}"]
    found = [_root_problem(), _tools_problem(), _overlay_problem(), _cgroups_problem()]
    return [problem for problem in found if problem]


def missing_packages() -> list[str]:
    """The Debian packages that are missing here, sorted."""
    missing = {package for tool, package in _TOOLS.items() if commands.find(tool) is None}
    if not base.KEYRING.exists():
        missing.add("debian-archive-keyring")
    return sorted(missing)


def _tools_problem() -> str | None:
    packages = " ".join(missing_packages())
    return packages and f"Packages are missing: install them with `sudo apt-get install --yes {packages}`, {VAGRANT}"


def _root_problem() -> str | None:
    if os.geteuid() == 0:
        return capability_problem(Path("/proc/self/status").read_text())
    if commands.find("sudo") is None:
        return f"Root is needed, and there is no sudo: run as root, {VAGRANT}"
    quiet = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    if quiet.returncode != 0 and not _has_terminal():
        return f"Root is needed, and sudo asks for a password where no terminal is: run as root, {VAGRANT}"
    return None


def _has_terminal() -> bool:
    try:
        with Path("/dev/tty").open("rb"):
            return True
    except OSError:
        return False


def capability_problem(status: str) -> str | None:
    """What root lacks, by the text of /proc/self/status: a container's root cannot mount or make networks."""
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    effective = int(line.split()[1], 16)
    needed = {"CAP_SYS_ADMIN": _CAP_SYS_ADMIN, "CAP_NET_ADMIN": _CAP_NET_ADMIN}
    lacking = [name for name, bit in needed.items() if not effective >> bit & 1]
    if not lacking:
        return None
    names = " and ".join(lacking)
    return f"This root lacks {names}, as in an unprivileged container: run on the host itself, {VAGRANT}"


def _overlay_problem() -> str | None:
    if "\toverlay\n" in Path("/proc/filesystems").read_text():
        return None
    modprobe = commands.find("modprobe")
    if modprobe and subprocess.run([modprobe, "-n", "-q", "overlay"], check=False).returncode == 0:
        return None
    return f"This kernel has no overlay file system: run on a kernel that has it (Debian's and Ubuntu's do), {VAGRANT}"


def _cgroups_problem() -> str | None:
    try:
        cgroups.layout()
    except MachinesError as error:
        return str(error)
    return None
