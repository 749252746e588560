"""The share of the visitors that a slot gets beside the active one: flag files on a web host, no reload of nginx.

nginx divides visitors into 100 buckets (``deploys/canary.py``). A share is a set of flags, one for each bucket whose
visitors go to the slot. The set of a larger share contains that of a smaller one, so a growing share moves visitors
in one direction only.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from roadbed.deploys.app import AppSettings
from roadbed.deploys.canary import BUCKETS, SWITCH, bucket_flag, named_flag, public_link
from roadbed.engine.session import Session

from .host_state import HostState
from .kept import NAMEABLE
from .scripts import script
from .stages import Stages

SETTLE = 1.0
"""Seconds after which every request that was routed by the flags of before has reached its instance."""
FLAGS = ("canary.", "named.")
"""Beginnings of the flags of a share, as ``HostState.flags`` has them."""


@dataclass(frozen=True)
class InSlot:
    """A release in a slot. ``named`` is the deployment id by which its pages ask for it; None when they do not."""

    slot: str
    release: str
    named: str | None


def buckets(percent: int, release: str = "") -> tuple[int, ...]:
    """The buckets of a share of ``percent`` (1-100). Raises ValueError outside of that.

    ``release`` shuffles them, so that it is not always the same visitors who get a release first.
    """
    if not 1 <= percent <= BUCKETS:
        raise ValueError(f"a share of {percent} %: is outside 1-{BUCKETS}")
    order = sorted(range(BUCKETS), key=lambda bucket: sha256(f"{release} {bucket}".encode()).digest())
    return tuple(sorted(order[:percent]))


def set_share(session: Session, app: AppSettings, slot: str, percent: int, releases: Iterable[InSlot] = ()) -> None:
    """Sends ``percent`` (1-100) of the visitors of this web host to ``slot``, instead of any share there was before.

    ``releases`` are those between which the visitors are divided, the one that serves and the one in ``slot``: a page
    that is open in a browser gets its actions and data from the release that made it, whatever share that has, and
    each release has its own public files. Their files must be on the host. Raises OperationFailed.
    """
    known = {one.slot: one for one in releases}
    seed = known[slot].release if slot in known else ""
    session.run(
        script(
            "share",
            root=app.root,
            route=app.route,
            switch=SWITCH,
            slot=slot,
            flags="\n".join(
                [*(bucket_flag(bucket, slot) for bucket in buckets(percent, seed)), *_named(known.values())]
            ),
            releases="\n".join(f"{public_link(one.slot)} {one.release}" for one in known.values()),
        )
    )


def _named(releases: Iterable[InSlot]) -> list[str]:
    """The flags by which open pages find their release; an id that several have says nothing."""
    good = [(one.named, one.slot) for one in releases if one.named and NAMEABLE.fullmatch(one.named)]
    times = Counter(name for name, _ in good)
    return [named_flag(name, slot) for name, slot in good if times[name] == 1]


def clear_share(session: Session, app: AppSettings) -> None:
    """Sends all visitors of this web host where the active flag says. Wait ``SETTLE`` before an instance is stopped."""
    session.run(script("unshare", root=app.root, route=app.route, switch=SWITCH))


def shared(state: HostState) -> bool:
    """Whether a web host gives a slot a share, or has flags that a killed run left."""
    return any(flag.startswith(FLAGS) for flag in state.flags)


def take_back(stages: Stages, app: AppSettings, web: Iterable[str]) -> None:
    """Clears the share on web hosts and waits until that counts. Raises Stopped."""
    if hosts := tuple(web):
        stages.ask(hosts, "Send all visitors to the live release", lambda session, _: clear_share(session, app))
        time.sleep(SETTLE)
