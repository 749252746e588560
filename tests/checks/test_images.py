"""Images: every web host keeps what was resized, in each format that browsers take."""

import pytest
from testinfra.host import Host

from roadbed.checks.images import Variant, kept_here, served
from roadbed.checks.web import client, log_line, sni
from roadbed.deploys.context import Context

ROLES = ("web",)


def applies(ctx: Context) -> bool:
    """Where images are kept, and the release has some."""
    return kept_here(ctx)


@pytest.fixture(scope="module")
def known() -> dict[str, Variant | None]:
    """A variant that the app makes, for each web host: found once."""
    return {}


@pytest.fixture
def variant(ctx: Context, known: dict[str, Variant | None]) -> Variant:
    """One variant of an image of the release."""
    if ctx.name not in known:
        known[ctx.name] = served(ctx)
    found = known[ctx.name]
    assert found, "the app makes none of its images: set edge.images to false if it resizes none"
    return found


def test_image_is_kept(ctx: Context, host: Host, variant: Variant) -> None:
    """An image that this web host has comes without the app, the same to the byte."""
    with client(ctx) as session:
        answers = [session.get(variant.path, headers={"Accept": variant.accept}, extensions=sni(ctx)) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    line = log_line(host, answers[-1].headers["x-request-id"])
    assert (line["edge"], line["upstream"]) == ("HIT", "")


def test_browser_keeps_it_too(ctx: Context, variant: Variant) -> None:
    """A browser that has the image is told so without being sent it again."""
    with client(ctx) as session:
        first = session.get(variant.path, headers={"Accept": variant.accept}, extensions=sni(ctx))
        headers = {"Accept": variant.accept, "If-None-Match": first.headers["etag"]}
        assert session.get(variant.path, headers=headers, extensions=sni(ctx)).status_code == 304


def test_formats_are_kept_apart(ctx: Context, variant: Variant) -> None:
    """A browser gets no format that it does not take, whatever others have asked for before."""
    with client(ctx) as session:
        for accept in ("image/avif,image/webp,*/*", "*/*", "image/webp,*/*"):
            kind = session.get(variant.path, headers={"Accept": accept}, extensions=sni(ctx)).headers["content-type"]
            assert kind in accept or kind in ("image/jpeg", "image/png"), f"{accept} got {kind}"


def test_passwords_go_past_it(ctx: Context, host: Host, variant: Variant) -> None:
    """A request with a password is answered by the app, not by what others were sent."""
    headers = {"Accept": variant.accept, "Authorization": "Basic cm9hZGJlZDpjaGVjaw=="}
    with client(ctx) as session:
        answer = session.get(variant.path, headers=headers, extensions=sni(ctx))
    assert log_line(host, answer.headers["x-request-id"])["edge"] == "BYPASS"
