"""The app's instances: they run, they are healthy, and they are shut in."""

import json
import re
import shlex
from collections.abc import Callable

from testinfra.host import Host

from roadbed.checks.instances import active_ports, active_slot, active_units, exposure, health, pid, show
from roadbed.deploys.app import DRAIN_MARGIN
from roadbed.deploys.cdn import stop_margin
from roadbed.deploys.context import Context
from roadbed.deploys.environment import instance_addresses, jemalloc
from roadbed.deploys.skew import INSTANCES, LATER

EXPOSURE_LIMIT = 1.5
"""A unit with User= alone scores 9.2; MemoryDenyWriteExecute= is out of reach, V8 needs what it forbids."""
WATCHDOG_SAID = 45
"""Seconds: said every 20, and once it may be late."""
TIMER_LATE = 180
"""Seconds: looked at every 60, and an instance that stops finishes its requests."""
SECONDS = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 0.001, "us": 0.000001}


def test_instances_run(host: Host, ctx: Context) -> None:
    """Every instance of the active slot runs, and starts at boot."""
    for unit in active_units(ctx, host):
        assert host.service(unit).is_running, unit
        assert host.service(unit).is_enabled, unit
    assert host.service(f"{ctx.inventory.app.name}.target").is_enabled


def test_ready(host: Host, ctx: Context) -> None:
    """Every instance reports that it is ready, on each of its addresses."""
    for port in active_ports(ctx, host):
        for address in instance_addresses(ctx, ctx.name):
            assert health(host, port, address)["status"] == "ready", f"{address}, port {port}"


def test_one_release(host: Host, ctx: Context) -> None:
    """All instances of the active slot run the release their slot names."""
    link = host.check_output(f"readlink -f {ctx.inventory.app.root}/slots/{active_slot(ctx, host)}")
    releases = {health(host, port)["release"] for port in active_ports(ctx, host)}
    assert releases == {link.strip().rpartition("/")[2]}


def test_node_version(host: Host, ctx: Context) -> None:
    """The instances run the version of Node.js that their release was built for."""
    root, slot = ctx.inventory.app.root, active_slot(ctx, host)
    manifest = json.loads(host.file(f"{root}/slots/{slot}/.roadbed/manifest.json").content_string)
    for port in active_ports(ctx, host):
        assert health(host, port)["node"].lstrip("v") == manifest["node"].lstrip("v")


def test_sandbox(host: Host, ctx: Context, measure: Callable[..., None]) -> None:
    """systemd's own rating of the sandbox is 1.5 or better."""
    measure("exposure", exposure(host, active_units(ctx, host)[0]), "points", EXPOSURE_LIMIT)


def test_user_and_capabilities(host: Host, ctx: Context) -> None:
    """The instances run as the app's user, without capabilities, and cannot gain any."""
    for unit in active_units(ctx, host):
        number = pid(host, unit)
        assert host.check_output(f"stat -c %U /proc/{number}") == ctx.inventory.app.name
        status = dict(line.split(":\t", 1) for line in host.check_output(f"cat /proc/{number}/status").splitlines())
        for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0, f"{unit}: {name}"
        assert status["NoNewPrivs"].strip() == "1"
        assert status["Seccomp"].strip() == "2"


def test_read_only(host: Host, ctx: Context) -> None:
    """An instance sees a file system it cannot change, except its cache and its own /tmp."""
    app = ctx.inventory.app
    inside = f"nsenter --target {pid(host, active_units(ctx, host)[0])} --mount"
    for folder in ("/etc", "/usr", "/var/lib", app.root, f"{app.root}/releases"):
        assert host.run(f"{inside} touch {folder}/.roadbed-check").rc != 0, folder
    for folder in ("/tmp", f"/var/cache/{app.name}"):  # noqa: S108  (the unit's private /tmp)
        file = f"{folder}/.roadbed-check"
        host.run_expect([0], f"{inside} touch {file}")
        host.run_expect([0], f"{inside} rm {file}")
    assert host.run(f"{inside} cat /etc/roadbed/{app.name}/env").rc != 0


def test_memory_limit(host: Host, ctx: Context) -> None:
    """Every instance is bounded to its share of the memory."""
    for unit in active_units(ctx, host):
        assert int(show(host, unit, "MemoryMax")) == ctx.sizing().memory_mb * 1024 * 1024, unit


def test_drain(host: Host, ctx: Context) -> None:
    """A stopping instance has the time to finish the longest request."""
    wanted = ctx.inventory.app.drain + DRAIN_MARGIN + stop_margin(ctx)
    for unit in active_units(ctx, host):
        parts = re.findall(r"([0-9.]+)(h|min|ms|us|s)", show(host, unit, "TimeoutStopUSec"))
        assert sum(float(number) * SECONDS[unit_] for number, unit_ in parts) == wanted


def test_environment_file(host: Host, ctx: Context) -> None:
    """Only root and the app's group can read the environment, which holds the secrets."""
    file = host.file(f"/etc/roadbed/{ctx.inventory.app.name}/env")
    assert (file.mode, file.user, file.group) == (0o640, "root", ctx.inventory.app.name)


def test_addresses(host: Host, ctx: Context) -> None:
    """The instances listen on the addresses that nginx uses, here and on other web hosts, and on no other."""
    known = [host.check_output(f"getent ahosts {address}").split() for address in instance_addresses(ctx, ctx.name)]
    for port in active_ports(ctx, host):
        sockets = host.check_output(f"ss -Hltn 'sport = :{port}'").splitlines()
        listening = {line.split()[3].rpartition(":")[0].strip("[]") for line in sockets}
        assert len(listening) == len(known), listening
        assert all(listening & set(names) for names in known), listening


def test_watchdog(host: Host, ctx: Context) -> None:
    """An instance whose event loop stands still for a minute is started anew, and says in time that it turns."""
    for unit in active_units(ctx, host):
        assert show(host, unit, "WatchdogUSec") == "1min", unit
        said = shlex.quote(show(host, unit, "WatchdogTimestamp"))
        age = int(host.check_output(f"echo $(( $(date +%s) - $(date -d {said} +%s) ))"))
        assert age <= WATCHDOG_SAID, f"{unit}: {age} s"


def test_jemalloc(host: Host, ctx: Context) -> None:
    """jemalloc is the allocator of every instance."""
    for unit in active_units(ctx, host):
        name = jemalloc(ctx.me.arch).rpartition("/")[2]
        assert name in host.check_output(f"cat /proc/{pid(host, unit)}/maps"), unit


def test_kept_instances_have_their_time(host: Host, ctx: Context, measure: Callable[..., None]) -> None:
    """What is kept of the release before is stopped by the host itself when its time is over."""
    assert host.service(f"{INSTANCES}.timer").is_running
    assert host.service(f"{INSTANCES}.timer").is_enabled
    since = host.check_output(f"cat {ctx.inventory.app.skewed}/[abc] 2>/dev/null; date +%s").split()
    oldest = int(since[-1]) - min(map(int, since))
    measure("kept for", oldest, "s", ctx.inventory.app.skew + LATER + TIMER_LATE)
    measure("exposure", exposure(host, f"{INSTANCES}.service"), "points", EXPOSURE_LIMIT)


def test_no_debt(host: Host, ctx: Context) -> None:
    """No changed environment or unit waits for the instances to take it over."""
    assert not host.file(f"/var/lib/roadbed/pending/{ctx.inventory.app.name}").exists
