"""Who runs the machines of a rehearsal: systemd-nspawn or Vagrant. Both hand over nothing but SSH logins."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from . import nspawn, vagrant
from .model import MachinesError

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory

Name = Literal["auto", "nspawn", "vagrant"]
NAMES: tuple[Name, ...] = ("auto", "nspawn", "vagrant")
Say = Callable[[str], None]


class Provider(Protocol):
    """What a rehearsal asks of its machines."""

    def up(self, stack: "Inventory", say: Say) -> Path:
        """Boots a machine for each host; returns the inventory to go on with. Raises MachinesError."""

    def down(self, stack: "Inventory", say: Say) -> None:
        """Destroys them. Raises MachinesError."""

    def login(self, stack: "Inventory", host: str) -> str:
        """The words after `provision` or the whole command that logs in to a machine."""

    def destroy(self, stack: "Inventory") -> str:
        """The command that destroys the machines."""


class Nspawn:
    """systemd-nspawn: seconds to boot, on Linux, as root or with sudo."""

    def up(self, stack: "Inventory", say: Say) -> Path:
        """See Provider."""
        from .rehearsal import boot

        boot(stack, say=say)
        for machine in nspawn.listing():
            if machine.name in stack.hosts:
                say(f"{machine.name}: {machine.suite} at {machine.address}")
        return stack.path

    def down(self, stack: "Inventory", say: Say) -> None:
        """See Provider."""
        nspawn.down(list(stack.hosts), say=say)

    def login(self, stack: "Inventory", host: str) -> str:
        """See Provider."""
        return f"machines ssh {host}"

    def destroy(self, stack: "Inventory") -> str:
        """See Provider."""
        return "machines down" + ("" if stack.name == "rehearsal" else f" -i {stack.name}")


class Vagrant:
    """Vagrant: virtual machines, minutes to boot, on macOS, Windows and Linux."""

    def up(self, stack: "Inventory", say: Say) -> Path:
        """See Provider."""
        return vagrant.up(stack.path, say=say)

    def down(self, stack: "Inventory", say: Say) -> None:
        """See Provider."""
        vagrant.down(stack.path, say=say)

    def login(self, stack: "Inventory", host: str) -> str:
        """See Provider."""
        return f"ssh {host} -i {vagrant.folder_of(stack.path) / stack.path.name}"

    def destroy(self, stack: "Inventory") -> str:
        """See Provider."""
        return f"machines down -i {stack.name} --provider vagrant"


def choose(name: str) -> Provider:
    """The provider of this name; ``auto``: nspawn where it can, else Vagrant. Raises MachinesError with the reasons."""
    if name not in NAMES:
        raise MachinesError(f"--provider: there is no {name}. Providers: {', '.join(NAMES)}")
    kinds: dict[str, tuple[type[Provider], Callable[[], list[str]]]] = {
        "nspawn": (Nspawn, nspawn.preflight),
        "vagrant": (Vagrant, vagrant.preflight),
    }
    reasons = []
    for kind in kinds if name == "auto" else [name]:
        provider, preflight = kinds[kind]
        problems = preflight()
        if not problems:
            return provider()
        reasons += [f"{kind}: {problem}" for problem in problems]
    raise MachinesError("\n".join(reasons))
