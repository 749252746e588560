"""Rehearsal machines by Vagrant: virtual machines, wherever VirtualBox, libvirt, Parallels, VMware or UTM run.

Vagrant gets a folder of its own for each inventory; what it knows of its machines is in there.
"""

import hashlib
import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from roadbed.engine.vagrant import refresh

from .model import MachinesError

VAGRANTFILE = Path(__file__).with_name("Vagrantfile")
INSTALL = "Install it with one of its providers: https://developer.hashicorp.com/vagrant/install"

Say = Callable[[str], None]


def preflight() -> list[str]:
    """What keeps this platform from running virtual machines, with the way out; empty when nothing does."""
    return [] if shutil.which("vagrant") else [f"Vagrant is not installed. {INSTALL}"]


def folder_of(inventory: Path) -> Path:
    """Where Vagrant works for an inventory: ~/.local/state/roadbed/vagrant/<name>-<checksum of its path>."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    checksum = hashlib.sha256(str(inventory.resolve()).encode()).hexdigest()[:8]
    return state / "roadbed/vagrant" / f"{inventory.stem}-{checksum}"


def up(inventory: Path, *, say: Say = print) -> Path:
    """Boots a virtual machine for each host and returns the inventory of them, with Vagrant's user and keys.

    Machines that run are left alone. Raises MachinesError with the last lines of what Vagrant said.
    """
    if problems := preflight():
        raise MachinesError("\n".join(problems))
    folder = folder_of(inventory)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy(VAGRANTFILE, folder / "Vagrantfile")
    _vagrant(inventory, say, "up")
    path = folder / f"{inventory.stem}.yml"
    refresh(path, folder, inventory.resolve())
    secrets = path.with_suffix(".secrets.age")
    if not secrets.is_symlink():  # the same as with other machines
        secrets.symlink_to(inventory.resolve().with_suffix(".secrets.age"))
    return path


def down(inventory: Path, names: Sequence[str] = (), *, say: Say = print) -> None:
    """Destroys the virtual machines of an inventory, or some of them. Raises MachinesError."""
    if folder_of(inventory).is_dir():
        _vagrant(inventory, say, "destroy", "--force", *names)


def _vagrant(inventory: Path, say: Say, *words: str) -> None:
    environment = {**os.environ, "ROADBED_INVENTORY": str(inventory.resolve()), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    last: deque[str] = deque(maxlen=15)
    with subprocess.Popen(
        ["vagrant", *words],
        cwd=folder_of(inventory),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            last.append(line.rstrip())
            if line.startswith("==>"):  # what happens; the lines between are details
                say(line.removeprefix("==> ").rstrip())
    if child.returncode != 0:
        raise MachinesError(f"vagrant {' '.join(words)}: exit code {child.returncode}\n" + "\n".join(last))
