"""`vagrant ssh-config` as an inventory: user and keys are Vagrant's, the rest is the rehearsal's.

`-i vagrant` is generated when the machines are newer than the file, so nobody writes or updates it by hand.
"""

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import paramiko
import yaml

from .errors import InventoryError
from .found import Found
from .hostkeys import KnownHosts

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
    there = set(yaml.safe_load(path.read_text())["hosts"]) if path.exists() else set()
    if there == set(made) and max(made.values()) < since and base.stat().st_mtime < since:
        return
    raw = yaml.safe_load(base.read_text())
    text = HEAD.format(base=base) + yaml.safe_dump(with_logins(raw, found(folder, base), base, path), sort_keys=False)
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)
    known = KnownHosts(path.with_suffix(".known_hosts"))
    for name, host in raw["hosts"].items():
        if made.get(name, 0) >= since:  # a new machine has new keys
            known.forget(host["address"])


def with_logins(raw: dict[str, Any], machines: list[Found], base: Path, path: Path) -> dict[str, Any]:
    """The inventory ``raw`` of ``base`` for ``path``: with the hosts that run, and Vagrant's user and keys."""
    by_name = {machine.name: machine for machine in machines}
    if unknown := by_name.keys() - raw["hosts"]:
        raise InventoryError(
            f"{path}: Vagrant's machine {min(unknown)} is not in {base}. Hosts: {', '.join(raw['hosts'])}"
        )
    hosts = {name: {**host, "key": by_name[name].key} for name, host in raw["hosts"].items() if name in by_name}
    app = dict(raw["app"])
    if not re.match(r"[a-z+]+://|[^/]+@", app["source"]):
        app["source"] = os.path.relpath(base.parent / app["source"], path.parent)
    user = next((machine.user for machine in machines), None) or "vagrant"
    build = raw.get("build") or {}
    builder = next((name for name, host in hosts.items() if "app" in (host.get("roles") or ["app"])), None)
    if sys.platform != "linux" and "host" not in build and builder:  # what a Mac builds does not run in the machines
        build = {**build, "host": builder}
    return {**raw, "app": app, "ssh": {"user": user}, "hosts": hosts, **({"build": build} if build else {})}


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
