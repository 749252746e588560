"""Which hosts a command is about: names on the command line, checked before anybody is asked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roadbed.engine.errors import RoadbedError
    from roadbed.engine.inventory import Inventory


def chosen_hosts(stack: "Inventory", names: Sequence[str], role: str | None, why: str) -> list[str]:
    """``names``, or without any every host; with a ``role`` those that have it. Raises InventoryError.

    ``why`` is what asks for the role, such as ``--nginx``.
    """
    from roadbed.engine.errors import InventoryError

    for name in names:
        if name not in stack.hosts:
            raise InventoryError(f"HOST: there is no host {name}. Hosts: {', '.join(stack.hosts)}")
    having = stack.with_role(role or "*")
    if not having:
        raise InventoryError(f"{why}: no host of this inventory has the role {role}")
    for name in names:
        if name not in having:
            raise InventoryError(
                f"HOST: {name} does not have the role {role}, which {why} is about. Hosts with it: {', '.join(having)}"
            )
    return list(dict.fromkeys(names)) or having


def one_host(stack: "Inventory", name: str | None) -> str:
    """``name``, or the only host there is. Raises InventoryError."""
    from roadbed.engine.errors import InventoryError

    if name is None and len(stack.hosts) > 1:
        raise InventoryError(f"HOST: which one? Hosts: {', '.join(stack.hosts)}")
    return chosen_hosts(stack, [name] if name else [], None, "HOST")[0]


def some_failed(errors: "dict[str, RoadbedError]", hosts: Sequence[str]) -> "RoadbedError":
    """The error of a command that failed on some hosts, which has told why: 3 when one was out of reach, else 4."""
    worst = min(errors.values(), key=lambda error: error.exit_code)
    return type(worst)(f"failed on {len(errors)} of {len(hosts)} hosts: {', '.join(errors)}")
