"""Local machines for the hosts of an inventory."""

from collections.abc import Callable, Iterable

from roadbed.engine.hostkeys import KnownHosts
from roadbed.engine.inventory import Inventory

from . import nspawn
from .model import Machine, MachineSpec


def specs(inventory: Inventory, names: Iterable[str] | None = None) -> list[MachineSpec]:
    """What each host of the inventory needs of its local machine."""
    return [
        MachineSpec(
            name=name,
            address=host.address,
            suite=host.machine.suite,
            memory=host.machine.memory,
            cpus=host.machine.cpus,
        )
        for name, host in inventory.hosts.items()
        if not names or name in names
    ]


def boot(inventory: Inventory, names: Iterable[str] | None = None, *, say: Callable[[str], None]) -> list[Machine]:
    """Boots the machines that do not run yet. A machine made anew has a new host key: the old one is forgotten."""
    wanted = specs(inventory, list(names or []))
    running = {machine.name for machine in nspawn.listing()}
    machines = nspawn.up(wanted, say=say)
    forget_keys(inventory, [spec.name for spec in wanted if spec.name not in running])
    return machines


def forget_keys(inventory: Inventory, names: Iterable[str]) -> None:
    """Removes the recorded host keys of machines that were made anew."""
    known = KnownHosts(inventory.beside(".known_hosts"))
    for name in names:
        known.forget(inventory.hosts[name].address, inventory.ssh.port)
