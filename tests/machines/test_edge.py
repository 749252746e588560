"""The edge on two web hosts and two app hosts: work of the fleet, switches, coherence, purge hook, image service."""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roadbed.deploys.edge import PAGE_SECONDS
from roadbed.engine.secrets import Secrets
from roadbed.machines.model import MachineSpec

from .conftest import Stack, make_stack, spec
from .visit import Site, mark
from .visitors import Visitors

pytestmark = pytest.mark.long

WEB, APP = ("edge-web1", "edge-web2"), ("edge-app1", "edge-app2")
PORT = 9099
ROUTE = "/var/lib/roadbed/storefront/route"
ACTIVE = "$(systemctl list-units --plain --no-legend --state=active 'storefront@*' | awk '{print $1}')"
CURL = ("/usr/bin/curl", "-fsS", "-m", "5", "--json", "@-")


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Debian 12 and 13 mixed, at phase3, with a receiver on the first app host that gets the purge calls."""
    specs = [
        spec(WEB[0], 40, "bookworm"),
        spec(WEB[1], 41, "trixie"),
        spec(APP[0], 42, "trixie"),
        spec(APP[1], 43, "bookworm"),
    ]
    booted(specs)
    stack = make_stack(tmp_path_factory.mktemp("edge"), specs)
    for name, roles in {WEB[0]: ["web", "cache"], WEB[1]: ["web"], APP[0]: ["app"], APP[1]: ["app"]}.items():
        stack.data["hosts"][name]["roles"] = roles
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROADBED_IDENTITY", stack.environment["ROADBED_IDENTITY"])
        Secrets(stack.path.with_name("stack.secrets.age")).set("CDN_TOKEN", "of-the-cdn")
    stack.write(
        app={"cdn": {"purge": {"url": f"http://{stack.address(APP[0])}:{PORT}/url", "secret": "CDN_TOKEN"}}},
        firewall={"allow": [{"port": PORT}]},
        nginx={"limits": {"requests": 1000, "burst": 1000}},
        redis={"cache_memory": 64, "durable_memory": 32},
    )
    stack.first = stack.converge(phase="phase3")
    program = Path(__file__).with_name("receiver.cjs").read_text()
    stack.ssh(APP[0], "cat >/root/receiver.cjs", stdin=program)
    stack.ssh(
        APP[0], "systemd-run -q --unit receiver $(ls /opt/roadbed/node/*/bin/node | tail -n 1) /root/receiver.cjs"
    )
    return stack


@pytest.fixture
def sites(stack: Stack) -> Iterator[list[Site]]:
    """A visitor of each web host, who keeps no cookies."""
    clients = [Site(stack.address(name)) for name in WEB]
    yield clients
    for client in clients:
        client.close()


def told(stack: Stack) -> list[dict[str, Any]]:
    """What the receiver has been told."""
    found: list[dict[str, Any]] = json.loads(stack.ssh(APP[0], f"curl -sS -m 5 http://127.0.0.1:{PORT}/seen"))
    return found


def waited(stack: Stack, tag: str, seconds: float = 20) -> dict[str, Any]:
    """The call that told the receiver of a tag or path."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if call := next((one for one in told(stack) if tag in one["tags"] + one["paths"]), None):
            return call
        time.sleep(0.3)
    raise AssertionError(f"nobody was told of {tag}")


def changes(result: dict[str, Any]) -> list[str]:
    """Names of the operations that changed something."""
    return [f"{one['host']}: {one['name']}" for one in result["operations"] if one["status"] == "changed"]


def probes(stack: Stack, *names: str, code: int = 0) -> list[dict[str, Any]]:
    """The results of some probes of `provision verify`."""
    found: list[dict[str, Any]] = json.loads(
        stack.provision("verify", "phase3", "--only", ",".join(names), "--json", code=code).stdout
    )["checks"]
    return found


def test_everything_is_proven(stack: Stack) -> None:
    """Every probe of the edge, and streaming with the edge on; one run of Sharp for 60 requests to two web hosts."""
    checks = probes(stack, "edge", "images", "image_work", "streaming", "nginx", "app")
    assert [f"{one['host']}: {one['claim']}: {one['problem']}" for one in checks if not one["passed"]] == []
    work = {name: value for one in checks if one["component"] == "image_work" for name, value in one["measured"]}
    print(work)
    assert {value.split()[0] for name, value in work.items() if name.startswith(("runs", "files"))} == {"1"}
    assert all(sum(one["host"] == name for one in checks) >= 30 for name in WEB)


@pytest.mark.mutation
def test_every_instance_for_itself(stack: Stack) -> None:
    """Without one instance for each image, and without the lock, several resize the same one."""
    script = "'s/hash .* consistent;//; s/proxy_cache_lock on;/proxy_cache_lock off;/'"
    file, reload = "/etc/nginx/nginx.conf", "nginx -t -q && systemctl reload nginx && sleep 1"
    try:
        for name in WEB:
            stack.ssh(name, f"cp -p {file} /root/kept && sed -i -E {script} {file} && {reload}")
        [work] = [one for one in probes(stack, "image_work", code=5) if not one["passed"]]
        assert "runs of Sharp" in work["problem"]
        print(work["problem"])
    finally:
        for name in WEB:
            stack.ssh(name, f"mv /root/kept {file} && {reload}")


def test_second_run_has_nothing_to_do(stack: Stack) -> None:
    assert changes(stack.converge(phase="phase3")) == []


def test_images_of_public_belong_to_their_release(stack: Stack, sites: list[Site]) -> None:
    """A file of public may change under its name, a file with its hash in the name cannot."""
    hashed = re.search(r"/_next/image\?url=%2F_next%2Fstatic%2Fmedia%2F[^\" ]+", sites[0].get("/gallery").text)
    assert hashed
    for path in (hashed[0].replace("&amp;", "&"), "/_next/image?url=%2Fimages%2Fgauge.png&w=64&q=75"):
        assert sites[0].get(path, headers={"Accept": "image/webp"}).status_code == 200
    keys = stack.ssh(WEB[0], "grep -rha ^KEY: /var/cache/nginx/images").splitlines()
    release = stack.ssh(WEB[0], "basename $(readlink -f /srv/storefront/current)").strip()
    of_public = [key for key in keys if "gauge.png" in key]
    of_import = [key for key in keys if "static%2Fmedia" in key]
    assert of_public
    assert of_import
    assert all(release in key and "storefront_" in key for key in of_public)
    assert not any(release in key or "storefront_" in key for key in of_import)


def test_many_visitors_cost_the_app_little(sites: list[Site]) -> None:
    """A slow answer that declares s-maxage: made about once a second, however many ask."""
    path = f"/api/rates?work=200&check={secrets.token_hex(4)}"
    end, rates, requests = time.monotonic() + 10, set(), 0
    while time.monotonic() < end:
        rates.add(sites[0].get(path).json()["rate"])
        requests += 1
        time.sleep(0.02)
    print(f"{requests} requests, {len(rates)} made by the app")
    assert requests > 150
    assert len(rates) <= 12


def test_what_sets_a_cookie_is_nobody_elses(sites: list[Site]) -> None:
    answers = [sites[0].get("/api/rates?visit=1") for _ in range(6)]
    assert len({answer.headers["set-cookie"] for answer in answers}) == 6
    assert len({answer.json()["rate"] for answer in answers}) == 6


def test_revalidated_page_is_soon_fresh_for_all(stack: Stack, sites: list[Site]) -> None:
    """The one who revalidates sees the new page at once, all others on both web hosts within seconds."""
    path = "/products/3"
    watched = [(site, mark(site.get(path).text, "render")) for site in sites]
    with Site(stack.address(WEB[0])) as editor:
        assert editor.post("/api/revalidate", json={"path": path}).status_code == 200
        assert mark(editor.get(path).text, "render") != watched[0][1]
    began = time.monotonic()
    for site, old in watched:
        while mark(site.get(path).text, "render") == old:
            assert time.monotonic() - began <= PAGE_SECONDS + 1
            time.sleep(0.1)
        print(f"{site.base_url.host}: fresh after {time.monotonic() - began:.2f} s")


def test_switched_off_and_on_without_a_reload(stack: Stack, sites: list[Site]) -> None:
    """The caches stop and begin under requests; nginx keeps its workers, and no request fails."""
    workers = "pgrep -x nginx | sort"
    before = {name: stack.ssh(name, workers) for name in WEB}
    with Visitors(stack.address(WEB[1]), "shop.example.test") as visitors:
        stack.write(edge={"pages": False, "images": False})
        off = changes(stack.converge(phase="phase3"))
        rates = {sites[1].get("/api/rates").json()["rate"] for _ in range(5)}
        assert "set-cookie" not in sites[1].post("/api/upload", content=b"x").headers
        stack.write(edge={"pages": True, "images": True})
        on = changes(stack.converge(phase="phase3"))
    assert sorted(off) == sorted(
        f"{name}: Switch the cache of {what} off" for name in WEB for what in ("pages", "images")
    )
    assert len(on) == 4
    assert len(rates) == 5
    assert {name: stack.ssh(name, workers) for name in WEB} == before
    assert (visitors.failures, visitors.total > 100) == ([], True)


def test_the_cdn_is_told_when_no_proxy_has_the_old_page(stack: Stack, sites: list[Site]) -> None:
    """One call with the token, by the instance that revalidated; the request itself waits for nothing."""
    path = f"/products/{secrets.randbelow(9000) + 1000}"
    began = time.time()
    sites[0].post("/api/revalidate", json={"path": path})
    took = time.time() - began
    call = waited(stack, path)
    print(f"revalidated in {took:.3f} s, told after {call['at'] - began:.2f} s")
    assert took < PAGE_SECONDS - 1
    assert PAGE_SECONDS <= call["at"] - began < PAGE_SECONDS + 6
    assert (call["path"], call["authorization"]) == ("/url", "Bearer of-the-cdn")
    assert (call["app"], call["everything"], call["tags"]) == ("storefront", False, [])
    assert sum(path in one["paths"] for one in told(stack)) == 1
    shown = "{ cat /proc/[0-9]*/cmdline; journalctl -q -b --no-pager; } 2>/dev/null | grep -acFf /root/token || true"
    for name in APP:
        stack.ssh(name, "umask 077; cat >/root/token", stdin="of-the-cdn\n")
        assert stack.ssh(name, shown).strip() == "0"


def test_a_command_is_told_too_and_a_stopping_instance_is_not_too_late(stack: Stack, sites: list[Site]) -> None:
    """A program in the sandbox of the instances; what was revalidated last is told before they end."""
    stack.write(app={"cdn": {"purge": {"command": [*CURL, f"http://{stack.address(APP[0])}:{PORT}/command"]}}})
    stack.converge(phase="phase3")
    tag = f"tag-{secrets.token_hex(4)}"
    sites[0].post("/api/revalidate", json={"tag": tag})
    assert waited(stack, tag)["path"] == "/command"
    last = f"tag-{secrets.token_hex(4)}"
    sites[0].post("/api/revalidate", json={"tag": last})
    units = {name: " ".join(stack.ssh(name, f"echo {ACTIVE}").split()) for name in APP}
    try:
        for name in APP:
            stack.ssh(name, f"systemctl stop {units[name]}")
        assert last in [tag for call in told(stack) for tag in call["tags"]]
    finally:
        for name in APP:
            stack.ssh(name, f"systemctl start {units[name]}")


def test_an_image_service_instead_of_the_app(stack: Stack, sites: list[Site]) -> None:
    """It gets the request as it is, and nothing that is the visitor's own; nginx keeps what it answers.

    With public files from the app, which is another way through nginx.conf.
    """
    service = f"http://{stack.address(APP[0])}:{PORT}/optimize"
    stack.write(app={"images": {"service": service}}, nginx={"public_from_disk": False})
    stack.converge(phase="phase3")
    query = "url=%2Fimages%2Ftrack.jpg&w=640&q=75"
    asked = sites[1].get(f"/_next/image?{query}", headers={"Cookie": "session=1", "Accept": "image/webp"})
    got = asked.json()
    assert got["url"] == f"/optimize?{query}"
    assert got["headers"]["host"] == f"{stack.address(APP[0])}:{PORT}"
    assert got["headers"]["x-forwarded-host"] == "shop.example.test"
    assert got["headers"]["accept"] == "image/webp"
    assert "cookie" not in got["headers"]
    assert sites[1].get(f"/_next/image?{query}", headers={"Accept": "image/webp"}).json() == got
    assert sites[1].get("/images/gauge.png").headers["content-type"] == "image/png"
    assert len({sites[1].get("/api/rates").json()["rate"] for _ in range(6)}) <= 2
    stack.write(app={"images": {"service": None}}, nginx={"public_from_disk": True})
    stack.converge(phase="phase3")
    assert (
        sites[1].get(f"/_next/image?{query}", headers={"Accept": "image/webp"}).headers["content-type"] == "image/webp"
    )


def test_assets_from_a_cdn(stack: Stack, sites: list[Site]) -> None:
    """Pages name the CDN, which gets the files here, for pages of any origin; static pages are not kept for a year."""
    cdn = "https://cdn.example.test"
    stack.write(app={"cdn": {"asset_prefix": cdn, "page_seconds": 60}})
    stack.converge(phase="phase3")
    page = sites[0].get("/")
    assert f'src="{cdn}/_next/static/' in page.text
    assert 'src="/_next/static/' not in page.text
    assert page.headers["cdn-cache-control"] == "public, max-age=60"
    assert "cdn-cache-control" not in sites[0].get("/flash-sale").headers
    file = page.text.partition(f'src="{cdn}')[2].partition('"')[0]
    asset = sites[0].get(file, headers={"Origin": "https://shop.example.test"})
    assert (asset.status_code, asset.headers["access-control-allow-origin"]) == (200, "*")
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
