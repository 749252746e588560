"""Memory of a host that several roles share: how much of it each may plan with."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .sizing import RESERVED_MB

if TYPE_CHECKING:
    from .context import Context

WEIGHTS = {"app": 4, "database": 2, "cache": 1}
"""Parts of the memory when roles share a host. The app comes first: during a rollout it runs twice."""


def share(roles: Iterable[str], memory_mb: int, role: str) -> int:
    """MiB that ``role`` may plan with on a host of ``memory_mb`` MiB that has ``roles``.

    What the system keeps (sizing.RESERVED_MB) is taken off first; a role that is alone gets the rest.
    Raises ValueError, with the sum, when nothing is left.
    """
    room = memory_mb - RESERVED_MB
    if room <= 0:
        raise ValueError(
            f"{memory_mb} MiB less {RESERVED_MB} MiB for the system leaves nothing for {role}. Use a larger machine"
        )
    total = sum(weight for name, weight in WEIGHTS.items() if name in {*roles, role})
    return room * WEIGHTS[role] // total


def planned(ctx: "Context", role: str, host: str | None = None) -> int:
    """MiB that ``role`` may plan with on ``host`` (default: this one); what is not installed there takes no part."""
    inventory, name = ctx.inventory, host or ctx.name
    absent = {"cache": inventory.redis.external, "database": inventory.postgres.external}
    if not ctx.reached("phase2"):
        absent = dict.fromkeys(absent, True)
    roles = {role for role in inventory.roles_of(name) if not absent.get(role, False)}
    return share(roles, ctx.facts[name].memory_mb, role)
