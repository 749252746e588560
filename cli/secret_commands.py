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

    for name in Secrets(load(inventory).beside(".secrets.age")).names():
        output(name)


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
    say(f"{name} is set in {secrets.path}. The next phase or deploy brings it to the hosts")


@app.command(epilog="Example:  provision secrets remove OLD_TOKEN -i prod")
def remove(name: Annotated[str, typer.Argument(help="Name of the secret.")], inventory: Inventory = None) -> None:
    """Forget a secret."""
    from roadbed.engine.errors import InventoryError
    from roadbed.engine.load import load
    from roadbed.engine.secrets import Secrets

    secrets = Secrets(load(inventory).beside(".secrets.age"))
    if name not in (names := secrets.names()):
        raise InventoryError(f"{name}: is not in {secrets.path}. Names: {', '.join(names) or 'none'}")
    secrets.remove(name)
    say(f"{name} is forgotten")
