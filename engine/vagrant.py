"""`vagrant ssh-config` as an inventory: user and keys are Vagrant's, the rest is the rehearsal's.

`-i vagrant` is generated when the machines are newer than the file, so nobody writes or updates it by hand.
"""

import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import paramiko
import yaml

from .errors import InventoryError
from .found import Found
from .hostkeys import KnownHosts
from .played import with_logins

MARK = "# Generated from `vagrant ssh-config`"
HEAD = f"""{MARK} and {{base}}. It is made anew when the machines are.
# Delete this line and the one above to keep what you change.
"""
NAT = "10.0.2."
"""VirtualBox' own network, the same in every machine: nobody else reaches an address in it (its manual, 6.3)."""
SECONDS = 120
"""Vagrant takes 2 s a call on a desktop, and several times that beside virtual machines that boot."""


def refresh(path: Path, folder: Path = Path(), base: Path | None = None) -> None:
    """Writes the inventory of the machines of the Vagrantfile in ``folder``, if there are newer ones than in ``path``.

    ``base`` is the inventory that the Vagrantfile reads. Default: $ROADBED_INVENTORY, or the rehearsal's.

    Leaves a file alone that is not ours, and does nothing where there is no Vagrantfile. Raises InventoryError.
    """
    if not (folder / "Vagrantfile").is_file() or (path.exists() and not path.read_text().startswith(MARK)):
        return
    made = {file.parent.parent.name: file.stat().st_mtime for file in folder.glob(".vagrant/machines/*/*/id")}
    since = path.stat().st_mtime if path.exists() else 0.0
    if not made:
        raise InventoryError(f"{path}: Vagrant has no machine here. Make them: vagrant up")
    base = base or Path(os.environ.get("ROADBED_INVENTORY") or "inventories/rehearsal.yml")
    raw, changed = _base(path, base)
    there = set(yaml.safe_load(path.read_text())["hosts"]) if path.exists() else set()
    if there == set(made) and max(made.values()) < since and changed < since:
        return
    text = HEAD.format(base=base) + yaml.safe_dump(with_logins(raw, found(folder, base), base, path), sort_keys=False)
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)
    known = KnownHosts(path.with_suffix(".known_hosts"))
    for name, host in raw["hosts"].items():
        if made.get(name, 0) >= since:  # a new machine has new keys
            known.forget(host["address"])


def _base(path: Path, base: Path) -> tuple[dict[str, Any], float]:
    """The inventory that the Vagrantfile reads, and when it was changed."""
    try:
        raw, changed = yaml.safe_load(base.read_text()), base.stat().st_mtime
    except OSError:
        raise InventoryError(
            f"{path}: is made of {base}, which is not there. Name the inventory that your Vagrantfile reads in "
            "ROADBED_INVENTORY, or write one of the machines that run: provision init NAME --from-vagrant"
        ) from None
    except yaml.YAMLError as error:
        raise InventoryError(f"{base}: not valid YAML: {' '.join(str(error).split())}") from None
    if not (isinstance(raw, dict) and isinstance(raw.get("app"), dict) and isinstance(raw.get("hosts"), dict)):
        raise InventoryError(f"{base}: is no inventory: it needs app and hosts. provision inventory show tells more")
    return raw, changed


def found(folder: Path = Path(), base: Path | None = None) -> list[Found]:
    """The machines that run, by `vagrant ssh-config`; ``base`` is what the Vagrantfile reads, as in ``refresh``.

    Raises InventoryError when there is none, or no Vagrant.
    """
    config = paramiko.SSHConfig.from_file(io.StringIO(_vagrant(folder, base, "ssh-config")))
    machines = []
    for name in sorted(config.get_hostnames() - {"*"}, key=str):
        login = config.lookup(name)
        address = login.get("hostname", name)
        if address.startswith("127."):
            address = _own_address(folder, base, name)
        key = next(iter(login.get("identityfile", [])), None)
        machines.append(Found(name, address, user=login.get("user"), key=key and key.strip('"')))
    if not machines:
        raise InventoryError("vagrant: no machine runs. Start them: vagrant up")
    return machines


def _own_address(folder: Path, base: Path | None, name: str) -> str:
    """VirtualBox shows a forwarded port of this machine: Roadbed needs an address that all hosts reach."""
    said = _vagrant(folder, base, "ssh", name, "-c", "hostname -I").split()
    mine = [word for word in said if not word.startswith(NAT) and ":" not in word]
    if not mine:
        raise InventoryError(
            f"vagrant: {name} has no address of its own. Give it one in the Vagrantfile: "
            'config.vm.network "private_network", ip: "192.168.56.11"'
        )
    return mine[0]


def _vagrant(folder: Path, base: Path | None, *words: str) -> str:
    if shutil.which("vagrant") is None:
        raise InventoryError("vagrant: is not installed. See https://developer.hashicorp.com/vagrant/install")
    environment = {**os.environ, **({"ROADBED_INVENTORY": str(base.resolve())} if base else {})}
    try:
        done = subprocess.run(
            ["vagrant", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise InventoryError(f"vagrant {words[0]}: no answer within {SECONDS} s") from None
    if done.returncode != 0:
        tail = " ".join(done.stderr.split())[-400:]
        raise InventoryError(f"vagrant {words[0]}: {tail or f'exit code {done.returncode}'}")
    return done.stdout
