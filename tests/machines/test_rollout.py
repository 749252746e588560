"""New releases of the sample app on a serving pair: one that works, one that does not build, one that is sick."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import ROOT, Stack
from .visit import Site, fields, mark, scripts, submit

PAIR = ("pair-12", "pair-13")
SICK = """
export async function GET() {
  console.error("cannot reach the warehouse");
  return new Response("the warehouse is closed", { status: 500 });
}
"""


class Visitors:
    """A few requests a second to each machine, each kind in a thread of its own; ``lost`` are those that failed."""

    def __init__(self, addresses: list[str]) -> None:
        self.lost: list[str] = []
        self.made: dict[str, int] = {}
        self._over = threading.Event()
        kinds = {"page": self.page, "fresh": self.fresh, "stream": self.stream, "order": self.order}
        self._threads = [
            threading.Thread(target=self._repeat, args=(f"{kind} {address}", work, address), daemon=True)
            for address in addresses
            for kind, work in kinds.items()
        ]

    def __enter__(self) -> "Visitors":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=40)

    def _repeat(self, name: str, work: Callable[[Site], bool], address: str) -> None:
        with Site(address, http2=not name.startswith("fresh")) as site:
            while not self._over.is_set():
                began = time.strftime("%H:%M:%S")
                try:
                    good = work(site)
                except httpx.HTTPError as error:
                    self.lost.append(f"{began} {name}: {error!r}")
                else:
                    self.made[name] = self.made.get(name, 0) + 1
                    self.lost += [] if good else [f"{began} {name}: not what was asked for"]
                self._over.wait(0.3)

    @staticmethod
    def page(site: Site) -> bool:
        """A page on a connection that is kept."""
        return site.get("/trends").status_code == 200

    @staticmethod
    def fresh(site: Site) -> bool:
        """A page on a new connection."""
        return site.get("/products/1", headers={"Connection": "close"}).status_code == 200

    @staticmethod
    def stream(site: Site) -> bool:
        """A stream of 3 s, to its end."""
        page = site.get("/streaming?chunks=6&delay=500").text
        return all(f'data-chunk="{number}"' in page for number in range(1, 7)) and page.rstrip().endswith("</html>")

    @staticmethod
    def order(site: Site) -> bool:
        """A POST that takes a second: it must not be lost, and nobody may repeat it."""
        return site.post("/api/orders?work=1000").status_code == 201


@pytest.fixture
def project(pair: Stack) -> Iterator[Path]:
    """A copy of the sample app that is the pair's source for the time being."""
    source, copy = pair.data["app"]["source"], pair.folder / "project"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("node_modules", ".next"))
    pair.write(app={"source": str(copy)})
    yield copy
    pair.write(app={"source": source})
    pair.converge()


def change(file: Path, old: str, new: str) -> None:
    """Replaces a piece of a file."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def info(pair: Stack, name: str) -> dict[str, Any]:
    """What the running release says of itself."""
    with Site(pair.address(name)) as site:
        answer: dict[str, Any] = site.get("/api/info").json()
        return answer


def test_new_release_loses_no_request_and_older_pages_go_on_working(pair: Stack, project: Path) -> None:
    before = info(pair, "pair-12")["release"]
    with Site(pair.address("pair-12")) as site:
        home, cart = site.get("/").text, site.get("/cart").text
    change(project / "pages/legacy.tsx", "<main>", "<main data-edition='second'>")
    with Visitors([pair.address(name) for name in PAIR]) as visitors:
        result = pair.converge()
        time.sleep(2)
    print(f"\n{sum(visitors.made.values())} requests")
    assert visitors.lost == []
    assert len(visitors.made) == 8
    assert {item["component"] for item in result["operations"] if item["status"] == "changed"} == {"release"}
    for name in PAIR:
        after = info(pair, name)["release"]
        assert after != before
        releases = pair.ssh(name, "ls /srv/storefront/releases; readlink /srv/storefront/current").split()
        assert {before, after} <= set(releases)
        assert releases[-1] == f"releases/{after}"
        with Site(pair.address(name), http2=True) as site:
            assert mark(site.get("/legacy").text, "edition") == "second"
            for file in scripts(home):
                assert site.get(file).status_code == 200
            answer = submit(site, "/cart", {**fields(cart), "product": "3"}).text.replace("<!-- -->", "")
            assert f"in cart {mark(cart, 'cart')}; page from release {before}, action on {after}" in answer
    assert not [item for item in pair.converge()["operations"] if item["status"] == "changed"]


@pytest.fixture
def broken(pair: Stack) -> Iterator[Path]:
    """A small project in the place of the sample app, to be spoilt; afterwards the pair's source is as before."""
    source, copy = pair.data["app"]["source"], pair.folder / "broken"
    shutil.copytree(ROOT / "tests/machines/projects/tiny", copy, ignore=shutil.ignore_patterns("node_modules"))
    pair.write(app={"source": str(copy)})
    yield copy
    pair.write(app={"source": source})
    shutil.rmtree(copy)


def test_build_that_fails_shows_its_log_and_touches_no_machine(pair: Stack, broken: Path) -> None:
    before = {name: info(pair, name) for name in PAIR}
    (broken / "app/page.js").write_text("export default function Page() { return <h1>; }\n")
    with Visitors([pair.address(name) for name in PAIR]) as visitors:
        failed = pair.provision("phase1", code=4)
    assert visitors.lost == []
    assert "`next build` failed" in failed.stderr
    assert "app/page.js" in failed.stderr.partition("build.log")[2]
    assert "connected to" not in failed.stderr
    assert {name: info(pair, name)["release"] for name in PAIR} == {name: before[name]["release"] for name in PAIR}


def test_release_whose_health_answers_500_gets_no_traffic(pair: Stack, broken: Path) -> None:
    before = {name: info(pair, name)["release"] for name in PAIR}
    sick = broken / "app/api/info/route.js"
    sick.parent.mkdir(parents=True)
    sick.write_text(SICK)
    with Visitors([pair.address(name) for name in PAIR]) as visitors:
        failed = pair.provision("phase1", code=4)
    assert visitors.lost == []
    assert {name: info(pair, name)["release"] for name in PAIR} == before
    for name in PAIR:
        assert f"{name}: storefront@" in failed.stderr
        assert f"{name}: {before[name]} goes on serving" in failed.stderr
    for reason in ("HTTP 500", "the warehouse is closed", "cannot reach the warehouse"):
        assert reason in failed.stderr


def test_run_after_failures_has_nothing_to_do(pair: Stack) -> None:
    result = pair.converge()
    assert [item["name"] for item in result["operations"] if item["status"] == "changed"] == []
