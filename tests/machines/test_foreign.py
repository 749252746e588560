"""A foreign app on the fleet, unmodified: plain JavaScript, Pages Router alone, npm, an older Next.js, a base path,
two languages. It takes the place of the sample app, and gives it back at the end.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import Grown, Stack
from .test_phases import changes
from .visit import Site, mark, scripts

PROJECT = Path(__file__).with_name("projects") / "classic"
WEB, APPS = "fleet-web", ("fleet-app1", "fleet-app2")
SETTINGS = {
    "source": str(PROJECT),
    "health": "/library/api/status/",
    "streaming": None,
    "migrate": None,
    "env": {"LIBRARY_GREETING": "Good evening"},
}
EXPECTED = {
    "/library/": (200, "Middlemarch"),
    "/library/de/": (200, "Der Wüstenplanet"),
    "/library/books/dune/": (200, ">Dune<"),
    "/library/books/volume-3/": (200, ">Volume 3<"),
    "/library/de/books/volume-3/": (200, ">Band 3<"),
    "/library/authors/herbert/": (200, ">Dune<"),
    "/library/search/?q=mom": (200, 'data-greeting="Good evening"'),
    "/library/about/": (200, "Open from nine"),
    "/library/de/about/": (200, "Geöffnet von neun"),
    "/library/history/": (200, 'data-paragraphs="2"'),
    "/library/books/nope/": (404, "Not in our collection"),
    "/library/de/nope/": (404, "Nicht im Bestand"),
    "/library/search/?q=crash": (500, "Please ask at the desk"),
    "/library/robots.txt": (200, "Disallow: /library/api/"),
    "/": (404, "Not in our collection"),
}
WINDOW = 5
"""Seconds for which the first page is kept (``pages/index.js``)."""


@dataclass
class Foreign:
    """The fleet with the foreign app: what the run said, its release, and client files of the app before."""

    stack: Stack
    result: dict[str, Any]
    release: str
    former: list[str]

    @property
    def address(self) -> str:
        """Of the web host."""
        return self.stack.address(WEB)


@pytest.fixture(scope="module")
def foreign(grown: Grown) -> Iterator[Foreign]:
    """The foreign app in the place of the sample app; that one is back afterwards."""
    stack = grown.stack
    before = dict(stack.data["app"])
    with Site(stack.address(WEB)) as site:
        former = scripts(site.get("/").text)
    stack.data["app"] = {**before, **SETTINGS}
    stack.write()
    try:
        result = stack.converge(phase="phase3")
        current = stack.ssh(APPS[0], "readlink -f /srv/storefront/current").strip()
        yield Foreign(stack, result, Path(current).name, former)
    finally:
        stack.data["app"] = before
        stack.write()
        stack.converge(phase="phase3")
    with Site(stack.address(WEB)) as site:
        assert site.get("/api/info").status_code == 200


@pytest.fixture
def site(foreign: Foreign) -> Iterator[Site]:
    """A visitor with HTTP/1.1 and one connection."""
    with Site(foreign.address) as client:
        yield client


def instances(foreign: Foreign) -> list[tuple[str, str]]:
    """(host, address and port) of every instance of the release."""
    found = []
    for host in APPS:
        ports = foreign.stack.ssh(host, "ss -Hltn | grep -oE ':50[0-9]{2} ' | sort -u").split()
        for place in (f"127.0.0.1{port}" for port in ports):
            said = foreign.stack.ssh(host, f"curl -sS -m 5 -o /dev/null -D - http://{place}/library/about/")
            if f"x-roadbed-release: {foreign.release}".lower() in said.lower():
                found.append((host, place))
    return found


def ask(foreign: Foreign, where: tuple[str, str], path: str, *words: str) -> str:
    """The body that one instance answers, as it would answer nginx."""
    host, place = where
    return foreign.stack.ssh(
        host, f"curl -sS -m 10 -H 'Host: shop.example.test' {' '.join(words)} http://{place}{path}"
    )


def test_nothing_but_the_app_changes(foreign: Foreign) -> None:
    """The machines stay as they are: no other component has anything to do."""
    changed = {item["component"] for item in foreign.result["operations"] if item["status"] == "changed"}
    assert changed <= {"app", "release"}
    manifest = json.loads(foreign.stack.ssh(APPS[0], "cat /srv/storefront/current/.roadbed/manifest.json"))
    assert manifest["next"].startswith("15.5.")
    assert {route["router"] for route in manifest["routes"]} == {"pages"}
    assert changes(foreign.stack.converge(phase="phase3")) == []


@pytest.mark.parametrize("path", EXPECTED)
def test_every_kind_of_page(site: Site, path: str) -> None:
    status, text = EXPECTED[path]
    for _ in range(4):
        answer = site.get(path)
        assert answer.status_code == status
        assert text in answer.text


def test_what_the_app_sets_itself(site: Site) -> None:
    """Its headers, its middleware, its redirects, its methods."""
    home = site.get("/library/")
    assert home.headers["x-frame-options"] == "SAMEORIGIN"
    assert home.headers["x-library-locale"] == "en"
    assert "x-powered-by" not in home.headers
    for path, place in (
        ("/library/books/dune", "/library/books/dune/"),
        ("/library/catalogue/dune/", "/library/books/dune"),
        ("/library/books/lost/", "/library/about"),
    ):
        answer = site.get(path)
        assert answer.status_code in (307, 308)
        assert answer.headers["location"] == place
    assert site.put("/library/api/loans/7/", json={"reader": "Ada"}).json()["reader"] == "Ada"
    assert site.delete("/library/api/loans/7/").status_code == 405


def test_files_come_from_disk(foreign: Foreign, site: Site) -> None:
    """Client and public files lie under the base path, and no instance is asked; those of the app before stay."""
    files = [file for file in scripts(site.get("/library/").text) if "_buildManifest" not in file]
    assert len(files) > 4
    here = "curl -ksS -o /dev/null -D - --resolve shop.example.test:443:127.0.0.1 https://shop.example.test"
    for path in [f"/library{file}" for file in files] + ["/library/robots.txt", "/library/reading-room.png"]:
        head = foreign.stack.ssh(WEB, f"{here}{path}").lower()
        assert " 200" in head.splitlines()[0], path
        assert "x-roadbed-instance" not in head, f"{path} came from an instance"
    assert "x-roadbed-instance" in foreign.stack.ssh(WEB, f"{here}/library/about/").lower()
    assert foreign.former
    assert {site.get(file).status_code for file in foreign.former} == {200}


def test_images(site: Site) -> None:
    """One of the public folder and an imported one, in the format that the browser takes."""
    imported = re.search(r"url=(%2Flibrary%2F_next%2Fstatic%2Fmedia%2F[^&]+)&", site.get("/library/").text)
    assert imported
    for source in ("%2Flibrary%2Freading-room.png", imported[1]):
        answer = site.get(f"/library/_next/image/?url={source}&w=640&q=75", headers={"Accept": "image/webp"})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/webp"


def test_one_page_for_all_instances(foreign: Foreign) -> None:
    """A page that no build has made is made once, and is the same on both hosts; so is its data."""
    all_of_them = instances(foreign)
    assert len(all_of_them) == 4
    path = f"/library/books/volume-{20 + int(time.time()) % 150}/"
    assert len({ask(foreign, one, path) for one in all_of_them}) == 1
    assert made(foreign, path.removeprefix("/library").rstrip("/")) == 1


def made(foreign: Foreign, page: str) -> int:
    """How often the instances of both hosts have made a page, by their journals."""
    count = f"journalctl -o cat -u 'storefront@*' | grep -c '^made {page} ' || true"
    return sum(int(foreign.stack.ssh(host, count)) for host in APPS)


def test_revalidation_reaches_every_instance(foreign: Foreign) -> None:
    """``res.revalidate()`` on one instance: the others have the new page when it has answered."""
    first, *others = instances(foreign)
    path = "/library/books/middlemarch/"
    ask(foreign, first, path)
    time.sleep(1)
    old = mark(ask(foreign, first, path), "made")
    body = "-H 'content-type: application/json' -d '{\"path\": \"/books/middlemarch\"}'"
    assert "revalidated" in ask(foreign, first, "/library/api/revalidate/", body)
    pages = {mark(ask(foreign, one, path), "made") for one in (*others, first)}
    assert len(pages) == 1
    assert old not in pages


@contextmanager
def _visits(site: Site, path: str) -> Iterator[list[int]]:
    """Asks for a page ten times a second meanwhile; gives the status of each answer."""
    answers: list[int] = []
    ended = threading.Event()

    def visit() -> None:
        while not ended.wait(0.1):
            answers.append(site.get(path).status_code)

    thread = threading.Thread(target=visit, daemon=True)
    thread.start()
    yield answers
    ended.set()
    thread.join(30)


def test_one_regeneration_in_a_window(foreign: Foreign, site: Site) -> None:
    """All four instances together make the first page anew once in its 5 s."""
    before = made(foreign, "/ en")
    with _visits(site, "/library/") as answers:
        time.sleep(4 * WINDOW)
    count = made(foreign, "/ en") - before
    print(f"\n{len(answers)} requests in {4 * WINDOW} s, window {WINDOW} s: {count} regenerations")
    assert len(answers) > 50
    assert set(answers) == {200}
    assert 3 <= count <= 5


def test_everything_is_proven(foreign: Foreign) -> None:
    """The checks and probes that are for any app hold for this one too."""
    done = foreign.stack.provision("verify", "--json", "--disruptive", code=None)
    checks = json.loads(done.stdout)["checks"]
    assert [f"{item['host']}: {item['claim']}: {item['problem']}" for item in checks if not item["passed"]] == []
    assert {"app", "nginx", "shared_cache", "outage", "releases", "redis"} <= {item["component"] for item in checks}
