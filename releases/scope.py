"""Which hosts a release may go to: all app and web hosts at once, or before phase3 those that serve themselves."""

from collections.abc import Collection

from roadbed.engine.inventory import Inventory


def incomplete(
    inventory: Inventory,
    roles: tuple[str, ...],
    hosts: Collection[str],
    in_play: Collection[str],
    *,
    together: bool = False,
) -> str:
    """Why a release cannot go to ``hosts`` without the others that have ``roles``; empty when it can.

    ``in_play`` are the hosts the run is about. Hosts that ``--limit`` leaves out may stay behind only if
    every host sends requests to its own instances: else a slot would mean one release here and another there.
    ``together``: every web host sends to every app host, whatever else it is.
    """
    missing = [host for host in inventory.with_role(*roles) if host not in hosts]
    if failed := [host for host in missing if host in in_play]:
        return (
            f"a release goes to all app and web hosts at once, and {', '.join(failed)} cannot take part. "
            "Repair it, or take it out of the inventory"
        )
    if missing and (
        together or not all({"app", "web"} <= set(inventory.roles_of(host)) for host in (*hosts, *missing))
    ):
        return (
            f"--limit leaves out {', '.join(missing)}, but web hosts send requests to app hosts: a release goes to "
            "all of them at once. Name them all, or leave --limit out"
        )
    return ""
