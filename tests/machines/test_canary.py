"""A canary on two machines: shares that are kept, a release that fails and one that is slow, runs that end early."""

import json
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import PROVISION, Stack, spec
from .tiny import tiny_stack
from .visit import Site

pytestmark = pytest.mark.long
HOSTS = ("canary-1", "canary-2")
ROUTE = "/var/lib/roadbed/tiny/route"
WORKERS = "pgrep -f 'nginx: [w]orker process'"
COOKIE = "__Host-roadbed-share"
WORK = """
export const dynamic = "force-dynamic";
export async function GET() {{
  {does}
  return Response.json({{ edition: "{name}" }});
}}
"""
SICK = 'console.error("cannot reach the warehouse"); return new Response("closed", { status: 500 });'
SLOW = "await new Promise((done) => setTimeout(done, 700));"
STREAM = """
export const dynamic = "force-dynamic";
export function GET() {
  const lines = async function* () {
    for (let n = 1; n <= 20; n += 1) {
      yield new TextEncoder().encode(`line ${n}\\n`);
      await new Promise((done) => setTimeout(done, 300));
    }
  };
  return new Response(ReadableStream.from(lines()));
}
"""


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[Any]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Two machines that serve the first edition, one with each nginx. Each test leaves one good release serving."""
    machines = [spec("canary-1", 180, "trixie"), spec("canary-2", 181, "bookworm")]
    booted(machines)
    folder = tmp_path_factory.mktemp("canary")
    nginx = {
        "tls": {"mode": "self-signed"},
        "debug_headers": True,
        "limits": {"enabled": False},
        "maintenance": {"allow": ["192.168.60.181/32"]},
    }
    stack = tiny_stack(folder, machines, app={"health": "/health"}, nginx=nginx)
    stack.environment["XDG_STATE_HOME"] = str(folder / "state")
    write(stack, "health/route.js", WORK.format(does="", name="health"))
    write(stack, "stream/route.js", STREAM)
    edition(stack, "first")
    stack.converge()
    return stack


def write(stack: Stack, file: str, text: str) -> None:
    """Writes a file of the app."""
    path = stack.folder / "tiny/app" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def edition(stack: Stack, name: str, does: str = "") -> None:
    """Changes what /work answers, or does before that; and the file /edition.txt of the folder public."""
    write(stack, "work/route.js", WORK.format(does=does, name=name))
    write(stack, "../public/edition.txt", name)


@contextmanager
def deploying(stack: Stack, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """`provision deploy WORDS` at work; it has ended when the block has."""
    command = [PROVISION, "deploy", "-i", str(stack.path), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=stack.folder, env=stack.environment, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def flags(stack: Stack, host: str) -> list[str]:
    """The flags of a share on a machine."""
    return stack.ssh(host, f"cd {ROUTE} && ls -d canary.* named.* 2>/dev/null; true").split()


def share(stack: Stack) -> int:
    """How many percent of the visitors go to another slot than the active one, on all machines."""
    found = [
        len([flag for flag in flags(stack, host) if flag.count(".") == 2 and flag[:7] == "canary."]) for host in HOSTS
    ]
    return found[0] if len(set(found)) == 1 else -1


def until_share(stack: Stack, percent: int, seconds: float = 180) -> None:
    """Waits until the canary has come to a step."""
    end = time.monotonic() + seconds
    while share(stack) != percent:
        assert time.monotonic() < end, f"the share was never {percent} %"
        time.sleep(0.3)


def live(stack: Stack) -> str:
    """The release that serves, the same on both machines."""
    (release,) = {stack.ssh(host, "basename $(readlink /srv/tiny/current)").strip() for host in HOSTS}
    return release


def newest(stack: Stack) -> str:
    """The release that was uploaded last."""
    return max(stack.ssh(HOSTS[0], "ls /srv/tiny/releases").split())


class Crowd:
    """Visitors who keep no cookies, each with a browser of its own: ``rate`` requests a second to each machine."""

    def __init__(self, stack: Stack, rate: float = 25.0) -> None:
        self.answers: list[tuple[float, str, int, str]] = []
        """When, which machine, status (0: none) and the release that answered."""
        self._over = threading.Event()
        works = [(stack.address(host), worker) for host in HOSTS for worker in range(4)]
        self._pause = 4 / rate
        self._threads = [threading.Thread(target=self._visit, args=one, daemon=True) for one in works]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=40)

    def _visit(self, address: str, worker: int) -> None:
        number = 0
        with Site(address) as site:
            while not self._over.wait(self._pause):
                number += 1
                status, release = ask(site, f"visitor {worker}.{number}")
                self.answers.append((time.monotonic(), address, status, release))

    def failed(self) -> Counter[str]:
        """How many requests were not answered 200, by the release that answered; "" for none."""
        return Counter(release for _, _, status, release in self.answers if status != 200)


def ask(site: Site, browser: str) -> tuple[int, str]:
    """Status and release of /work for a visitor without cookies."""
    site.cookies.clear()
    try:
        answer = site.get("/work", headers={"User-Agent": browser})
    except httpx.HTTPError:
        return 0, ""
    return answer.status_code, answer.headers.get("x-roadbed-release", "")


def browsers(stack: Stack, host: str, number: int) -> list[str]:
    """The releases that as many visitors without cookies get."""
    with Site(stack.address(host)) as site:
        return [ask(site, f"{host} {one}")[1] for one in range(number)]


class Regular:
    """A visitor whose browser keeps cookies."""

    def __init__(self, stack: Stack, number: int) -> None:
        self.site = Site(stack.address(HOSTS[number % 2]))
        self.site.headers.update({"User-Agent": f"regular {number}"})
        self.cookie = ""
        self.first = ""

    def visit(self, **headers: str) -> str:
        """The release that answered."""
        answer = self.site.get("/work", headers={**headers, **({"Cookie": self.cookie} if self.cookie else {})})
        assert answer.status_code == 200
        for given in answer.headers.get_list("set-cookie"):
            assert not self.cookie, "the cookie was set anew"
            assert re.fullmatch(rf"{COOKIE}=\d+; Max-Age=86400; Path=/; Secure; HttpOnly; SameSite=Lax", given)
            assert "private" in answer.headers.get_list("cache-control")
            self.cookie = given.partition(";")[0]
        self.site.cookies.clear()
        return str(answer.headers["x-roadbed-release"])


def test_shares_and_visitors_who_stay(stack: Stack) -> None:
    """5, 25 and 100 %, of visitors without cookies; one with a cookie stays, and moves only to the new release."""
    old, workers = live(stack), {host: stack.ssh(host, WORKERS) for host in HOSTS}
    edition(stack, "second")
    regulars = [Regular(stack, number) for number in range(40)]
    seen: dict[int, list[str]] = {}
    with Crowd(stack, 10) as crowd, deploying(stack, "--canary", "5,25,100", "--watch", "40s") as deploy:
        for percent in (5, 25, 100):
            until_share(stack, percent)
            found = Counter(release for host in HOSTS for release in browsers(stack, host, 500))
            print(f"\n{percent} %: {found}")
            part = (1000 - found[old]) / 10
            assert abs(part - percent) <= 4 * (percent * (100 - percent) / 1000) ** 0.5
            seen[percent] = [regular.visit() for regular in regulars]
            for _ in range(2):
                assert [regular.visit() for regular in regulars] == seen[percent]
            assert [seen[percent][0]] * 100 == [regulars[0].visit() for _ in range(100)]
            assert share(stack) == percent, "the step ended too early for this test"
        new = newest(stack)
        said, _ = deploy.communicate(timeout=200)
    print(said)
    assert deploy.returncode == 0
    assert {*seen[5]} | {*seen[25]} <= {old, new}
    assert {*seen[100]} == {new}
    for before, after in zip(seen[5], seen[25], strict=True):
        assert after in (before, new), "a visitor went back"
    assert crowd.failed() == {}
    assert live(stack) == new
    assert [flags(stack, host) for host in HOSTS] == [[], []]
    assert {host: stack.ssh(host, WORKERS) for host in HOSTS} == workers
    assert regulars[0].visit() == new
    assert "set-cookie" not in Site(stack.address(HOSTS[0])).get("/work").headers
    kept = evidence(stack, new)
    assert (kept["verdict"], [step["percent"] for step in kept["steps"]]) == ("passed", [5, 25, 100])
    assert kept["steps"][1]["new"]["requests"] > 100
    assert kept["steps"][2]["new"]["failed"] == 0


def evidence(stack: Stack, release: str) -> dict[str, Any]:
    """The file that a canary leaves."""
    path = Path(stack.environment["XDG_STATE_HOME"]) / "roadbed/canary/stack" / f"{release}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def running(stack: Stack) -> dict[str, str]:
    """The instances on each machine, with the process of each."""
    shown = (
        "systemctl show -p Id,MainPID 'tiny@*.service' | paste -sd' ' | sed 's/  /\\n/g' | grep -v 'MainPID=0' | sort"
    )
    return {host: stack.ssh(host, shown) for host in HOSTS}


def aborted(stack: Stack, crowd: Crowd, before: tuple[str, dict[str, str]], output: str) -> tuple[str, dict[str, Any]]:
    """Asserts that all is as ``before`` and nothing of the new release runs. Its name and the evidence."""
    (old, processes), new = before, newest(stack)
    assert new != old
    assert live(stack) == old
    assert running(stack) == processes
    for host in HOSTS:
        assert flags(stack, host) == []
        assert stack.ssh(host, f"cat /srv/tiny/releases/{new}/.roadbed/state").strip() == "failed"
        assert stack.ssh(host, "ls /srv/tiny | grep public").split() == ["public"]
    with Site(stack.address(HOSTS[0])) as site:
        assert {ask(site, f"afterwards {number}") for number in range(50)} == {(200, old)}
    assert f"{old} serves all visitors; {new} is stopped and marked failed. Kept in " in output
    kept = evidence(stack, new)
    assert kept["verdict"] == "aborted"
    assert set(crowd.failed()) <= {new}
    return new, kept


def test_a_release_that_fails_is_taken_back(stack: Stack) -> None:
    before = live(stack), running(stack)
    edition(stack, "sick", SICK)
    with Crowd(stack) as crowd:
        done = stack.provision("deploy", "--canary", "20,100", "--watch", "60s", code=4)
    print(f"\n{len(crowd.answers)} requests, failed: {crowd.failed()}\n{done.stderr}")
    new, kept = aborted(stack, crowd, before, done.stderr)
    assert re.search(
        rf"{new} at 20 % of the visitors: \d+ of \d+ requests \(100.0 %\) failed, of the old release 0 of", done.stderr
    )
    assert "cannot reach the warehouse" in done.stderr
    assert [step["percent"] for step in kept["steps"]] == [20]
    failed = kept["failed_requests"][0]
    assert (failed["method"], failed["path"], failed["status"]) == ("GET", "/work", 500)
    assert not {"client", "user_agent", "referer"} & set(failed)


def test_a_release_that_is_slow_is_taken_back(stack: Stack) -> None:
    before = live(stack), running(stack)
    edition(stack, "slow", SLOW)
    with Crowd(stack) as crowd:
        done = stack.provision("deploy", "--canary", "30,100", "--watch", "60s", code=4)
    print(done.stderr)
    _, kept = aborted(stack, crowd, before, done.stderr)
    assert "the 95th percentile until the first byte is 7" in done.stderr
    assert crowd.failed() == {}
    assert kept["steps"][0]["new"]["p95_first_byte_ms"] >= 700


def test_open_pages_and_public_files_are_of_one_release(stack: Stack) -> None:
    """Whoever names a release gets it; files of public are those of the visitor's release. Ctrl-C ends the share."""
    old = live(stack)
    edition(stack, "third")
    with Crowd(stack, 10) as crowd:
        with deploying(stack, "--canary", "50", "--watch", "10m") as deploy:
            until_share(stack, 50)
            new = newest(stack)
            with Site(stack.address(HOSTS[1])) as site:
                for number in range(40):
                    browser = {"User-Agent": f"reader {number}"}
                    for name in (old, new):
                        assert site.get("/work", headers={**browser, "x-deployment-id": name}).json()["edition"] == (
                            "third" if name == new else "second"
                        )
                        site.cookies.clear()
                    mine = site.get("/work", headers=browser).json()["edition"]
                    site.cookies.clear()
                    assert site.get("/edition.txt", headers=browser).text == mine
            deploy.send_signal(signal.SIGINT)
            said, _ = deploy.communicate(timeout=60)
        assert deploy.returncode == 130, said
        assert [flags(stack, host) for host in HOSTS] == [[], []]
        assert evidence(stack, new)["verdict"] == "stopped"
        time.sleep(1)
        with Site(stack.address(HOSTS[0])) as site:
            assert {ask(site, f"afterwards {number}") for number in range(50)} == {(200, old)}
    assert crowd.failed() == {}


def test_a_killed_run_is_cleared_by_the_next(stack: Stack) -> None:
    """kill -9 leaves the share as it is, and the site serves; the next deploy takes it back first."""
    old = live(stack)
    with Crowd(stack) as crowd:
        with deploying(stack, "--canary", "50", "--watch", "10m") as deploy:
            until_share(stack, 50)
            deploy.kill()
        assert share(stack) == 50
        new = newest(stack)
        time.sleep(3)
        assert {release for _, _, _, release in crowd.answers[-60:]} == {old, new}
        stack.provision("deploy")
    assert crowd.failed() == {}
    assert live(stack) == new
    assert [flags(stack, host) for host in HOSTS] == [[], []]


def test_a_quiet_site_is_deployed_too(stack: Stack) -> None:
    """Too few requests are said, and it goes on."""
    edition(stack, "fourth")
    done = stack.provision("deploy", "--canary", "50", "--watch", "5s")
    assert "too few to compare times" in done.stderr
    assert live(stack) == newest(stack)


def test_maintenance(stack: Stack) -> None:
    """On and off without a reload; streams go on, the team is let in, files are served, a deploy works meanwhile."""
    address = stack.address("canary-1")
    workers = {host: stack.ssh(host, WORKERS) for host in HOSTS}
    assert json.loads(stack.provision("maintenance", "--json").stdout)["hosts"]["canary-1"]["on"] is False
    with Site(address) as site, site.stream("GET", "/stream") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "line 1"
        done = stack.provision("maintenance", "on")
        assert re.search(r"canary-2: maintenance is on since \d{4}-\d\d-\d\d [\d:]+ UTC", done.stderr)
        with Site(address) as other:
            answer = other.get("/work")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "300")
            assert answer.headers["cache-control"] == "no-store"
            assert "is being worked on" in answer.text
            assert other.post("/work").status_code == 503
            assert other.get("/edition.txt").status_code == 200
        assert list(lines)[-1] == "line 20"
    team = f"curl -ks -o /dev/null -w '%{{http_code}}' --resolve shop.example.test:443:{address} https://shop.example.test/work"
    assert stack.ssh("canary-2", team) == "200"
    since = json.loads(stack.provision("maintenance", "--json").stdout)["hosts"]
    assert {host: state["on"] for host, state in since.items()} == dict.fromkeys(HOSTS, True)
    page = stack.folder / "closed.html"
    page.write_text("<title>Closed for stocktaking</title>")
    stack.provision("maintenance", "on", "--page", str(page))
    again = json.loads(stack.provision("maintenance", "--json").stdout)["hosts"]
    assert again == {host: {**state, "own_page": True} for host, state in since.items()}
    with Site(address) as site:
        answer = site.get("/")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html")
        assert "stocktaking" in answer.text
    edition(stack, "fifth")
    stack.provision("deploy")
    with Site(address) as site:
        assert site.get("/work").status_code == 503
        stack.provision("maintenance", "off")
        assert site.get("/work").json() == {"edition": "fifth"}
    for host in HOSTS:
        assert stack.ssh(host, f"ls {ROUTE} | grep maintenance; true") == ""
        assert stack.ssh(host, WORKERS) == workers[host]
    assert [item["name"] for item in stack.converge()["operations"] if item["status"] == "changed"] == []
