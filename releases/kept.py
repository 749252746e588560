"""Which release is kept for open pages after a rollout, and what a host has of it. Pure; the hosts' part is skew.py."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from roadbed.deploys.app import SLOTS

from .host_state import HostState

NAMEABLE = re.compile(r"(?!none$)[A-Za-z0-9_-]{1,64}")
"""Deployment ids that nginx takes from a request; it says none where there is none."""


@dataclass(frozen=True)
class Kept:
    """The release that is kept, by its slot: instance 0 of it on each app host, one flag on each web host."""

    slot: str
    release: str
    deployment: str

    @property
    def instance(self) -> str:
        """Such as ``a-0``."""
        return f"{self.slot}-0"

    @property
    def flag(self) -> str:
        """Such as ``old.20260101T000000-0000000.a``."""
        return f"old.{self.deployment}.{self.slot}"


def choose(
    release: str,
    deployment: str | None,
    slot: str,
    live: set[str],
    apps: Mapping[str, HostState],
    web: Mapping[str, HostState],
    *,
    only_live: bool = False,
) -> Kept | None:
    """The release to keep once ``release``, whose pages name it ``deployment``, serves in ``slot``; one at most.

    First the one that served until now; then one whose flags a rollout has set that died after the switch; then one
    that is kept already. ``only_live``: the first of these alone. Not one of the same deployment, nor one without an
    instance.
    """
    others = [other for other in SLOTS if other != slot]
    ranks = {other: 0 if other in live else 3 - rank(other, apps, web) for other in others}
    for other in sorted(others, key=lambda one: (ranks[one], one)):
        if ranks[other] > (0 if only_live else 2):
            continue
        found = _in_slot(other, apps)
        if found is None or found.release == release or found.deployment == deployment:
            continue
        return found
    return None


def rank(slot: str, apps: Mapping[str, HostState], web: Mapping[str, HostState]) -> int:
    """How much there is to keep in an idle slot: 2 flagged by a rollout that died, 1 kept already, 0 nothing."""
    if slot in noted(apps):
        return 1
    found = _in_slot(slot, apps)
    return 2 if found and any(found.flag in state.flags for state in web.values()) else 0


def noted(apps: Mapping[str, HostState]) -> set[str]:
    """Slots of which an app host has noted that they are kept."""
    return {slot for state in apps.values() for slot in state.kept}


def old_flags(state: HostState) -> set[str]:
    """The flags of kept releases on a web host."""
    return {flag for flag in state.flags if flag.startswith("old.")}


def slot_of(flag: str) -> str:
    """``old.<deployment>.a`` -> ``a``."""
    return flag.rpartition(".")[2]


def _in_slot(slot: str, apps: Mapping[str, HostState]) -> Kept | None:
    """What runs, or ran, as instance 0 of a slot, if pages name it in a way that nginx understands."""
    running = [state for state in apps.values() if f"{slot}-0" in state.running()]
    mine = running or [state for state in apps.values() if slot in state.kept]
    release = next((state.slots[slot] for state in mine if slot in state.slots), None)
    known = {name: here.deployment for state in apps.values() for name, here in state.releases.items()}
    deployment = known.get(release) if release else None
    if release is None or deployment is None or not NAMEABLE.fullmatch(deployment):
        return None
    return Kept(slot, release, deployment)
