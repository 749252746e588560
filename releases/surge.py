"""The surge of a rollout: the new instances run beside those of before. Whether a host has the memory for that."""

from collections.abc import Mapping
from dataclasses import dataclass

from roadbed.deploys.sizing import Sizing
from roadbed.engine.errors import OperationFailed, RoadbedError

from .host_state import HostState
from .plan import Plan


@dataclass(frozen=True)
class Surge:
    """What one app host is to start, and the memory it has for that. All in MiB; ``available`` None: unknown."""

    instances: int
    memory: int
    available: int | None

    @property
    def needed(self) -> int:
        """Each instance may take what it is planned with."""
        return self.instances * self.memory

    @property
    def fits(self) -> bool:
        """Whether there is room; where that is unknown, the start is tried."""
        return self.available is None or self.needed <= self.available

    def __str__(self) -> str:
        what = f"{self.instances} instance{'s' if self.instances > 1 else ''}"
        there = "unknown" if self.available is None else f"{self.available} MB"
        return f"{what} x {self.memory} MB = {self.needed} MB for the surge, {there} available"


def surges(plan: Plan, states: Mapping[str, HostState], sizes: Mapping[str, Sizing]) -> dict[str, Surge]:
    """The surge of every app host that has instances to start; ``sizes`` is what each host plans with.

    Instances that are being cleared away first still have their memory here.
    """
    found = {}
    for host, names in plan.start.items():
        available = states[host].available_kb
        found[host] = Surge(len(names), sizes[host].memory_mb, None if available is None else available // 1024)
    return found


def short(found: Mapping[str, Surge]) -> dict[str, Surge]:
    """The hosts whose memory does not do."""
    return {host: surge for host, surge in found.items() if not surge.fits}


def refused(tight: Mapping[str, Surge], serving: str, *, canary: bool) -> dict[str, RoadbedError]:
    """Why nothing is started on these hosts, not one at a time either. ``serving`` tells what serves.

    ``canary``: instances could take turns, but visitors are to be divided by a canary.
    """
    reason = "an nginx has no other instance meanwhile"
    way_out = "Lower app/memory or app/replicas, or use a larger machine"
    if canary:
        reason, way_out = "a canary needs old and new side by side", f"{way_out}, or deploy without --canary"
    texts = {
        host: f"{host}: {surge}, and {reason}. {serving}, nothing was started. {way_out}"
        for host, surge in tight.items()
    }
    return {host: OperationFailed(text) for host, text in texts.items()}
