"""Base images: a bare Debian as a cloud image gives it, made once by mmdebstrap and shared by all machines.

Neither curl nor python3 is in it, so that a rehearsal proves that Roadbed needs neither on a host.
"""

import hashlib
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from roadbed.machines import commands, registry
from roadbed.machines.model import SUITES, MachinesError

PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
)
MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_CUSTOMIZE = Path(__file__).with_name("customize.sh")


def sources(suite: str, mirror: str) -> list[str]:
    """The apt sources of `suite`: those Debian's installer writes, from `mirror` and its -security sibling."""
    return [
        f"deb {mirror} {suite} main",
        f"deb {mirror} {suite}-updates main",
        f"deb {mirror}-security {suite}-security main",
    ]


def image(suite: str, mirror: str) -> Path:
    """The folder of the base image of `suite`: named by all that goes into it, so that a change is a new image."""
    recipe = "\n".join([*PACKAGES, *sources(suite, mirror), _CUSTOMIZE.read_text()])
    return registry.BASE / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def ensure(suite: str, mirror: str, environment: Mapping[str, str], say: Callable[[str], None]) -> Path:
    """The base image of `suite`, built if it is missing. `environment`: proxy settings for the download.

    Raises MachinesError with the end of mmdebstrap's output when the build fails.
    """
    folder = image(suite, mirror)
    if folder.exists():
        return folder
    busy = f"Waiting for another run that builds the {SUITES[suite]} base image"
    with registry.lock(f"base-{suite}.lock", busy, say):
        if not folder.exists():
            say(f"Building the {SUITES[suite]} base image (mmdebstrap), once; takes about a minute")
            began = time.monotonic()
            _build(folder, suite, mirror, environment)
            say(f"The {SUITES[suite]} base image took {time.monotonic() - began:.0f} s")
            _remove_outdated(suite, folder)
    return folder


def _build(folder: Path, suite: str, mirror: str, environment: Mapping[str, str]) -> None:
    draft = folder.with_name(f"{folder.name}.draft")
    commands.remove_tree(draft)
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        f"--keyring={KEYRING}",
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        f'--customize-hook=sh {shlex.quote(str(_CUSTOMIZE))} "$1"',
        suite,
        str(draft),
        *sources(suite, mirror),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, **environment, "TMPDIR": "/var/tmp"},  # noqa: S108 - mmdebstrap makes its own folder
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        commands.remove_tree(draft)
        raise MachinesError(
            f"{SUITES[suite]} base image: mmdebstrap failed; is {mirror} reachable from here (proxy settings, "
            f"ROADBED_DEBIAN_MIRROR for another mirror)?\n{tail}"
        )
    draft.rename(folder)


def _remove_outdated(suite: str, current: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    for old in registry.BASE.glob(f"{suite}-*"):
        if old != current and str(old) not in mounts:
            commands.remove_tree(old)
