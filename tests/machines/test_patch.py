"""`provision patch` on a fleet with a tiny app: what is refused, a host that fails, a run that is killed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from roadbed.deploys.nginx import DRAIN
from roadbed.machines.model import MachineSpec
from roadbed.releases.drain import MARKER
from roadbed.releases.patch import UNIT

from .conftest import BOOT, PROVISION, Stack, spec
from .tiny import page, tiny_stack, untouched

pytestmark = pytest.mark.long

WEB, FIRST, SECOND = "patch-web", "patch-1", "patch-2"
PACKAGE = "roadbed-probe"
LEFT = (
    f"ls {DRAIN} {MARKER} 2>/dev/null; nft list tables 2>/dev/null | grep roadbed_drain; "
    "systemctl list-timers --no-legend 'roadbed-drain-*'; true"
)
BUILD = f"""
set -eu
mkdir -p /opt/probe/tree/DEBIAN
cd /opt/probe
cat > tree/DEBIAN/control <<CONTROL
Package: {PACKAGE}
Version: $1
Architecture: all
Maintainer: nobody <nobody@example.test>
Description: a package to upgrade
CONTROL
printf '#!/bin/sh\\n%s\\n' "$2" > tree/DEBIAN/postinst
chmod 755 tree/DEBIAN/postinst
dpkg-deb -b tree probe.deb > /dev/null
{{
    cat tree/DEBIAN/control
    echo "Filename: ./probe.deb"
    echo "Size: $(stat -c %s probe.deb)"
    echo "SHA256: $(sha256sum probe.deb | cut -d ' ' -f 1)"
}} > Packages
echo 'deb [trusted=yes] file:/opt/probe ./' > /etc/apt/sources.list.d/probe.list
"""
"""An archive on the host itself with one package: its version, and what its installation does."""


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A web host, which has the data tier too, and two app hosts with one instance each."""
    specs = [spec(WEB, 191, "bookworm"), spec(FIRST, 192, "trixie"), spec(SECOND, 193, "bookworm")]
    booted(specs)
    stack = tiny_stack(tmp_path_factory.mktemp("patch"), specs)
    for name, roles in {WEB: ["web", "cache", "pooler", "database"], FIRST: ["app"], SECOND: ["app"]}.items():
        stack.data["hosts"][name]["roles"] = roles
    stack.write()
    stack.provision("phase3", "--yes")
    for name in (WEB, FIRST, SECOND):
        offer(stack, name, "1")
        stack.ssh(name, f"apt-get -q update && apt-get -q -y install {PACKAGE}")
        stack.ssh(
            name, "DEBIAN_FRONTEND=noninteractive apt-get -q -y upgrade --with-new-pkgs; rm -f /run/reboot-required"
        )
    return stack


def offer(stack: Stack, name: str, version: str, work: str = ":") -> None:
    """Has the archive of a machine offer a version whose installation does ``work``."""
    stack.ssh(name, f"sh -s {version} '{work}' <<'END'\n{BUILD}\nEND")


def installed(stack: Stack, name: str) -> str:
    """The version that a machine has, completely installed."""
    return stack.ssh(name, f"dpkg-query -W -f '${{db:Status-Abbrev}}${{Version}}' {PACKAGE}").strip()


def patch(stack: Stack, *words: str) -> dict[str, Any]:
    """`provision patch`; returns its JSON."""
    result: dict[str, Any] = json.loads(stack.provision("patch", "--yes", "--json", *words).stdout)
    return result


def left(stack: Stack) -> str:
    """What is there of a host that was taken out of the routing."""
    return "".join(stack.ssh(name, LEFT) for name in (WEB, FIRST, SECOND)).strip()


def test_without_updates_there_is_nothing_to_do(stack: Stack) -> None:
    done = stack.provision("patch", "--yes")
    assert done.stderr.endswith("nothing to do\n")
    assert done.stderr.count(": nothing to do") == 3


def test_a_dry_run_tells_and_changes_nothing(stack: Stack) -> None:
    offer(stack, FIRST, "2", "touch /run/reboot-required")
    stack.ssh(FIRST, "apt-get -q update")
    with untouched(stack, FIRST), untouched(stack, WEB):
        done = stack.provision("patch", "--dry-run", "--reboot", "always")
    assert f"{FIRST}: 1 package, reboot\n    meanwhile app: 2 - 1 = 1 instances serve, on {SECOND}" in done.stderr
    assert "nobody stands in: web: 1 - 1 = 0 web hosts: the site is away" in done.stderr
    assert done.stderr.endswith("nothing was changed\n")


def test_what_nobody_stands_in_for_is_refused_before_anything_is_done(stack: Stack) -> None:
    boots = [stack.ssh(name, BOOT) for name in (WEB, FIRST, SECOND)]
    refused = stack.provision("patch", "--yes", "--reboot", "always", code=6)
    assert f"{WEB}: web: 1 - 1 = 0 web hosts: the site is away" in refused.stderr
    assert f"provision patch -i stack --host {FIRST} --host {SECOND}. " in refused.stderr
    assert boots == [stack.ssh(name, BOOT) for name in (WEB, FIRST, SECOND)]
    assert installed(stack, FIRST) == "ii 1"


def test_an_update_that_wants_a_reboot_gets_it(stack: Stack) -> None:
    """The other hosts have nothing to do, and are not touched."""
    boots = {name: stack.ssh(name, BOOT) for name in (WEB, FIRST, SECOND)}
    done = patch(stack)
    assert [(one["host"], one["packages"], one["rebooted"]) for one in done["patched"]] == [(FIRST, [PACKAGE], True)]
    after = {name: stack.ssh(name, BOOT) for name in boots}
    assert {name for name in boots if boots[name] != after[name]} == {FIRST}
    assert done["patched"][0]["boot"] == after[FIRST].strip()
    assert installed(stack, FIRST) == "ii 2"
    assert left(stack) == ""
    names = [item["name"] for item in done["operations"] if item["status"] == "changed"]
    assert names == ["Take it out of service", "Upgrade 1 package", "Reboot", "Put it back into service"]


def test_an_update_that_restarts_nothing_needs_no_stand_in(stack: Stack) -> None:
    offer(stack, WEB, "2")
    done = patch(stack)
    assert [(one["host"], one["rebooted"]) for one in done["patched"]] == [(WEB, False)]
    assert installed(stack, WEB) == "ii 2"


def test_a_host_that_fails_ends_the_run_and_the_next_one_goes_on(stack: Stack) -> None:
    for name in (FIRST, SECOND):
        offer(stack, name, "3", "test -e /opt/probe/may")
    stack.ssh(SECOND, "touch /opt/probe/may")
    failed = stack.provision("patch", "--yes", code=4)
    assert f"{FIRST}: the upgrade failed (ended 100)" in failed.stderr
    assert f"{FIRST}: serves as before" in failed.stderr
    assert f"Not touched: {SECOND}. Done: none" in failed.stderr
    assert (installed(stack, FIRST), installed(stack, SECOND)) == ("iF 3", "ii 1")
    assert left(stack) == ""
    assert "<h1>" in page(stack, WEB)
    stack.ssh(FIRST, "touch /opt/probe/may")
    assert [one["host"] for one in patch(stack)["patched"]] == [FIRST, SECOND]
    assert (installed(stack, FIRST), installed(stack, SECOND)) == ("ii 3", "ii 3")


def kill_in_the_upgrade(stack: Stack) -> None:
    """`provision patch`, killed while the first host upgrades its packages."""
    words = [PROVISION, "patch", "--yes", "-i", str(stack.path)]
    with subprocess.Popen(
        words, cwd=stack.folder, env=stack.environment, stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        for _ in range(600):
            if stack.ssh(FIRST, f"systemctl is-active {UNIT}", check=False).strip() == "active":
                break
            time.sleep(0.2)
        os.killpg(run.pid, signal.SIGKILL)
    assert DRAIN in left(stack)
    assert "roadbed_drain" in left(stack)
    assert "<h1>" in page(stack, WEB)


def test_a_run_that_is_killed_is_finished_by_the_next(stack: Stack) -> None:
    """The upgrade runs on; the host is out of the routing meanwhile, and the site answers."""
    offer(stack, FIRST, "4", "sleep 12")
    kill_in_the_upgrade(stack)
    done = patch(stack)
    assert [one["host"] for one in done["patched"]] == [FIRST]
    assert installed(stack, FIRST) == "ii 4"
    assert left(stack) == ""
    assert stack.provision("patch", "--yes").stderr.endswith("nothing to do\n")
    assert stack.provision("verify", "phase3").stderr.count("checks do not hold") == 0


def test_a_phase_puts_back_what_a_killed_run_left(stack: Stack) -> None:
    offer(stack, FIRST, "5", "sleep 5")
    kill_in_the_upgrade(stack)
    time.sleep(8)
    assert stack.provision("phase3", "--yes")
    assert left(stack) == ""
    assert installed(stack, FIRST) == "ii 5"


def test_a_host_gets_its_requests_back_when_nobody_renews(stack: Stack) -> None:
    """What a killed run leaves ends by itself; here after 5 s, not 15 min."""
    from roadbed.releases.scripts import script

    given = {"family": "ip", "address": stack.address(FIRST), "ports": "5000-5059", "nginx": "www-data"}
    stack.ssh(WEB, f"sh -s <<'END'\n{script('take_out', **given, flag=DRAIN, seconds='5')}\nEND")
    assert "roadbed_drain" in left(stack)
    time.sleep(9)
    assert left(stack) == ""
