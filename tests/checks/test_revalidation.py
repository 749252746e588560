"""Revalidation: one regeneration in a window for all instances, and a revalidation on one that reaches the others.

Needs routes that say what they show, as those of the sample app do (examples/storefront); an app that has routes of
the same names is checked too.
"""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from roadbed.checks.replicas import Replica, arrivals, attribute, distinct, leads, milliseconds_until, routes
from roadbed.deploys.context import Context
from roadbed.deploys.urls import has_cache

ROLES = ("app",)
PROPAGATION_MS = 1000
"""Measured 45-145 ms on a busy computer; caches of the instances' own differ until their windows end."""
REVALIDATE, FLASH, PRODUCTS = "/api/revalidate", "/flash-sale", "/products/[id]"
WATCHED_SECONDS = 16
PAUSE = 0.1
TAGGED = [
    ("prices", "/prices/{}", "quote"),
    ("reviews", "/reviews/{}", "summary"),
    ("trends", "/trends", "trend"),
]
"""Tag, page, attribute: the caches of fetch, of unstable_cache, and of 'use cache'."""
FIRST = 2001
"""Each instance is asked for a page of its own from here on: of a common one it would get the new version that another
has made, whether or not it had heard of the revalidation."""


def applies(ctx: Context) -> bool:
    """Once for the stack, for the sample app on a shared cache."""
    return has_cache(ctx) and leads(ctx) and {REVALIDATE, FLASH, PRODUCTS} <= set(routes(ctx))


def _revalidate(ctx: Context, replica: Replica, what: dict[str, str]) -> float:
    """Revalidates at one replica. Returns the moment (time.perf_counter) at which it had answered."""
    name = "REVALIDATE_TOKEN"
    token = {"Authorization": f"Bearer {ctx.secret(name)}"} if name in ctx.inventory.app.secrets else {}
    answer = replica.client.post(REVALIDATE, json=what, headers=token)
    assert answer.status_code == 200, f"{replica}: {answer.text}"
    return time.perf_counter()


def _other_than(name: str, old: set[str]) -> Callable[[str], bool]:
    """Whether a page says something else than it did before."""
    return lambda page: attribute(page, name) not in old


def test_page_made_on_demand(replicas: list[Replica], measure: Callable[..., None]) -> None:
    """A page that no build has made is rendered by one instance and served by all."""
    path = f"/products/{1000 + secrets.randbelow(9000)}"
    measure("renders", len({attribute(replica.get(path).text, "render") for replica in replicas}), "", 1)


def test_binary_is_whole(replicas: list[Replica], measure: Callable[..., None]) -> None:
    """A binary answer that one instance has made comes out of the cache of every other one byte for byte."""
    path = f"/products/{1000 + secrets.randbelow(9000)}/label.png"
    pictures = [replica.get(path) for replica in (*replicas, *replicas)]
    measure("different pictures", distinct(pictures), "", 1)
    assert all(picture.content.startswith(b"\x89PNG\r\n") for picture in pictures)


def test_one_regeneration_in_a_window(ctx: Context, replicas: list[Replica], measure: Callable[..., None]) -> None:
    """Under requests to all instances at once, a page with a window is made anew once in a window, not once each."""
    window = routes(ctx)[FLASH]["revalidate"]
    end = time.monotonic() + WATCHED_SECONDS

    def watch(replica: Replica) -> set[str]:
        seen = set()
        while time.monotonic() < end:
            seen.add(attribute(replica.get(FLASH).text, "render"))
            time.sleep(PAUSE)
        return seen

    with ThreadPoolExecutor(len(replicas)) as pool:
        renders = set().union(*pool.map(watch, replicas))
    # The first is of before; a window begins when the one before has ended and somebody asks. One more: an instance
    # for which Redis was late once makes a page by itself. Without a shared cache there are four times as many.
    measure(f"renders in {WATCHED_SECONDS} s", len(renders), "", WATCHED_SECONDS // window + 3)


def test_path_reaches_every_instance(ctx: Context, replicas: list[Replica], measure: Callable[..., None]) -> None:
    """A path that is revalidated on one instance is made anew by the next that is asked, once, and all serve that."""
    for number, replica in enumerate(replicas):
        path, other = f"/products/{FIRST + number}", replicas[number - 1]
        fresh = _other_than("render", {attribute(replica.get(path).text, "render")})
        took = milliseconds_until(replica, path, fresh, since=_revalidate(ctx, other, {"path": path}))
        measure(f"fresh on {replica}", took, "ms", PROPAGATION_MS)
        new = {attribute(one.get(path).text, "render") for one in replicas}
        measure("renders", len(new), "", 1)


@pytest.mark.parametrize(("tag", "path", "name"), TAGGED)
def test_tag_reaches_every_instance(
    ctx: Context, replicas: list[Replica], measure: Callable[..., None], tag: str, path: str, name: str
) -> None:
    """What is cached under a tag is made anew on every instance after one of them has revalidated the tag."""
    pages = {replica: path.format(FIRST + number) for number, replica in enumerate(replicas)}
    old = {attribute(replica.get(page).text, name) for replica, page in pages.items()}
    began = _revalidate(ctx, replicas[-1], {"tag": tag})
    for replica, took in arrivals(pages, _other_than(name, old), since=began):
        measure(f"fresh on {replica}", took, "ms", PROPAGATION_MS)


def test_stale_while_it_is_made_anew(ctx: Context, replicas: list[Replica], measure: Callable[..., None]) -> None:
    """Revalidated with a profile, old content is served until the new is made, and then by none."""
    pages, name = {replica: f"/reviews/{FIRST + number}" for number, replica in enumerate(replicas)}, "summary"
    old = {attribute(replica.get(page).text, name) for replica, page in pages.items()}
    began = _revalidate(ctx, replicas[0], {"tag": "reviews", "profile": "max"})
    for replica, took in arrivals(pages, _other_than(name, old), since=began):
        measure(f"fresh on {replica}", took, "ms", PROPAGATION_MS)
