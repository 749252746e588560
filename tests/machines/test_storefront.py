"""The sample app through nginx, as visitors meet it: caching, actions, images, files, streams, uploads."""

import hashlib
import json
import os
from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest

from roadbed.engine.load import load
from roadbed.engine.secrets import ACTION_KEY, Secrets
from roadbed.releases.action_key import fingerprint

from .conftest import Stack
from .visit import DOMAIN, Site, arrivals, fields, mark, scripts, submit

WEBP, AVIF = "image/webp,*/*", "image/avif,image/webp,*/*"


@pytest.fixture(params=["pair-12", "pair-13"])
def site(pair: Stack, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A visitor with HTTP/1.1 and one connection, so that nginx asks the instances in turn."""
    with Site(pair.address(request.param)) as client:
        yield client


@pytest.fixture(params=["pair-12", "pair-13"])
def h2(pair: Stack, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A visitor with HTTP/2."""
    with Site(pair.address(request.param), http2=True) as client:
        yield client


def test_both_versions_of_http(site: Site, h2: Site) -> None:
    assert site.get("/").http_version == "HTTP/1.1"
    assert h2.get("/").http_version == "HTTP/2"


def test_page_made_on_demand_is_made_once(site: Site) -> None:
    path = f"/products/{4000 + os.getpid() % 5000}"
    pages = [site.get(path) for _ in range(8)]
    assert {page.status_code for page in pages} == {200}
    assert len({mark(page.text, "render") for page in pages}) == 1
    assert site.get("/products/no-number").status_code == 404


def test_revalidation_by_path_makes_a_page_anew(site: Site) -> None:
    """Without a shared cache each instance has to be told; one connection reaches them in turn."""
    old = mark(site.get("/products/2").text, "render")
    for _ in range(6):
        assert site.post("/api/revalidate", json={"path": "/products/2"}).json()["revalidated"] == "/products/2"
    assert old not in {mark(site.get("/products/2").text, "render") for _ in range(6)}


def test_revalidation_by_tag_makes_a_quote_anew(site: Site) -> None:
    old = {mark(site.get("/prices/7").text, "quote") for _ in range(6)}
    assert len(old) <= 2, "each of the two instances keeps its quote"
    for _ in range(6):
        assert site.post("/api/revalidate", json={"tag": "price-7"}).status_code == 200
    fresh = {mark(site.get("/prices/7").text, "quote") for _ in range(6)}
    assert not old & fresh
    assert len(fresh) <= 2


def test_server_action_with_closure_works_without_javascript(site: Site) -> None:
    page = site.get("/cart").text
    answers = [submit(site, "/cart", {**fields(page), "product": "2"}) for _ in range(4)]
    for answer in answers:  # from whichever instance: they share the key
        assert answer.status_code == 200
        assert f"is in cart {mark(page, 'cart')}" in answer.text.replace("<!-- -->", "")


def test_server_action_from_another_origin_is_refused(site: Site) -> None:
    inputs = {name: (None, value) for name, value in fields(site.get("/cart").text).items()}
    answer = site.post("/cart", files=inputs, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 500
    assert "is in cart" not in answer.text


@pytest.mark.parametrize(("accept", "kind"), [(WEBP, "image/webp"), (AVIF, "image/avif"), ("*/*", "image/jpeg")])
def test_images_are_made_in_the_format_the_browser_takes(h2: Site, accept: str, kind: str) -> None:
    image = "/_next/image?url=%2Fimages%2Ftrack.jpg&w=640&q=75"
    original = h2.get("/images/track.jpg")
    small = h2.get(image, headers={"Accept": accept})
    assert (small.status_code, small.headers["content-type"]) == (200, kind)
    assert small.headers["vary"].lower() == "accept"
    assert 1000 < len(small.content) < len(original.content)
    again = h2.get(image, headers={"Accept": accept})
    assert again.content == small.content


def test_files_come_from_disk_even_while_no_instance_runs(pair: Stack) -> None:
    name, path = "pair-13", "/images/gauge.png"
    with Site(pair.address(name), http2=True) as visitor:
        files = scripts(visitor.get("/").text)
        assert len(files) >= 3
        pair.ssh(name, "systemctl stop storefront.target")
        try:
            for file in files:
                answer = visitor.get(file)
                assert answer.status_code == 200
                assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert visitor.get(path).headers["content-type"] == "image/png"
            down = visitor.get("/")
            assert (down.status_code, down.headers["retry-after"]) == (502, "5")
            assert "<html" in down.text
        finally:
            pair.ssh(name, "systemctl start storefront.target")
        assert visitor.get("/").status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity"])
def test_streamed_page_arrives_chunk_by_chunk(site: Site, encoding: str) -> None:
    markers = ["data-shell", *(f'data-chunk="{number}"' for number in (1, 2, 3, 4))]
    seen = arrivals(site, "/streaming?chunks=4&delay=250", markers, **{"Accept-Encoding": encoding})
    assert list(seen.times) == markers
    assert seen.times["data-shell"] < 0.9 * seen.times['data-chunk="1"']
    for before, after in pairwise(list(seen.times.values())[1:]):
        assert 0.1 < after - before < 1.0


def test_events_arrive_one_by_one(h2: Site) -> None:
    markers = [f'"tick":{number}' for number in range(1, 6)]
    seen = arrivals(h2, "/api/events?count=5&interval=200", markers)
    assert list(seen.times) == markers
    assert all(0.08 < after - before < 1.0 for before, after in pairwise(seen.times.values()))


def test_upload_within_the_limit_arrives_whole(site: Site) -> None:
    data = os.urandom(8 * 2**20)
    answer = site.post("/api/upload", content=data).json()
    assert answer == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_upload_over_the_limit_is_refused_before_it_is_read(site: Site) -> None:
    assert site.post("/api/upload", content=b"x" * (10 * 2**20 + 1)).status_code == 413


def test_pages_router_and_moved_address(site: Site) -> None:
    pages = [site.get("/legacy") for _ in range(2)]
    assert len({mark(page.text, "render") for page in pages}) == 2
    assert pages[0].headers["x-storefront-proxy"] == "1"
    moved = site.get("/items/3")
    assert (moved.status_code, moved.headers["location"]) == (308, "/products/3")


def test_http_goes_to_https(site: Site) -> None:
    answer = httpx.get(
        f"http://{site.base_url.host}/products/3?a=b", headers={"Host": DOMAIN}, trust_env=False, follow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (308, f"https://{DOMAIN}/products/3?a=b")


def test_manifest_names_the_stack_s_action_key(pair: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADBED_IDENTITY", pair.environment["ROADBED_IDENTITY"])
    key = Secrets(load(str(pair.path)).beside(".secrets.age")).get(ACTION_KEY).encode()
    for name in ("pair-12", "pair-13"):
        manifest = json.loads(pair.ssh(name, "cat /srv/storefront/current/.roadbed/manifest.json"))
        assert manifest["key_fingerprint"] == fingerprint(key)
        assert key.decode() not in json.dumps(manifest)
