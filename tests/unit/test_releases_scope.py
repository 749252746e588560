"""Which hosts a limited run may bring a release to."""

from collections.abc import Callable
from typing import Any

import pytest

from roadbed.releases.scope import incomplete

BOTH = {name: {"address": f"192.0.2.{number}", "roles": ["web", "app"]} for number, name in enumerate("abc", 1)}
SPLIT = {**BOTH, "c": {"address": "192.0.2.3", "roles": ["web"]}}
ROLES = ("app", "web")


@pytest.mark.parametrize(
    ("hosts", "to", "in_play", "reason"),
    [
        (BOTH, "abc", "abc", ""),
        (BOTH, "ab", "ab", ""),
        (BOTH, "ab", "abc", "a release goes to all app and web hosts at once, and c cannot take part"),
        (BOTH, "a", "ab", "and b cannot take part"),
        (SPLIT, "abc", "abc", ""),
        (SPLIT, "ab", "ab", "--limit leaves out c, but web hosts send requests to app hosts"),
        (SPLIT, "c", "c", "--limit leaves out a, b"),
    ],
)
def test_a_release_goes_to_hosts_that_serve_themselves_or_to_all(
    make_context: Callable[..., Any], hosts: dict[str, Any], to: str, in_play: str, reason: str
) -> None:
    inventory = make_context(name="a", hosts=hosts).inventory
    said = incomplete(inventory, ROLES, to, in_play)
    assert reason in said
    assert bool(reason) == bool(said)
