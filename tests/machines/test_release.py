"""Releases on booted machines: laid out, switched under load, refused when unhealthy, finished after a crash."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import PROVISION, Stack, make_stack, spec
from .visitors import Visitors

NAME, DOMAIN = "editions", "editions.example.test"
ROOT = f"/srv/{NAME}"
NGINX = {"tls": {"mode": "self-signed"}, "debug_headers": True}
MACHINES = {"bookworm": ("release-12", 81), "trixie": ("release-13", 82)}


class Site:
    """One machine with both roles, and what the tests ask it."""

    def __init__(self, stack: Stack, host: str) -> None:
        self.stack, self.host = stack, host
        self.address = stack.data["hosts"][host]["address"]

    def run(self, command: str, **options: Any) -> str:
        return self.stack.ssh(self.host, command, **options).strip()

    def edition(self, number: int, **app: Any) -> None:
        """Writes the inventory for a source that differs in one variable, so that a release of its own is built."""
        self.stack.write(app={"env": {"NEXT_PUBLIC_EDITION": str(number)}, "health": "/api/info", **app})

    def current(self) -> str:
        return self.run(f"basename $(readlink {ROOT}/current)")

    def answer(self, path: str = "/api/info", named: str = "") -> tuple[int, str]:
        """Status of a request through nginx, on the machine, and the release that answered; it may name one."""
        url = f"https://{DOMAIN}{path}"
        shown = "%{http_code} %header{x-roadbed-release}"
        words = f"-H 'x-deployment-id: {named}'" if named else ""
        said = self.run(f"curl -ks {words} -o /dev/null -w '{shown}' --resolve {DOMAIN}:443:127.0.0.1 {url}; true")
        status, _, release = said.partition(" ")
        return int(status), release

    def pids(self) -> str:
        return self.run(f"systemctl show -p MainPID --value '{NAME}@*.service'")

    def settled(self, release: str) -> None:
        """Asserts that the host is as a finished rollout of ``release`` leaves it: with one older instance at most."""
        flags = self.run(f"cd /var/lib/roadbed/{NAME}/route && ls").split()
        kept = [flag for flag in flags if flag.startswith("old.")]
        assert len(flags) == 1 + len(kept), flags
        assert len(kept) <= 1, flags
        slot = flags[0].removeprefix("active.")
        units = [f"{NAME}@{slot}-{number}.service" for number in (0, 1)]
        units += [f"{NAME}@{flag[-1]}-0.service" for flag in kept]
        active = self.run(f"systemctl list-units --plain --no-legend --state=active '{NAME}@*' | cut -d' ' -f1").split()
        at_boot = self.run(f"cd /etc/systemd/system/{NAME}.target.wants && ls").split()
        assert sorted(active) == sorted(at_boot) == sorted(units)
        assert self.run(f"ls /var/lib/roadbed/{NAME}/skew").split() == [flag[-1] for flag in kept]
        for link in ("current", "public", f"slots/{slot}"):
            assert f"/{release}" in self.run(f"readlink -f {ROOT}/{link}") + "/", link
        assert self.run(f"ls -A {ROOT}/releases | grep partial; true") == ""
        assert self.run(f"cat {ROOT}/releases/{release}/.roadbed/state") == "healthy"
        assert self.run(f"ls /var/lib/roadbed/pending/{NAME} 2>/dev/null; true") == ""
        assert self.answer() == (200, release)
        for flag in kept:
            assert self.answer(named=flag.split(".")[1]) == (200, flag.split(".")[1])


@pytest.fixture(scope="module", params=list(MACHINES))
def site(
    request: pytest.FixtureRequest, booted: Callable[[list[Any]], None], tmp_path_factory: pytest.TempPathFactory
) -> Site:
    """A machine on which the first edition runs. Every test leaves a settled host behind."""
    host, number = MACHINES[request.param]
    machine = spec(host, number, request.param)
    booted([machine])
    app = {"name": NAME, "domain": DOMAIN, "keep": 2}
    stack = make_stack(tmp_path_factory.mktemp(host), [machine], app=app, nginx=NGINX)
    here = Site(stack, host)
    here.edition(1)
    stack.converge()
    return here


def operations(result: dict[str, Any], status: str) -> list[str]:
    return [one["name"] for one in result["operations"] if one["status"] == status]


def test_a_release_is_root_owned_complete_and_readable_by_those_alone_who_need_it(site: Site) -> None:
    """The files are those of the manifest; nginx can read the client files, nobody but the app the server's."""
    release = site.current()
    folder = f"{ROOT}/releases/{release}"
    site.settled(release)
    assert site.run(f"cd {folder} && sha256sum --check --quiet .roadbed/files.sha256 && echo same") == "same"
    manifest = json.loads(site.run(f"cat {folder}/.roadbed/manifest.json"))
    listed = site.run(f"cd {folder} && find . -type f -printf '%m %u %G %P\\n'".replace("%G", "%g"))
    found = {
        path: (mode, user, group) for mode, user, group, path in (line.split(" ", 3) for line in listed.splitlines())
    }
    for path, entry in manifest["files"].items():
        group = "root" if int(entry["mode"], 8) & 0o4 else NAME
        assert found[path] == (entry["mode"], "root", group), path
    embedded = site.run(f"grep -rlF encryptionKey {folder}/app --include=server-reference-manifest.json").splitlines()
    assert embedded
    assert {site.run(f"stat -c %a {path}") for path in embedded} == {"640"}
    assert site.run(f"runuser -u www-data -- cat {embedded[0]} 2>&1; true").endswith("Permission denied")
    assert site.run(f"readlink {folder}/.roadbed/node").startswith("/opt/roadbed/node/")


def test_a_server_writes_beside_its_release_and_not_into_it(site: Site) -> None:
    """The folders that Next.js writes to are links to a cache of the release, owned by the app."""
    folder = f"{ROOT}/releases/{site.current()}"
    manifest = json.loads(site.run(f"cat {folder}/.roadbed/manifest.json"))
    assert manifest["writable"]
    for path in manifest["writable"]:
        target = site.run(f"readlink {folder}/{path}")
        assert target == f"/var/cache/{NAME}/{manifest['release']}/{path}"
        assert site.run(f"stat -c %U:%G {target}") == f"{NAME}:{NAME}"
    assert site.run(f"find {folder} -user {NAME}") == ""


def test_a_link_that_the_app_puts_where_its_cache_belongs_leads_root_nowhere(site: Site) -> None:
    """The app owns its cache folder. A release whose list is damaged is brought again, and its cache made anew."""
    release = site.current()
    cache = f"/var/cache/{NAME}/{release}"
    site.run(f"mkdir /root/trap && mv {cache} {cache}.aside && runuser -u {NAME} -- ln -s /root/trap {cache}")
    site.run(f"echo >> {ROOT}/releases/{release}/.roadbed/files.sha256")
    result = site.stack.converge()
    assert f"Upload release {release}" in operations(result, "changed")
    assert site.run("ls -A /root/trap") == ""
    assert site.run(f"stat -c '%F %U' {cache}") == f"directory {NAME}"
    assert site.run(f"find {cache} ! -user {NAME}") == ""
    site.run(f"rmdir /root/trap && rm -r {cache}.aside")
    site.settled(release)


def test_a_second_run_builds_nothing_and_touches_no_process(site: Site) -> None:
    before = site.pids()
    result = site.stack.converge()
    assert operations(result, "changed") == []
    assert site.pids() == before


def test_a_rollout_under_load_fails_no_request_and_sends_what_changed(site: Site) -> None:
    """Streams, POSTs, keep-alive and HTTP/2: all answered while the release changes; old client files stay."""
    old = site.current()
    assets = site.run(f"cd {ROOT}/releases/{old}/.roadbed/static/ && find . -type f -printf '%P\\n'").splitlines()
    site.edition(2)
    with Visitors(site.address, DOMAIN) as visitors:
        time.sleep(2)
        result = site.stack.converge()
        time.sleep(3)
    new = site.current()
    site.settled(new)
    print(f"{visitors.total} requests, {len(visitors.failures)} failed")
    assert visitors.failures == []
    assert visitors.total > 200
    assert new != old
    assert list(dict.fromkeys(visitors.releases)) == [old, new]
    for path in assets:
        assert site.answer(f"/_next/static/{path}")[0] == 200, path
    sent = next(one["detail"] for one in result["operations"] if one["name"].startswith("Upload release"))
    found = re.match(r"sent ([0-9]+) KB for a release of ([0-9.]+) MB, ", sent)
    assert found, sent
    assert float(found[1]) / 1024 < float(found[2]) / 50, sent


def test_a_changed_environment_rolls_the_same_release_into_the_next_slot(site: Site) -> None:
    """A setting of the server alone is no reason to build; the instances are replaced without losing a request."""
    release, before = site.current(), site.pids()
    site.edition(2, env={"NEXT_PUBLIC_EDITION": "2", "NODE_OPTIONS": "--no-deprecation"})
    with Visitors(site.address, DOMAIN) as visitors:
        site.stack.converge()
    site.settled(release)
    assert visitors.failures == []
    assert site.pids() != before


def test_a_release_that_is_not_healthy_gets_no_traffic_and_says_why(site: Site) -> None:
    """The health page is asked as a visitor would; the old instances go on, in the same processes."""
    site.edition(2)
    site.stack.converge()
    release, before = site.current(), site.pids()
    site.edition(1, health="/no-such-page")
    started = time.monotonic()
    with Visitors(site.address, DOMAIN) as visitors:
        done = site.stack.provision("phase1", code=4)
    said = done.stdout + done.stderr
    assert "HTTP 404" in said
    assert "/no-such-page is not healthy" in said
    assert "Its journal:" in said
    assert time.monotonic() - started < 150
    assert visitors.failures == []
    assert (site.current(), site.pids()) == (release, before)
    failed = site.run(f"grep -l failed {ROOT}/releases/*/.roadbed/state | cut -d/ -f5")
    assert failed
    assert failed != release
    site.edition(2)
    site.stack.converge()
    site.settled(release)


def test_a_release_that_crashes_at_start_is_given_up_at_once(site: Site) -> None:
    """Three crashes are enough, and the journal of the instance says what was wrong."""
    release = site.current()
    site.edition(2, env={"NEXT_PUBLIC_EDITION": "2", "NODE_OPTIONS": "--no-such-option"})
    done = site.stack.provision("phase1", code=4)
    said = done.stdout + done.stderr
    assert "has crashed 3 times" in said
    assert "--no-such-option is not allowed in NODE_OPTIONS" in said
    assert site.answer() == (200, release)
    site.edition(2)
    site.stack.converge()
    site.settled(release)


def test_a_full_disk_is_found_before_anything_is_written(site: Site) -> None:
    release = site.current()
    site.edition(1)
    others = site.run(f"ls {ROOT}/releases | grep -v {release}; true").split()
    site.run(f"cd {ROOT}/releases && rm -rf {' '.join(others)}")
    site.run(f"mv {ROOT} {ROOT}.kept && mkdir {ROOT} && mount -t tmpfs -o size=100m tmpfs {ROOT}")
    try:
        done = site.stack.provision("phase1", code=4)
        assert "/srv has 100 MB free, the release needs" in done.stdout + done.stderr
        assert "Free space or lower app/keep" in done.stdout + done.stderr
        assert site.run(f"ls {ROOT}/releases") == ""
    finally:
        site.run(f"umount {ROOT} && rmdir {ROOT} && mv {ROOT}.kept {ROOT}")
    site.stack.converge()
    site.settled(site.current())


REACHED = {
    "uploading": f"ls -d {ROOT}/releases/.*.partial",
    "starting": f"test $(systemctl list-units --plain --no-legend --state=active,activating '{NAME}@*' | wc -l) -gt 3",
    "rehearsing": f"ls /var/lib/roadbed/{NAME}/route/old.rehearsal-*",
    "switching": f"test $(ls /var/lib/roadbed/{NAME}/route/active.* | wc -l) -gt 1",
    "stopping": f"systemctl list-units --plain --no-legend --state=deactivating '{NAME}@*' | grep .",
}


@pytest.mark.kill
@pytest.mark.parametrize("moment", list(REACHED))
def test_a_rollout_that_is_killed_is_finished_by_the_next_run(site: Site, moment: str) -> None:
    """SIGKILL while it uploads, starts, asks nginx, switches or stops: the site answers, and the next run settles."""
    old = site.current()
    site.run(f"cd {ROOT}/releases && ls | grep -v {old} | xargs -r rm -rf")
    site.edition(2 if site.stack.data["app"]["env"]["NEXT_PUBLIC_EDITION"] == "1" else 1)
    with Visitors(site.address, DOMAIN) as visitors:
        killed_when(site, REACHED[moment])
        time.sleep(1)
        site.stack.converge()
    new = site.current()
    site.settled(new)
    assert new != old
    assert visitors.failures == []


def killed_when(site: Site, condition: str) -> None:
    """Starts a converge and kills it, hard, once ``condition`` holds on the machine."""
    command = [PROVISION, "phase1", "-i", str(site.stack.path)]
    process = subprocess.Popen(
        command, cwd=site.stack.folder, env=site.stack.environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    watch = f"for i in $(seq 1200); do if {condition} >/dev/null 2>&1; then echo now; exit; fi; sleep 0.05; done"
    try:
        assert site.run(watch, timeout=180) == "now"
        assert process.poll() is None, "the converge was over before it could be killed"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_no_more_releases_are_kept_than_asked_for(site: Site) -> None:
    """app/keep is 2 here: the current release and one more, and client files of these two alone."""
    kept = site.run(f"ls {ROOT}/releases").split()
    assert len(kept) <= 2
    of_releases = site.run(
        f"cd {ROOT}/releases && for r in *; do (cd $r/.roadbed/static/ && find . -type f); done | sort -u"
    )
    assert site.run(f"cd {ROOT}/static && find . -type f | sort") == of_releases
    assert sorted(site.run(f"ls /var/cache/{NAME}").split()) == sorted(kept)


def test_after_a_reboot_the_release_serves_again_in_its_slot(site: Site) -> None:
    release = site.current()
    before = site.run("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic --value")
    site.run("systemctl reboot", check=False)
    for _ in range(120):
        time.sleep(0.5)
        try:
            if site.run("systemctl show -p UserspaceTimestampMonotonic --value", timeout=5) not in before:
                break
        except (AssertionError, subprocess.TimeoutExpired):
            continue
    for _ in range(60):
        if site.answer()[0] == 200:
            break
        time.sleep(0.5)
    site.settled(release)


@pytest.fixture(scope="module")
def spread(booted: Callable[[list[Any]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A web host and an app host, each with its one role, on which the first edition runs."""
    machines = [spec("release-web", 83), spec("release-app", 84)]
    booted(machines)
    roles = {"release-web": ["web"], "release-app": ["app"]}
    hosts = {each.name: {"address": each.address, "roles": roles[each.name]} for each in machines}
    app = {"name": NAME, "domain": DOMAIN}
    stack = make_stack(tmp_path_factory.mktemp("spread"), machines, app=app, hosts=hosts, nginx=NGINX)
    Site(stack, "release-web").edition(1)
    stack.converge()
    return stack


def test_a_web_host_without_the_app_has_the_client_files_and_nothing_of_the_server(spread: Stack) -> None:
    """It needs neither the action key nor the code, and gets neither."""
    web, app = Site(spread, "release-web"), Site(spread, "release-app")
    release = app.current()
    assert web.current() == release
    folders = web.run(f"cd {ROOT}/releases/{release} && find . -type f | cut -d/ -f2-4 | sort -u").splitlines()
    assert {folder for folder in folders if not folder.startswith(".roadbed/")} == {
        "app/.next/static",
        *(folder for folder in folders if folder.startswith("app/public")),
    }
    assert web.run(f"cat {ROOT}/static.release") == release
    for file in web.run(f"cd {ROOT}/static && find . -type f -printf '%P\\n'").splitlines():
        assert web.answer(f"/_next/static/{file}")[0] == 200


def test_a_rollout_over_two_tiers_fails_no_request(spread: Stack) -> None:
    """The app host starts the new instances, the web host switches to them, and a second run changes nothing."""
    web, app = Site(spread, "release-web"), Site(spread, "release-app")
    old = app.current()
    web.edition(2)
    with Visitors(web.address, DOMAIN) as visitors:
        time.sleep(1)
        spread.converge()
        time.sleep(2)
    new = app.current()
    assert new != old
    assert visitors.failures == []
    assert list(dict.fromkeys(visitors.releases)) == [old, new]
    assert web.answer() == (200, new)
    assert operations(spread.converge(), "changed") == []
