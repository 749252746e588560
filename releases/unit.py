"""The transient unit in which one step of a build runs on a host: its limits, its sandbox, and how it ended."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from roadbed.deploys.build import Budget

UNIT, USER = "roadbed-build.service", "roadbed-build"
"""One unit a host, so that two builds cannot run there at a time; a user that owns nothing else."""
BASE = "/var/lib/roadbed-build"
"""What is kept between builds: sources, the packages' archives, the programs."""
RUN = "/run/roadbed-build"
"""What is there during a build alone, in memory: the environment and the npmrc, for root and the unit."""
BEAT, SILENCE = 5, 30
"""Seconds between two signs of life of the control machine, and without one of which the unit ends itself."""
SANDBOX = (
    "Nice=15", "CPUWeight=20", "IOWeight=20", "IOSchedulingClass=best-effort", "IOSchedulingPriority=7",
    "OOMScoreAdjust=900", "OOMPolicy=continue", "MemorySwapMax=0", "TasksMax=1024", "LimitCORE=0", "LimitNOFILE=65536",
    "KillMode=control-group", "TimeoutStopSec=5", "UMask=0022",
    "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "PrivateMounts=yes",
    "ProtectProc=invisible", "ProtectClock=yes", "ProtectHostname=yes", "ProtectControlGroups=yes",
    "ProtectKernelLogs=yes", "ProtectKernelModules=yes", "ProtectKernelTunables=yes",
    "InaccessiblePaths=-/etc/roadbed -/etc/ssh -/etc/nginx -/etc/letsencrypt -/srv -/var/lib/roadbed -/var/backups"
    " -/var/log",
    "NoNewPrivileges=yes", "CapabilityBoundingSet=", "LockPersonality=yes", "KeyringMode=private",
    "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native", "SystemCallFilter=@system-service", "SystemCallFilter=~@privileged",
    "SystemCallErrorNumber=EPERM",
)  # fmt: skip
"""Properties of systemd.exec(5), systemd.resource-control(5) and systemd.kill(5).

The weights are a fifth of everybody else's. No swap: a build that swaps slows the site's disk down. OOMPolicy=continue
lets ``host/build-run.sh`` tell what happened; the kernel takes the build first (OOMScoreAdjust) if the whole host is
out of memory. A package's own scripts see neither what the app's instances see nor the host's keys.
"""
HEAP_SHARE = 0.75
"""Share of the memory for V8's old space, as of an instance: the compiler's memory is outside of it."""


def unit_command(
    words: Iterable[str], *, folder: str, writable: Iterable[str], budget: Budget, minutes: int, npmrc: bool
) -> str:
    """The shell command, for root, that runs ``words`` in ``folder`` and passes on output and exit code.

    Nothing in it is secret. Standard input is the line to the control machine: the unit ends when it is cut.
    systemd would put variables of the unit's own environment in the place of ``$``, so that is doubled.
    """
    literal = [word.replace("$", "$$") for word in words]
    properties = [
        f"User={USER}",
        f"Group={USER}",
        f"WorkingDirectory={folder}",
        f"ReadWritePaths={' '.join(writable)}",
        "EnvironmentFile=-/etc/environment",
        f"EnvironmentFile={RUN}/env",
        f"MemoryMax={budget.memory_mb}M",
        f"CPUQuota={budget.cpu_percent}%",
        f"RuntimeMaxSec={minutes}min",
        f"ExecStopPost=+/bin/rm -f {RUN}/env {RUN}/npmrc",
        *SANDBOX,
    ]
    if npmrc:
        properties.append(f"LoadCredential=npmrc:{RUN}/npmrc")
    options = [f"--property={each}" for each in properties]
    start = ["systemd-run", "--pipe", "--wait", "--collect", f"--unit={UNIT}", "--service-type=exec"]
    return shlex.join([*start, *options, "--", "/bin/sh", f"{RUN}/run", str(SILENCE), *literal])


@dataclass(frozen=True)
class Ended:
    """How a step ended. ``peak_mb`` is the most memory it had, page cache included; 0 where that is not known."""

    code: int
    why: str = ""
    peak_mb: int = 0


ACCOUNT = re.compile(r"^roadbed-build: peak=(\d*) killed=(\d*)$")
"""The last line of ``host/build-run.sh``."""


def ended(code: int, account: str, systemd: str, said: str, budget: Budget, minutes: int) -> Ended:
    """Reads exit code, account line, what systemd-run said, and the end of the log; ``why`` is for the user."""
    found = ACCOUNT.match(account)
    peak = int(found[1] or 0) // 2**20 if found else 0
    killed = int(found[2] or 0) if found else 0
    result = match[1] if (match := re.search(r"Finished with result: (\S+)", systemd)) else ""
    cap = f"the build hit its memory cap of {budget.memory_mb} MB"
    if code == 0:
        return Ended(0, "", peak)
    if killed or result == "oom-kill":
        return Ended(code, f"{cap}: the kernel killed it", peak)
    if "heap out of memory" in said:
        return Ended(code, f"{cap}: Node.js has {int(budget.memory_mb * HEAP_SHARE)} MB of it for its heap", peak)
    if result == "timeout":
        return Ended(code, f"it was ended after {minutes} minutes (build/minutes)", peak)
    if not found and result != "exit-code":
        return Ended(code, f"the unit did not run to its end: {result or systemd.strip() or 'it was killed'}", peak)
    return Ended(code, "", peak)
