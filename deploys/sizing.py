"""Arithmetic: how many instances a host runs, and how much memory each may take."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import AppSettings

RESERVED_MB = 384
"""MiB left to the kernel, sshd, nginx and journald."""
MINIMUM_MB = 256
"""MiB below which a Next.js server is killed while it starts (measured: 110-140 MiB after start)."""
COMFORT_MB = 1024
"""MiB one instance gets when `replicas: auto` counts how many fit."""
KEPT_MB = 512
"""MiB for one instance below which none is planned for the release that is kept for open pages (``app.skew``): it
stays as long as there is room, and a rollout that needs the room stops it first."""
HEAP_SHARE = 0.75
"""Share of the limit given to V8's old space; the rest is buffers, sharp and code."""


@dataclass(frozen=True)
class Sizing:
    """The app on one host. ``memory_mb`` and ``heap_mb`` are MiB for one instance."""

    replicas: int
    memory_mb: int
    heap_mb: int

    def explain(self) -> str:
        """The sum in words, for the plan and for errors."""
        return f"{self.replicas} x {self.memory_mb} MiB (heap {self.heap_mb} MiB)"


def size(app: "AppSettings", cpus: int, memory_mb: int, room: int | None = None) -> Sizing:
    """Sizes the instances of ``app`` on a host with ``cpus`` cores and ``memory_mb`` MiB.

    ``room`` is what the app may plan with, in MiB, where other roles share the host (memory.py). A rollout
    runs the old and the new release side by side, so every instance is counted twice, and one more is the instance
    that is kept of the release before (``app.skew``). Raises ValueError, with the arithmetic, when twice cannot fit.
    """
    others = 0 if room is None else memory_mb - RESERVED_MB - room
    room = memory_mb - RESERVED_MB - others
    replicas = app.replicas if isinstance(app.replicas, int) else max(1, min(cpus, room // (2 * COMFORT_MB)))
    share = room // (2 * replicas)
    with_kept = room // (2 * replicas + 1)
    planned = with_kept if app.skew and with_kept >= KEPT_MB else share
    memory = app.memory if isinstance(app.memory, int) else min(planned, 2048)
    if memory < MINIMUM_MB or memory > share:
        need = max(memory, MINIMUM_MB)
        raise ValueError(
            f"{replicas} x {need} MiB, twice during a rollout, make {2 * replicas * need} MiB, but {memory_mb} MiB "
            f"less {RESERVED_MB} MiB for the system{f' and {others} MiB for other roles' if others else ''} "
            f"leave {room} MiB. "
            "Lower app/replicas or app/memory, or use a larger machine"
        )
    return Sizing(replicas=replicas, memory_mb=memory, heap_mb=int(memory * HEAP_SHARE))
