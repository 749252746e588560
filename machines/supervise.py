"""Keeps one machine running: boots it with systemd-nspawn, and again when it reboots itself.

    python -m roadbed.machines.supervise NAME

Runs on its own after `up` has ended, with the machine's console log as its output. Ends when the machine
powers itself off; `down` ends it with SIGKILL.
"""

import os
import subprocess
import sys
from pathlib import Path

from roadbed.machines import cgroups, commands, disk, link, registry
from roadbed.machines.model import MachineSpec

_NSPAWN = Path("/run/systemd/nspawn")
_REBOOT = 133  # systemd-nspawn(1), "Exit status"


def command(spec: MachineSpec) -> list[str]:
    """The systemd-nspawn command line of one boot."""
    return [
        "systemd-nspawn",
        "--quiet",
        "--settings=no",
        "--register=no",
        "--keep-unit",
        f"--machine={link.namespace(spec)}",
        f"--hostname={spec.name}",
        f"--directory={disk.root(spec.name)}",
        f"--network-namespace-path=/run/netns/{link.namespace(spec)}",
        "--private-users=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
        "--kill-signal=SIGRTMIN+3",
        # Not given together with a namespace made outside; a machine has its own firewall and may ping.
        "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
        # For IPAddressDeny= and RestrictFileSystems= of units, which systemd skips silently without it.
        "--system-call-filter=bpf",
        disk.INIT,
    ]


def environment() -> dict[str, str]:
    """nspawn's environment: a writable /proc/sys/net (systemd's ENVIRONMENT.md), and quiet."""
    return {
        "PATH": os.environ["PATH"],
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",  # the suite decides what /tmp is
        "SYSTEMD_NSPAWN_LOCK": "0",  # lock files would stay behind for ever; the registry has its own lock
        "SYSTEMD_LOG_LEVEL": "warning",
        # systemd 256 and 257 refuse cgroup v1 without it; no effect on v2.
        "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE": "1",
    }


def remove_leftovers(spec: MachineSpec) -> None:
    """Remove what a killed nspawn leaves in /run/systemd/nspawn; since systemd 256 it refuses to start over it."""
    for folder in _NSPAWN.glob(f"*/{link.namespace(spec)}"):
        commands.remove_tree(folder)


def supervise(name: str) -> int:
    """Boot machine `name` until it powers itself off; returns nspawn's exit status."""
    spec = registry.load(name).spec
    status = _REBOOT
    while status == _REBOOT:
        os.ftruncate(sys.stdout.fileno(), 0)
        link.new_namespace(spec)
        cgroups.create(name)
        remove_leftovers(spec)
        cgroups.limit(name, spec.memory, spec.cpus)
        status = subprocess.run(
            command(spec), env=environment(), check=False, preexec_fn=lambda: cgroups.enter(name)
        ).returncode
    return status


if __name__ == "__main__":
    cgroups.keep()
    sys.exit(supervise(sys.argv[1]))
