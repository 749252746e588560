"""Edge: what nginx keeps of pages, for whom, and for how long. Images: see test_images.py."""

import secrets
import time
from collections.abc import Callable

import httpx
import pytest
from testinfra.host import Host

from roadbed.checks.replicas import routes
from roadbed.checks.web import client, log_line, sni
from roadbed.deploys import edge
from roadbed.deploys.context import Context

KEPT = ("HIT", "STALE", "UPDATING")
ATTEMPTS = 4
"""A page that is asked for at the end of its time is made anew; the next attempt is not at the end."""
UNKNOWN = "/.well-known/roadbed-check"


def applies(ctx: Context) -> bool:
    """In the phases that bring it, for a release with a page that may be shared whatever middleware decides."""
    open_to_all = ctx.inventory.edge.guarded or not ctx.manifest.get("guarded")
    return ctx.reached("phase2") and _path(ctx) is not None and open_to_all


def _path(ctx: Context) -> str | None:
    """A page of the app that declares s-maxage: one that the build has made."""
    made = [route for route in routes(ctx).values() if route["kind"] == "page" and route["prerendered"]]
    shared = [route for route in made if route["rendering"] in ("isr", "static")]
    return str(ctx.manifest["base_path"] + shared[0]["prerendered"][0]) if shared else None


@pytest.fixture
def path(ctx: Context) -> str:
    """A page that may be kept, with a query that no visitor has."""
    return f"{_path(ctx)}?roadbed-check={secrets.token_hex(8)}"


def _get(ctx: Context, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """As a visitor who has never been here: without cookies."""
    with client(ctx) as session:
        answer = session.get(path, headers=headers, extensions=sni(ctx))
    assert answer.status_code == 200, f"{path} answered {answer.status_code}"
    return answer


def _how(host: Host, answer: httpx.Response) -> str:
    """What nginx's cache had to do with an answer; empty when it was not asked."""
    return str(log_line(host, answer.headers["x-request-id"])["edge"])


def _kept(ctx: Context, host: Host, path: str, headers: dict[str, str] | None = None) -> list[httpx.Response]:
    """Two answers in a row, the second from the cache. Raises AssertionError when it never is."""
    seen = []
    for _ in range(ATTEMPTS):
        pair = [_get(ctx, path, headers) for _ in range(2)]
        seen.append(_how(host, pair[1]))
        if seen[-1] in KEPT:
            return pair
    raise AssertionError(f"{path}: the second of two requests was answered {', '.join(seen)}")


def test_switched_as_declared(host: Host, ctx: Context) -> None:
    """What nginx keeps is switched by files that it looks at, as the inventory has it."""
    found = {what: host.file(f"{ctx.inventory.app.route}/{flag}").exists for what, flag in edge.FLAGS.items()}
    assert found == {what: edge.on(ctx, what) for what in edge.FLAGS}


def test_second_visitor_is_answered_by_nginx(ctx: Context, host: Host, path: str) -> None:
    """A page that declares s-maxage reaches the next visitor without the app, the same to the byte."""
    if not ctx.inventory.edge.pages:
        assert _how(host, _get(ctx, path)) == ""
        return
    first, second = _kept(ctx, host, path)
    assert first.content == second.content
    assert "s-maxage" in second.headers["cache-control"]


def test_nothing_old_is_kept(ctx: Context, host: Host, path: str) -> None:
    """A page that nobody has asked for in the meantime comes from the app: what is kept is never older than 5 s."""
    _get(ctx, path)
    time.sleep(edge.PAGE_SECONDS + 0.1)
    assert _how(host, _get(ctx, path)) not in KEPT


def test_pages_and_their_data_never_mix(ctx: Context, host: Host) -> None:
    """HTML and the data that the router fetches from the same URL are kept apart."""
    pages = [route for route in routes(ctx).values() if route["router"] == "app" and route["kind"] == "page"]
    shared = [route for route in pages if route["prerendered"] and route["rendering"] in ("isr", "static")]
    for route in shared[:2]:
        path = f"{ctx.manifest['base_path']}{route['prerendered'][0]}?roadbed-check={secrets.token_hex(8)}"
        with client(ctx) as session:  # Next.js 16 adds a hash to the URL of data that is asked for without one
            asked = session.get(path, headers={"RSC": "1"}, extensions=sni(ctx))
        path = asked.headers.get("location", path)
        for headers, kind in ((None, "text/html"), ({"RSC": "1"}, "text/x-component")) * 2:
            assert _get(ctx, path, headers).headers["content-type"].startswith(kind)
        if ctx.inventory.edge.pages:
            assert _kept(ctx, host, path, {"RSC": "1"})[1].headers["content-type"].startswith("text/x-component")


@pytest.mark.parametrize(
    "headers", [{"Cookie": "a=b"}, {"Authorization": "Basic cm9hZGJlZDpjaGVjaw=="}, {"Range": "bytes=0-99"}]
)
def test_what_is_somebodys_own_comes_from_the_app(ctx: Context, host: Host, path: str, headers: dict[str, str]) -> None:
    """A request with a cookie, with a password or for a part is answered by the app."""
    _get(ctx, path)
    with client(ctx) as session:
        answer = session.get(path, headers=headers, extensions=sni(ctx))
    assert _how(host, answer) == ""


def test_who_writes_sees_the_result(ctx: Context, host: Host, path: str) -> None:
    """After a request that may have changed something, this visitor's next page comes from the app."""
    with client(ctx) as session:
        session.post(UNKNOWN, extensions=sni(ctx))
        marked = "__Host-roadbed-fresh" in session.cookies
        answer = session.get(path, extensions=sni(ctx))
    assert marked == ctx.inventory.edge.pages
    assert _how(host, answer) == ""


def test_dynamic_pages_are_not_kept(ctx: Context, host: Host, measure: Callable[..., None]) -> None:
    """What does not declare s-maxage comes from the app every time."""
    paths = [path for path in (ctx.inventory.app.health, ctx.inventory.app.streaming, UNKNOWN) if path]
    asked = 0
    for path in paths:
        with client(ctx) as session:
            answers = [session.get(path, extensions=sni(ctx)) for _ in range(2)]
        if all("s-maxage" not in answer.headers.get("cache-control", "") for answer in answers):
            asked += 1
            assert not {_how(host, answer) for answer in answers} & set(KEPT), path
    measure("pages asked", asked, "", 1, at_least=True)
