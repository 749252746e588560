"""Open pages during and after a rollout, and rollouts that cannot go on.

A web host of its own, one with the app too, and an app host with little memory. Two editions of the sample app take
turns; a tab of a real browser goes on with the one it was opened on.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from roadbed.deploys.skew import FLAGS, INSTANCES
from roadbed.machines.model import MachineSpec

from .browser import Tab, tab
from .conftest import BOOT, NO_BOOT, make_stack, spec
from .editions import FRONT, KEPT, ROUTE, Editions, changed, copies, wait_for
from .visit import DOMAIN, Site
from .visitors import Visitors

ROLES = {"skew-1": ["web", "app"], "skew-2": ["web"], "skew-3": ["app"]}
"""In phase1 skew-1 serves with its own instances, and skew-2 with those of both app hosts."""
WEB, APPS = ("skew-1", "skew-2"), ("skew-1", "skew-3")
SMALL = "skew-3"
RUNNING = "systemctl list-units --plain --no-legend --state=active 'storefront@*'"
MEMORY = 2700
"""MiB of the small host: enough for two times two instances of 512, and not if something else takes a part."""


@pytest.fixture(scope="module")
def editions(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Editions:
    """The stack, with the first edition serving and nothing kept."""
    machines = [spec("skew-1", 175), spec(FRONT, 176, "bookworm"), spec(SMALL, 177, memory=MEMORY)]
    booted(machines)
    folder = tmp_path_factory.mktemp("skew")
    first, second = copies(folder)
    hosts = {each.name: {"address": each.address, "roles": ROLES[each.name]} for each in machines}
    stack = make_stack(folder, machines, hosts=hosts, app={"source": str(first)})
    stack.converge()
    return Editions(stack, (first, second))


def open_cart(browser: Tab) -> str:
    """Opens the cart, as far as a person would wait, and marks the window; returns the release of the page."""
    browser.page.goto("/cart", wait_until="networkidle")
    browser.mark()
    return browser.page.inner_text("footer").rpartition(" ")[2]


def use(browser: Tab) -> tuple[str, str, str]:
    """Runs the action, opens the care guide, goes to another page; what each shows."""
    page = browser.page
    page.click("text=Add")
    action = page.inner_text("output")
    page.click("text=Care guide")
    guide = page.inner_text("[data-guide]")
    page.click("nav >> text=Streaming")
    page.wait_for_url("**/streaming")
    page.wait_for_selector("h1:has-text('Streaming')")
    page.wait_for_load_state("networkidle")
    return action, guide, page.inner_text("main")


def test_an_open_page_goes_on_as_if_nothing_had_happened(editions: Editions) -> None:
    """A browser: its action, a chunk that only its release has, another page; no error, no reload."""
    with tab(editions.stack.address(FRONT), DOMAIN) as browser:
        before = open_cart(browser)
        editions.deploy()
        after = editions.release()
        assert (editions.ask()[1], before != after) == (after, True)
        action, guide, _ = use(browser)
        assert f"page from release {before}, action on {before}" in action
        assert guide.startswith("Wipe with")
        chunks = {
            url.partition("/_next/static/")[2].partition("?")[0] for url in browser.asked if "/_next/static/" in url
        }
        static = f"cd /srv/storefront/releases/{after}/.roadbed/static/ && find . -type f -printf '%P\\n'"
        assert chunks - set(editions.run(FRONT, static).split()), (
            "every file that the page asked for is in both releases"
        )
        assert browser.wrong == []
        assert browser.same
        browser.page.reload(wait_until="networkidle")
        assert not browser.same
        browser.page.goto("/cart", wait_until="networkidle")
        assert browser.page.inner_text("footer").endswith(after)
        assert browser.wrong == []


def test_what_is_kept_is_part_of_a_healthy_stack(editions: Editions) -> None:
    """One instance on each app host, one flag on each web host; nothing to change, and every check holds."""
    for host in APPS:
        (slot,) = editions.kept(host)
        running = editions.run(
            host, "systemctl list-units --plain --no-legend --state=active 'storefront@*'"
        ).splitlines()
        assert len(running) == 3
        assert any(f"@{slot}-0" in line for line in running)
    for host in WEB:
        assert len(editions.old(host)) == 1
    assert changed(editions.stack.converge()) == []
    checks = json.loads(editions.stack.provision("verify", "phase1", "--json").stdout)["checks"]
    assert [check for check in checks if not check["passed"]] == []


def named(editions: Editions, host: str = FRONT) -> str:
    """The release that is kept."""
    (flag,) = editions.old(host)
    return flag.split(".")[1]


def test_a_flag_that_leads_to_nobody_costs_no_request(editions: Editions) -> None:
    """GET and POST that name a release whose instances are gone are served by the active one."""
    before, after = named(editions), editions.release()
    assert editions.ask(before) == (200, before)
    unit = f"storefront@{editions.kept(SMALL)[0]}-0.service"
    try:
        for host in APPS:
            editions.run(host, f"systemctl stop {unit}")
        headers = {"x-deployment-id": before}
        for host in WEB:
            with Site(editions.stack.address(host), http2=True) as site:
                for _ in range(20):
                    assert site.get("/api/info", headers=headers).json()["release"] == after
                    assert site.post("/api/orders?work=10", headers=headers).status_code == 201
    finally:
        for host in APPS:
            editions.run(host, f"systemctl start {unit}")
    wait_for(lambda: editions.ask(before) == (200, before))


def test_a_post_that_was_sent_to_a_kept_instance_is_never_sent_again(editions: Editions) -> None:
    """It dies with the instance: the client is told, and the active release does not do the work a second time."""
    before, unit = named(editions), f"storefront@{editions.kept(SMALL)[0]}-0.service"
    key, answers = f"order-{time.time_ns()}", list[int]()

    def order() -> None:
        with Site(editions.stack.address(FRONT)) as site:
            headers = {"x-deployment-id": before, "idempotency-key": key}
            answers.append(site.post("/api/orders?work=4000&after=0", headers=headers).status_code)

    thread = threading.Thread(target=order)
    thread.start()
    time.sleep(1.5)
    for host in APPS:
        editions.run(host, f"systemctl kill --signal=KILL {unit}")
    thread.join()
    assert answers == [502]
    time.sleep(5)
    assert [editions.run(host, f"journalctl -o cat -u 'storefront@*' | grep -c {key}; true") for host in APPS] == [
        "0",
        "0",
    ]
    wait_for(lambda: editions.ask(before) == (200, before))


def test_a_host_that_reboots_has_its_kept_instance_back(editions: Editions) -> None:
    """Meanwhile the other app host serves, also those who name the kept release."""
    before, boot = named(editions), editions.run(SMALL, BOOT)
    with asking(editions, before) as asked:
        editions.run(SMALL, "systemctl reboot", check=False)
        wait_for(lambda: booted_again(editions, boot), 120)
        unit = f"storefront@{editions.kept(SMALL)[0]}-0.service"
        wait_for(lambda: editions.run(SMALL, f"systemctl is-active {unit}; true") == "active")
    assert [answer for answer in asked if answer[0] != 200] == []
    assert {answer[1] for answer in asked} <= {before, editions.release()}
    assert before in {answer[1] for answer in asked}


def booted_again(editions: Editions, boot: str) -> bool:
    try:
        return editions.run(SMALL, BOOT, timeout=5) not in (*NO_BOOT, boot)
    except Exception:  # not there yet
        return False


@contextmanager
def asking(editions: Editions, release: str) -> Iterator[list[tuple[int, str]]]:
    """Asks for a release by its name all the time, and notes status and release of each answer."""
    over, answers = threading.Event(), list[tuple[int, str]]()

    def ask() -> None:
        while not over.wait(0.1):
            answers.append(editions.ask(release))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def test_new_settings_keep_what_is_kept(editions: Editions) -> None:
    """The same release moves on to the third slot: no page is of another one, and the one that is kept stays."""
    before, slots = named(editions), {host: editions.kept(host) for host in APPS}
    editions.stack.write(app={"env": {"NODE_OPTIONS": "--no-deprecation"}})
    with Visitors(editions.stack.address(FRONT), DOMAIN) as visitors, asking(editions, before) as asked:
        result = editions.stack.converge()
    assert any(name.startswith("Start release") for name in changed(result))
    assert visitors.failures == []
    assert set(asked) == {(200, before)}
    assert {host: editions.kept(host) for host in APPS} == slots
    assert changed(editions.stack.converge()) == []


def test_hosts_end_it_by_themselves_first_the_flags_and_then_the_instances(editions: Editions) -> None:
    """What their timers do, and when; the clocks of the files are turned back instead of waiting half an hour."""
    before = named(editions)
    for host in WEB:
        assert editions.run(host, f"systemctl is-active {FLAGS}.timer") == "active"
        editions.run(host, f"systemctl start {FLAGS}.service && touch -d '-1801 seconds' {ROUTE}/old.*")
    for host in APPS:
        (slot,) = editions.kept(host)
        editions.run(host, f"echo $(($(date +%s) - 1801)) > {KEPT}/{slot} && systemctl start {INSTANCES}.service")
        assert editions.kept(host) == [slot], "the flags may not have gone everywhere yet"
    assert changed(editions.stack.converge()) == []
    with asking(editions, before) as asked:
        for host in WEB:
            editions.run(host, f"systemctl start {FLAGS}.service")
            assert editions.old(host) == []
        for host in APPS:
            (slot,) = editions.kept(host)
            editions.run(host, f"echo $(($(date +%s) - 1921)) > {KEPT}/{slot} && systemctl start {INSTANCES}.service")
            unit = f"storefront@{slot}-0.service"
            assert editions.run(host, f"systemctl is-active {unit}; systemctl is-enabled {unit}; true").split() == [
                "inactive",
                "disabled",
            ]
            assert editions.kept(host) == []
    assert {answer[0] for answer in asked} == {200}
    assert editions.ask(before) == (200, editions.release())
    assert changed(editions.stack.converge()) == []


def test_without_it_the_same_page_breaks(editions: Editions) -> None:
    """The proof above can fail: with skew 0 the action is not found, and the other page costs a reload."""
    with tab(editions.stack.address(FRONT), DOMAIN) as browser:
        open_cart(browser)
        editions.deploy(skew=0)
        assert [editions.old(host) for host in WEB] == [[], []]
        browser.page.click("text=Add")
        browser.page.wait_for_timeout(3000)
        assert any("failed-to-find-server-action" in line for line in browser.wrong), browser.wrong
        assert browser.page.locator("output").count() == 0
    with tab(editions.stack.address(FRONT), DOMAIN) as browser:
        open_cart(browser)
        editions.deploy(skew=0)
        browser.page.click("nav >> text=Streaming")
        browser.page.wait_for_url("**/streaming")
        browser.page.wait_for_load_state("networkidle")
        assert not browser.same
    assert [len(editions.run(host, RUNNING).splitlines()) for host in APPS] == [2, 2]
    editions.deploy(skew=1800)


@pytest.fixture
def unreachable(editions: Editions) -> Iterator[Callable[[str], None]]:
    """``unreachable(when)``: once the shell condition holds on the web host, its nginx reaches no instance of a slot.

    Which slot: the one that has neither the traffic nor a kept release.
    """
    used = {flag[-1] for flag in editions.flags(FRONT)}
    (slot,) = set("abc") - used
    first = 5000 + "abc".index(slot) * 20
    table = (
        "add table inet broken; add chain inet broken output { type filter hook output priority 0; }; "
        f"add rule inet broken output meta skuid www-data tcp dport {first}-{first + 19} reject with tcp reset"
    )

    def apply(when: str) -> None:
        script = f"for i in $(seq 2000); do if {when.format(slot=slot)}; then nft '{table}'; exit; fi; sleep 0.02; done"
        editions.run(FRONT, f"systemd-run --quiet --collect sh -c {quoted(script)}")

    yield apply
    editions.run(FRONT, "nft delete table inet broken; true")


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def refused(editions: Editions) -> str:
    """Tries to roll out the other edition, which fails; what was said."""
    editions.stack.write(app={"source": str(editions.projects[1 - editions.current])})
    done = editions.stack.provision("phase1", code=4)
    editions.stack.write(app={"source": str(editions.projects[editions.current])})
    return done.stdout + done.stderr


def assert_unharmed(editions: Editions, release: str, old: list[list[str]]) -> None:
    """The release serves as it did, and a run of it changes nothing but what is left of the other one."""
    assert [editions.ask(host=host) for host in WEB] == [(200, release), (200, release)]
    assert [editions.old(host) for host in WEB] == old
    for host in APPS:
        assert len(editions.run(host, RUNNING).splitlines()) == 2 + len(editions.kept(host))
    assert changed(editions.stack.converge()) == []


def test_a_release_that_nginx_does_not_reach_gets_no_visitor(
    editions: Editions, unreachable: Callable[[str], None]
) -> None:
    """The instances are healthy, but a firewall, say, is between them and a web host: nobody notices."""
    release, old = editions.release(), [editions.old(host) for host in WEB]
    unreachable("true")
    time.sleep(1)
    with Visitors(editions.stack.address(FRONT), DOMAIN) as visitors:
        said = refused(editions)
    assert visitors.failures == []
    assert f"through nginx, /.roadbed/health answered HTTP 200 from release {release}, and not" in said
    assert f"{release} goes on serving" in said
    assert_unharmed(editions, release, old)


def test_a_release_that_nginx_does_not_serve_after_the_switch_is_taken_back(
    editions: Editions, unreachable: Callable[[str], None]
) -> None:
    """All goes well until the flags have changed; then the traffic goes back to the old release, which was up."""
    release, old = editions.release(), [editions.old(host) for host in WEB]
    unreachable(f"[ -e {ROUTE}/active.{{slot}} ]")
    said = refused(editions)
    for evidence in ("through nginx, /.roadbed/health answered HTTP 502", "nginx's error log", f"journal on {SMALL}"):
        assert evidence in said
    assert f"the traffic was led back: {release} goes on serving" in said
    failed = editions.run(SMALL, "cd /srv/storefront/releases && grep -l failed */.roadbed/state | cut -d/ -f1").split()
    assert len(failed) == 1
    assert release not in failed
    assert editions.run(FRONT, "basename $(dirname $(dirname $(readlink /srv/storefront/public)))") == release
    assert_unharmed(editions, release, old)


@pytest.fixture
def hog(editions: Editions) -> Iterator[Callable[[int], None]]:
    """``hog(900)`` leaves so many MiB of memory to the small host."""

    def take(left: int) -> None:
        available = int(editions.run(SMALL, AVAILABLE)) // 1024
        editions.run(SMALL, f"head -c {available - left}M /dev/zero > /dev/shm/hog")

    yield take
    editions.run(SMALL, "rm -f /dev/shm/hog")


AVAILABLE = """
cd /sys/fs/cgroup/memory 2>/dev/null || cd /sys/fs/cgroup
limit=$(cat memory.limit_in_bytes memory.max 2>/dev/null)
used=$(cat memory.usage_in_bytes memory.current 2>/dev/null)
cached=$(sed -n 's/^total_inactive_file //p' memory.stat)
[ -n "$cached" ] || cached=$(sed -n 's/^inactive_file //p' memory.stat)
echo $(((limit - used + cached) / 1024))
"""
"""KiB, as the cgroup of the machine has it: version 1, or 2."""


def test_with_too_little_memory_what_is_kept_goes_first(editions: Editions, hog: Callable[[int], None]) -> None:
    """Two instances of 512 MiB do not fit; without the one that is kept they do."""
    hog(1024 - 50)
    result = editions.deploy()
    said = "\n".join(item["detail"] for item in result["operations"] if item["host"] == SMALL)
    assert "2 instances x 512 MB = 1024 MB for the surge, " in said
    names = changed(result)
    (start,) = {name for name in names if name.startswith("Start release")}
    assert names.index("Stop leftover instances") < names.index(start)
    assert len(editions.kept(SMALL)) == 1
    assert changed(editions.stack.converge()) == []


def test_with_far_too_little_memory_instances_take_turns(editions: Editions, hog: Callable[[int], None]) -> None:
    """Not even one more of 512 MiB fits: each old one is stopped first, and nobody notices. No page is kept then."""
    hog(300)
    with Visitors(editions.stack.address(FRONT), DOMAIN) as visitors:
        result = editions.deploy()
    assert visitors.failures == []
    small = [item for item in result["operations"] if item["host"] == SMALL and item["status"] == "changed"]
    details = {item["name"]: item["detail"] for item in small}
    turns = [name for name in details if " in place of " in name]
    assert len(turns) == 2
    assert all("was stopped first" in details[name] for name in turns)
    assert any(": one instance at a time" in detail for detail in details.values())
    assert editions.ask() == (200, editions.release())
    assert [editions.old(host) for host in WEB] == [[], []]
    for host in APPS:
        assert len(editions.run(host, RUNNING).splitlines()) == 2
    for host in WEB:
        assert [flag[:6] for flag in editions.flags(host)] == ["active"]
    assert changed(editions.stack.converge()) == []


def test_an_unhealthy_release_among_turns_brings_the_old_instances_back(
    editions: Editions, hog: Callable[[int], None]
) -> None:
    hog(300)
    release = editions.release()
    editions.stack.write(app={"health": "/no-such-page"})
    with Visitors(editions.stack.address(FRONT), DOMAIN) as visitors:
        said = refused(editions)
    editions.stack.write(app={"health": "/api/info"})
    assert visitors.failures == []
    assert f"{release} goes on serving" in said
    assert editions.ask() == (200, release)
    wait_for(lambda: [len(editions.run(host, RUNNING).splitlines()) for host in APPS] == [2, 2])


def test_hosts_start_their_instances_in_batches(editions: Editions) -> None:
    """One host at a time; the first unhealthy one ends the rollout before the next has begun."""
    editions.deploy(rollout={"batch": 1})
    assert changed(editions.stack.converge()) == []
    assert editions.ask()[0] == 200
    editions.stack.write(app={"health": "/no-such-page"})
    said = refused(editions)
    editions.stack.write(app={"health": "/api/info"})
    assert "skew-1: storefront@" in said
    assert "skew-3: storefront@" not in said
    (free,) = set("abc") - {flag[-1] for flag in editions.flags(FRONT)}
    assert editions.run(SMALL, f"journalctl -o cat --since '-1min' -u storefront@{free}-0.service") == ""
    assert changed(editions.stack.converge()) == []
