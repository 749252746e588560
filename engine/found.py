"""Machines that another tool made, for inventories that nobody has to type: Vagrant's and Terraform's."""

from dataclasses import dataclass

from .errors import InventoryError


@dataclass(frozen=True)
class Found:
    """A machine as the other tool tells of it; None and () are what it does not tell."""

    name: str
    address: str
    private: str | None = None
    user: str | None = None
    key: str | None = None
    roles: tuple[str, ...] = ()


def spread(machines: list[Found]) -> list[Found]:
    """Gives roles to machines that have none: a proposal, to be looked at in the inventory.

    One does everything. Of two the second one runs the app. Of more the first is the web host, the last one holds the
    data, and those between them run the app. Raises InventoryError when some have roles and others have none.
    """
    without = [machine.name for machine in machines if not machine.roles]
    if len(machines) == 1 or not without:
        return machines
    if len(without) < len(machines):
        raise InventoryError(f"hosts/{without[0]}/roles: has no role, and others have. Give roles to all, or to none")
    data = ("cache", "pooler", "database")
    roles: list[tuple[str, ...]] = [("app",)] * len(machines)
    roles[0] = ("web",)
    if len(machines) == 2:
        roles[0] += data
    else:
        roles[-1] = data
    return [
        Found(machine.name, machine.address, machine.private, machine.user, machine.key, machine.roles or mine)
        for machine, mine in zip(machines, roles, strict=True)
    ]
