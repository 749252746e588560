"""Where a release is built, and what a build on a host may take of it, so that the site there does not notice."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from .memory import planned
from .model import Settings
from .sizing import RESERVED_MB

if TYPE_CHECKING:
    from .context import Context

LEAST_MB = 1024
"""MiB below which no build is begun. Measured with the sample app, Next.js 16.4.6 and two cores: its processes have 850
at most, it builds with 1024 and is killed with 768. Larger apps need more."""
FREE_MB = 128
"""MiB of what is free at this moment that a build leaves alone."""


class BuildSettings(Settings):
    """Where a release is built."""

    host: str | None = Field(None, description="Host of this inventory that builds. Default: this machine.")
    memory: int | Literal["auto"] = Field(
        "auto", description="Most memory of a build on a host in MiB; auto: what its RAM leaves beside what serves."
    )
    minutes: int = Field(30, ge=1, le=240, description="Longest time of one step of a build on a host, in minutes.")


@dataclass(frozen=True)
class Budget:
    """What a build may take: MiB of memory, and CPU time in percent of one core. ``sum`` says why, in words."""

    memory_mb: int
    cpu_percent: int
    sum: str


def budget(ctx: "Context", available_mb: int) -> Budget:
    """The budget of a build on the host of ``ctx``, of which ``available_mb`` MiB are free at this moment.

    Counted as taken are what the system keeps, the instances that serve, and what Redis and PostgreSQL may take
    there. The room that a rollout keeps for new instances is free during a build, which comes before; an instance of
    the release before that still runs in it counts by what is free. Raises ValueError, with the sum, when too little
    is left.
    """
    asked, memory, serving = ctx.inventory.build.memory, ctx.me.memory_mb, _serving(ctx)
    room = memory - RESERVED_MB - sum(serving.values())
    words = "".join(f", {amount} MiB {what}" for what, amount in serving.items())
    told = f"{memory} MiB less {RESERVED_MB} MiB for the system{words} leave {room} MiB"
    if available_mb - FREE_MB < room:
        room = available_mb - FREE_MB
        told += f", of which {available_mb} MiB less {FREE_MB} MiB to spare are free now"
    wanted = room if asked == "auto" else asked
    if wanted > room or wanted < LEAST_MB:
        need = f"a build needs {LEAST_MB} MiB" if wanted < LEAST_MB else f"build/memory is {wanted} MiB"
        raise ValueError(
            f"{told}, and {need}. Use a host with more memory, lower app/replicas or app/memory, or build on this "
            "machine: remove build/host"
        )
    return Budget(wanted, _cpu(ctx.me.cpus, serves=bool(serving)), f"{told}: the build may take {wanted} MiB")


def _cpu(cores: int, *, serves: bool) -> int:
    """All cores of a host that only builds; where something serves, one is left to it, of a single one the half."""
    return 100 * cores if not serves else max(50, 100 * (cores - 1))


def _serving(ctx: "Context") -> dict[str, int]:
    """What serves on this host, in words, and its MiB. Nothing does before the first phase."""
    if not ctx.me.phase:
        return {}
    found, roles, here = {}, ctx.host.roles, replace(ctx, phase=ctx.me.phase)
    if "app" in roles:
        sizing = here.sizing()
        found[f"for the instances ({sizing.replicas} x {sizing.memory_mb})"] = sizing.replicas * sizing.memory_mb
    if here.reached("phase2"):
        if "cache" in roles and not ctx.inventory.redis.external:
            found["for Redis"] = planned(here, "cache")
        if "database" in roles and not ctx.inventory.postgres.external:
            found["for PostgreSQL"] = planned(here, "database")
    return found
