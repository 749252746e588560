"""The options --canary and --watch of `provision deploy`, as the rollout wants them."""

import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roadbed.releases.canary import Canary

WATCH = "60s"
"""How long a share is watched unless --watch says it: at 5 requests a second, 5 % of them are 15."""
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
LEAST_SECONDS, MOST_SECONDS = 5, 86400
"""nginx writes its log once a second, and a visitor's cookie lives for a day."""


def parse_canary(steps: str | None, watch: str | None) -> "Canary | None":
    """What the user wants of a canary: ``5,25,100`` and ``60s``; None without steps. Raises InventoryError."""
    from roadbed.engine.errors import InventoryError
    from roadbed.releases.canary import Canary

    if steps is None:
        if watch is not None:
            raise InventoryError("--watch: is the time of each step of a canary. Say also --canary 5,25,100")
        return None
    return Canary(parse_steps(steps), parse_watch(watch or WATCH))


def parse_steps(text: str) -> tuple[int, ...]:
    """Shares in percent, rising; 100 is added where it lacks. Raises InventoryError."""
    from roadbed.engine.errors import InventoryError

    words = [word.strip().removesuffix("%").strip() for word in text.split(",")]
    for word in words:
        if not re.fullmatch(r"[0-9]{1,3}", word) or not 1 <= int(word) <= 100:
            raise InventoryError(f"--canary: '{word}' is no share in percent, 1 to 100. Write steps such as 5,25,100")
    steps = [int(word) for word in words]
    for before, after in itertools.pairwise(steps):
        if after <= before:
            raise InventoryError(f"--canary: {after} after {before}: each step is larger. Write steps such as 5,25,100")
    return tuple(steps if steps[-1] == 100 else [*steps, 100])


def parse_watch(text: str) -> float:
    """Seconds of a time such as 90, 90s, 5m or 1h. Raises InventoryError."""
    from roadbed.engine.errors import InventoryError

    match = re.fullmatch(r"([0-9]{1,6})([smh]?)", text.strip())
    if match is None:
        raise InventoryError(f"--watch: '{text}' is no time. Write one such as 60s, 5m or 1h")
    seconds = int(match[1]) * UNITS[match[2]]
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise InventoryError(f"--watch: {text} is outside {LEAST_SECONDS}s to 24h. Write a time such as 60s")
    return float(seconds)
