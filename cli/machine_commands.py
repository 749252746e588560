"""`provision machines`: the local machines of a rehearsal, by themselves."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from . import completion
from .options import Json, Provider

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory as Stack

app = typer.Typer(
    no_args_is_help=True,
    help="Local rehearsal machines, of systemd-nspawn: up, down, reset, list, ssh, cut, heal, slow.",
)
Names = Annotated[
    list[str] | None,
    typer.Argument(help="Machine names. Default: all of the inventory.", autocompletion=completion.machines),
]
Name = Annotated[str, typer.Argument(help="Machine name.", autocompletion=completion.machines)]
Inventory = Annotated[
    str,
    typer.Option(
        "--inventory",
        "-i",
        help="Name in inventories/, or a path to a .yml file, whose hosts they play.",
        autocompletion=completion.inventories,
    ),
]


@contextmanager
def plain_errors() -> Iterator[None]:
    """A MachinesError is an OperationFailed for the command line, or an InventoryError for a name that is not there."""
    from roadbed.engine.errors import InventoryError, OperationFailed
    from roadbed.machines.model import MachinesError, NoMachineError

    try:
        yield
    except NoMachineError as error:
        raise InventoryError(str(error)) from None
    except MachinesError as error:
        raise OperationFailed(str(error)) from None


def _stack(inventory: str, names: list[str] | None = None) -> "Stack":
    """The inventory. Raises InventoryError when it has not all of ``names``."""
    from roadbed.engine.errors import InventoryError
    from roadbed.engine.load import load

    stack = load(inventory)
    for name in names or ():
        if name not in stack.hosts:
            raise InventoryError(
                f"{stack.path}: has no host {name}. Hosts: {', '.join(stack.hosts)}. Another inventory: -i NAME"
            )
    return stack


@app.command(epilog="Example:  provision machines up -i rehearsal")
def up(names: Names = None, inventory: Inventory = "rehearsal") -> None:
    """Boot a machine for every host of the inventory, with systemd-nspawn."""
    from roadbed.machines.rehearsal import boot

    from .style import say

    with plain_errors():
        boot(_stack(inventory, names), names, say=say)


@app.command(
    epilog="Examples:  provision machines down  |  provision machines down app-1  |  provision machines down --all"
)
def down(
    names: Names = None,
    inventory: Inventory = "rehearsal",
    everything: Annotated[bool, typer.Option("--all", help="Every machine there is, of all inventories.")] = False,
    provider: Provider = "nspawn",
) -> None:
    """Destroy machines. Leaves nothing behind but the cached base images."""
    from roadbed.machines import nspawn

    from .style import say

    if provider == "vagrant":
        from roadbed.machines import vagrant

        with plain_errors():
            vagrant.down(_stack(inventory, names).path, names or [], say=say)
        return
    with plain_errors():
        there = [machine.name for machine in nspawn.listing()]
        wanted = there if everything else names or [name for name in _stack(inventory).hosts if name in there]
        gone = nspawn.down(wanted) if wanted else []
    if gone:
        say(f"Destroyed: {', '.join(gone)}")
    elif there:
        say(f"No machine of {inventory} is there. There are: {', '.join(there)}. Another inventory: -i NAME")
    else:
        say("There is no machine.")


@app.command(epilog="Example:  provision machines reset app-1")
def reset(
    names: Annotated[list[str], typer.Argument(help="Machine names.", autocompletion=completion.machines)],
    inventory: Inventory = "rehearsal",
) -> None:
    """Give machines a fresh disk and boot them."""
    from roadbed.machines import nspawn
    from roadbed.machines.rehearsal import forget_keys

    from .style import say

    stack = _stack(inventory, names)
    with plain_errors():
        nspawn.reset(names, say=say)
        forget_keys(stack, names)


@app.command("list", epilog="Example:  provision machines list --json")
def listing(as_json: Json = False) -> None:
    """The machines, their addresses and states."""
    import json
    from dataclasses import asdict

    from roadbed.machines import nspawn

    from .style import output, say

    with plain_errors():
        machines = nspawn.listing()
    if as_json:
        output(json.dumps([asdict(machine) for machine in machines], indent=1))
        return
    if not machines:
        say("There is no machine.")
    for machine in machines:
        output(f"{machine.name:<16} {machine.address:<16} {machine.suite:<10} {machine.state}")


@app.command(
    epilog="Examples:  provision machines ssh app-1  |  provision machines ssh app-1 -- systemctl status nginx"
)
def ssh(
    name: Name,
    command: Annotated[list[str] | None, typer.Argument(help="Command to run there.")] = None,
    user: Annotated[str, typer.Option(help="admin or root.")] = "admin",
) -> None:
    """Log in to a machine."""
    from roadbed.machines import nspawn

    with plain_errors():
        words = nspawn.ssh_command(name, user=user)
    os.execvp(words[0], [*words, *(command or [])])  # noqa: S606


@app.command(epilog="Example:  provision machines cut app-1")
def cut(name: Name) -> None:
    """Unplug a machine's network cable."""
    from roadbed.machines import nspawn

    from .style import say

    with plain_errors():
        nspawn.cut(name)
    say(f"{name} is unplugged. Plug it in again: provision machines heal {name}")


@app.command(epilog="Example:  provision machines heal app-1")
def heal(name: Name) -> None:
    """Plug it in again."""
    from roadbed.machines import nspawn

    from .style import say

    with plain_errors():
        nspawn.heal(name)
    say(f"{name} is plugged in")


@app.command(epilog="Example:  provision machines slow app-1 25   (25 ms each way; 0: normal)")
def slow(name: Name, milliseconds: Annotated[float, typer.Argument(help="Delay each way in ms; 0: none.")]) -> None:
    """Delay everything a machine sends and receives."""
    from roadbed.machines import nspawn

    with plain_errors():
        nspawn.slow(name, milliseconds)
