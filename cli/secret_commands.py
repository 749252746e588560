"""`provision secrets`: encrypted values beside the inventory."""

import re
import sys
from typing import Annotated

import typer

from .options import Inventory
from .style import say

app = typer.Typer(no_args_is_help=True, help="Encrypted values of a stack: list, set, remove.")


@app.command("list", epilog="Example:  provision secrets list -i prod")
def listing(inventory: Inventory = None) -> None:
    """Names of the secrets, without their values."""
    from roadbed.engine.load import load
    from roadbed.engine.secrets import Secrets

    from .style import output

    names = Secrets(load(inventory).beside(".secrets.age")).names()
    for name in names:
        output(name)
    if own := [name for name in names if generated(name)]:
        say(f"made by Roadbed: {', '.join(own)}")


def generated(name: str) -> bool:
    """Whether Roadbed makes the secret of this name by itself: passwords of services, and the action key."""
    return name == "action_key" or (name.islower() and name.endswith("_password"))


@app.command(
    "set",
    epilog="Examples:  provision secrets set DATABASE_URL -i prod  |  pass db-url | provision secrets set DATABASE_URL",
)
def set_secret(name: Annotated[str, typer.Argument(help="Such as DATABASE_URL.")], inventory: Inventory = None) -> None:
    """Set a secret: typed without echo, or read from standard input. Never an argument."""
    from roadbed.engine.errors import InventoryError
    from roadbed.engine.load import load
    from roadbed.engine.secrets import Secrets

    stack = load(inventory)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise InventoryError(
            f"{name.partition('=')[0]!r}: is not a name. Use letters, digits and _; the value is asked for"
        )
    value = typer.prompt(name, hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read().rstrip("\n")
    if not value:
        raise InventoryError(f"{name}: no value was given. Type one, or send one to standard input")
    secrets = Secrets(stack.beside(".secrets.age"))
    secrets.set(name, value)
    say(f"{name} is set in {secrets.path}")
    if name in (*stack.app.secrets, stack.app.cdn.purge.secret) or name.islower():
        say("The next phase or deploy brings it to the hosts")
    else:
        say(f"  ! The app does not get it: {name} is not in app.secrets of {stack.path}. Add it there")


@app.command(epilog="Example:  provision secrets remove OLD_TOKEN -i prod")
def remove(
    name: Annotated[str, typer.Argument(help="Name of the secret.")],
    inventory: Inventory = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Also one that Roadbed has made.")] = False,
) -> None:
    """Forget a secret. One that Roadbed has made by itself only with --yes."""
    from roadbed.engine.errors import InventoryError, Refused
    from roadbed.engine.load import load
    from roadbed.engine.secrets import Secrets

    secrets = Secrets(load(inventory).beside(".secrets.age"))
    if name not in (names := secrets.names()):
        raise InventoryError(f"{name}: is not in {secrets.path}. Names: {', '.join(names) or 'none'}")
    if generated(name) and not yes:
        raise Refused(f"{name}: Roadbed has made it, and the next run makes another, for all hosts. If so, say --yes")
    secrets.remove(name)
    say(f"{name} is forgotten")
