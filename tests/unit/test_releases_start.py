"""Around the health gate: the arithmetic of the memory, and the pages that an instance is warmed with."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from roadbed.deploys.app import AppSettings
from roadbed.deploys.sizing import Sizing
from roadbed.engine.result import Result
from roadbed.releases.decide import decide
from roadbed.releases.host_state import HostState
from roadbed.releases.manifest import Manifest
from roadbed.releases.surge import short, surges
from roadbed.releases.warm import PATHS, SECONDS, hot_paths, warm

BARE = HostState(arch="x86_64")


def test_the_memory_of_each_host_is_held_against_what_it_starts() -> None:
    states = {
        "app-1": HostState(available_kb=1890 * 1024),
        "app-2": HostState(available_kb=1000 * 1024),
        "app-3": HostState(),
    }
    plan = decide("r1", dict.fromkeys(states, "d"), states, dict.fromkeys(states, 2), ())
    found = surges(plan, states, dict.fromkeys(states, Sizing(2, 512, 384)))
    assert str(found["app-1"]) == "2 instances x 512 MB = 1024 MB for the surge, 1890 MB available"
    assert str(found["app-3"]) == "2 instances x 512 MB = 1024 MB for the surge, unknown available"
    assert set(short(found)) == {"app-2"}


def manifest(routes: list[dict[str, Any]], base_path: str = "") -> Manifest:
    plain = {"router": "app", "kind": "page", "rendering": "isr", "revalidate": 60}
    return Manifest.model_validate(
        {
            "app": "shop", "release": "r1", "source_hash": "", "created": "2026-01-01T00:00:00Z", "next": "16.4.6",
            "node": "24.0.0", "platform": "linux-x86_64", "build_id": "b", "deployment_id": "r1",
            "key_fingerprint": "", "server": "", "dist": ".next", "writable": [], "base_path": base_path,
            "asset_prefix": "", "commit": None, "dirty": False, "files": {}, "links": {},
            "routes": [{**plain, **route} for route in routes],
        }
    )  # fmt: skip


def test_every_route_is_warmed_before_one_of_them_is_warmed_twice() -> None:
    many = [f"/products/{number}" for number in range(50)]
    found = hot_paths(
        manifest(
            [
                {"path": "/", "prerendered": ["/"]},
                {"path": "/cart", "prerendered": []},
                {"path": "/feed.xml", "prerendered": ["/feed.xml"], "kind": "handler"},
                {"path": "/products/[id]", "prerendered": many},
            ]
        )
    )
    assert found[:4] == ["/", "/products/0", "/feed.xml", "/products/1"]
    assert len(found) == PATHS


def test_the_base_path_is_part_of_every_page() -> None:
    routes = [{"path": "/", "prerendered": ["/"]}, {"path": "/a", "prerendered": ["/a/"]}]
    assert hot_paths(manifest(routes, "/shop")) == ["/shop", "/shop/a/"]


class Host:
    """A session that answers what it is told to, and keeps the command."""

    name = "app-1"

    def __init__(self, out: str) -> None:
        self.out, self.command = out, ""

    def run(self, command: str, **_: Any) -> Result:
        self.command = command
        return Result(0, self.out, "", 0.0)


def settings(**more: Any) -> AppSettings:
    return AppSettings.model_validate({"name": "shop", "source": ".", "domain": "shop.example.com", **more})


WARM = [
    ("200 http://x/1\n200 http://x/2\n", "warmed with 2 requests for 1 pages"),
    ("200 http://x/1\n", f"warmed with 1 requests for 1 pages, 1 were not made within {SECONDS} s"),
    (
        "200 http://x/1\n500 http://x/2\n",
        "warmed with 1 requests for 1 pages\nwarning: 1 failed, such as http://x/2 (500)",
    ),
    (
        "200 http://x/1\n000 http://x/2\n",
        "warmed with 1 requests for 1 pages\nwarning: 1 failed, such as http://x/2 (no answer)",
    ),
    ("404 http://x/1\n308 http://x/2\n", "warmed with 2 requests for 1 pages"),
]


@pytest.mark.parametrize(("out", "said"), WARM)
def test_what_warming_found_is_told_and_stops_nothing(out: str, said: str) -> None:
    assert warm(Host(out), settings(), "127.0.0.1", [5000, 5001], ["/a"]) == said  # type: ignore[arg-type]


def test_a_path_cannot_leave_its_url() -> None:
    host = Host("")
    warm(host, settings(), "2001:db8::1", [5000], ['/a "b"\nurl = "http://elsewhere"', "/café/%20?x=1#y"])  # type: ignore[arg-type]
    urls = [line for line in host.command.splitlines() if line.startswith("url")]
    assert urls == [
        'url = "http://[2001:db8::1]:5000/a%20%22b%22%0Aurl%20=%20%22http://elsewhere%22"',
        'url = "http://[2001:db8::1]:5000/caf%C3%A9/%20%3Fx=1%23y"',
    ]


def test_nothing_is_asked_where_the_build_has_made_no_page() -> None:
    assert warm(Host("x"), settings(), "127.0.0.1", [5000], []) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(("batch", "good"), [(1, True), ("all", True), (50, True), (0, False), ("some", False)])
def test_batch(batch: int | str, good: bool, make_context: Callable[..., Any]) -> None:
    if good:
        assert settings(rollout={"batch": batch}).rollout.batch == batch
        return
    with pytest.raises(ValidationError):
        settings(rollout={"batch": batch})


def test_skew_is_on_by_default_and_bounded() -> None:
    assert settings().skew == 1800
    for wrong in (-1, 86401, "30m"):
        with pytest.raises(ValidationError):
            settings(skew=wrong)
