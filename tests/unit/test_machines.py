"""Rehearsal machines: everything that is decided before anything is made."""

import ipaddress
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from roadbed.machines import (
    base,
    carried,
    cgroups,
    commands,
    disk,
    link,
    network,
    nspawn,
    preflight,
    privileged,
    registry,
    supervise,
)
from roadbed.machines.model import MachinesError, MachineSpec

SUBNET = ipaddress.IPv4Network("192.168.60.0/24")

UNIFIED = """\
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
31 22 0:27 / /sys/fs/pstore rw,nosuid,nodev,noexec,relatime shared:10 - pstore pstore rw
"""

HYBRID = """\
30 22 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:12 - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/memory rw,nosuid shared:13 - cgroup cgroup rw,memory
35 30 0:31 / /sys/fs/cgroup/pids rw,nosuid shared:14 - cgroup cgroup rw,pids
36 30 0:32 / /sys/fs/cgroup/devices rw,nosuid shared:15 - cgroup cgroup rw,devices
37 30 0:33 / /sys/fs/cgroup/cpuset rw,nosuid shared:16 - cgroup cgroup rw,cpuset
"""


class Said(list[str]):
    """Collects what is said."""

    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of its own."""
    monkeypatch.setattr(registry, "STATE", tmp_path)
    for name in ("registry", "base", "run"):
        monkeypatch.setattr(registry, name.upper(), tmp_path / name)
    return tmp_path


# --- what a machine may be ---


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"name": "Web_1"}, "not a machine name"),
        ({"name": "-web"}, "not a machine name"),
        ({"name": "../web"}, "not a machine name"),
        ({"suite": "buster"}, "unknown suite 'buster'; use one of bookworm, trixie"),
        ({"memory": 32}, "at least 64"),
        ({"cpus": 0}, "more than 0"),
        ({"address": "ten"}, "is not an IPv4 address"),
        ({"address": "8.8.8.8"}, "not a private address"),
        ({"address": "127.0.0.9"}, "not a private address"),
        ({"address": "192.168.60.1"}, "the gateway's"),
        ({"address": "192.168.60.0"}, "the network's own"),
        ({"address": "192.168.60.255"}, "the broadcast address"),
    ],
)
def test_bad_spec_is_refused_with_the_rule(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(MachinesError, match=rule.replace("(", r"\(")):
        MachineSpec(**{"name": "web-1", "address": "192.168.60.11", **fields})


def test_spec_knows_its_network() -> None:
    spec = MachineSpec("web-1", "192.168.60.11")
    assert (spec.subnet, spec.octet, spec.suite) == (SUBNET, 11, "trixie")


def record(name: str, address: str, **more: Any) -> registry.Record:
    return registry.Record(MachineSpec(name, address, **more))


@pytest.mark.parametrize(
    ("specs", "rule"),
    [
        ([MachineSpec("a", "192.168.60.11"), MachineSpec("a", "192.168.60.12")], "a: named twice"),
        ([MachineSpec("a", "192.168.60.11"), MachineSpec("b", "192.168.60.11")], "192.168.60.11 belongs to b already"),
        ([MachineSpec("a", "192.168.60.50")], "belongs to old already"),
        ([MachineSpec("a", "10.99.8.11")], "outside 192.168.60.0/24, the network of old"),
        ([MachineSpec("old", "192.168.60.51")], "address is 192.168.60.50, not 192.168.60.51; remove it first"),
        ([MachineSpec("old", "192.168.60.50", memory=512)], "memory is None, not 512; remove it first"),
    ],
)
def test_contradictions_are_refused(specs: list[MachineSpec], rule: str) -> None:
    with pytest.raises(MachinesError, match=rule):
        privileged.check(specs, [record("old", "192.168.60.50")])


def test_known_and_new_machines_go_together() -> None:
    specs = [MachineSpec("old", "192.168.60.50"), MachineSpec("new", "192.168.60.51")]
    privileged.check(specs, [record("old", "192.168.60.50"), record("other", "192.168.60.52")])


# --- control groups ---


def test_unified_layout() -> None:
    layout = cgroups.parse_layout(UNIFIED)
    assert layout == cgroups.Layout(Path("/sys/fs/cgroup"), {})
    assert layout.groups("web-1") == [Path("/sys/fs/cgroup/roadbed-machines/web-1")]


def test_hybrid_layout_has_every_tree_once() -> None:
    layout = cgroups.parse_layout(HYBRID)
    assert layout.main == Path("/sys/fs/cgroup/unified")
    assert [str(group.parent.parent.name) for group in layout.groups("web-1")] == [
        "unified",
        "systemd",
        "cpu,cpuacct",
        "memory",
        "pids",
    ]


def test_layout_without_cgroups_is_refused() -> None:
    with pytest.raises(MachinesError, match="no cgroup tree is mounted"):
        cgroups.parse_layout(UNIFIED.splitlines()[0])


def test_limits_on_v2() -> None:
    root = Path("/sys/fs/cgroup")
    layout = cgroups.parse_layout(UNIFIED)
    assert cgroups.limits(layout, 512, 1.5) == [
        (root, "memory.max", "536870912"),
        (root, "memory.swap.max", "0"),
        (root, "cpu.max", "150000 100000"),
    ]
    assert [value for _, _, value in cgroups.limits(layout, None, None)] == ["max", "max", "max 100000"]


def test_limits_on_v1() -> None:
    root = Path("/sys/fs/cgroup")
    assert cgroups.limits(cgroups.parse_layout(HYBRID), 512, 0.5) == [
        (root / "memory", "memory.limit_in_bytes", "536870912"),
        (root / "memory", "memory.memsw.limit_in_bytes", "536870912"),
        (root / "cpu,cpuacct", "cpu.cfs_quota_us", "50000"),
    ]


# --- network ---


def test_ruleset_masquerades_only_what_leaves_the_bridge() -> None:
    assert 'ip saddr 192.168.60.0/24 oifname != "roadbed0" masquerade' in network.ruleset(SUBNET)


@pytest.mark.parametrize(
    "route",
    [
        {"dst": "192.168.60.0/24", "dev": "eth1"},
        {"dst": "192.168.0.0/18", "dev": "wg0"},
        {"dst": "192.168.60.40", "dev": "tun0"},
        {"type": "blackhole", "dst": "192.168.0.0/16"},
    ],
)
def test_a_route_into_the_subnet_is_a_collision(route: dict[str, Any]) -> None:
    found = network.collision([{"dst": "default", "dev": "eth0"}, route], SUBNET)
    assert found == f"{route['dst']} on {route.get('dev', 'no device')}"


def test_default_routes_and_own_routes_are_no_collision() -> None:
    routes = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "0.0.0.0/1", "dev": "tun0"},
        {"dst": "192.168.60.0/24", "dev": "roadbed0"},
        {"dst": "10.99.8.0/24", "dev": "eth1"},
        {"type": "local", "dst": "127.0.0.1", "dev": "lo"},
    ]
    assert network.collision(routes, SUBNET) is None


def test_a_dropping_forward_chain_is_named_unless_it_knows_the_bridge() -> None:
    chain = {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}
    other = {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}
    ruleset = {"nftables": [{"metainfo": {}}, {"chain": chain}, {"chain": other}]}
    assert network.forward_blockers(ruleset) == ["ip filter FORWARD"]
    match = {"match": {"left": {"meta": {"key": "iifname"}}, "op": "==", "right": "roadbed0"}}
    ruleset["nftables"].append({"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": [match]}})
    assert network.forward_blockers(ruleset) == []


def test_interface_names_fit_the_kernel_and_addresses_are_local() -> None:
    spec = MachineSpec("a-machine-with-quite-a-long-name", "192.168.60.254")
    assert len(f"{link.cable(spec)}p") <= 15
    mac = network.hardware_address(ipaddress.IPv4Address(spec.address))
    assert mac == "02:00:c0:a8:3c:fe"


# --- what is carried in ---


def test_proxies_are_carried_in_both_spellings(said: Said) -> None:
    found = carried.proxies({"HTTPS_PROXY": "http://proxy.corp:3128", "no_proxy": ".corp"}, said)
    assert found["https_proxy"] == found["HTTPS_PROXY"] == "http://proxy.corp:3128"
    assert found["NO_PROXY"] == ".corp,localhost,127.0.0.1"
    assert said == []


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:3128", "localhost:8080", "http://[::1]:3128"])
def test_a_proxy_on_loopback_is_not_carried_and_it_is_said(proxy: str, said: Said) -> None:
    assert carried.proxies({"http_proxy": proxy}, said) == {}
    assert "http_proxy" in said[0]


def pem(body: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----"


def test_extra_certificates_are_those_the_image_lacks() -> None:
    trusted = carried.certificates(f"{pem('AAAA')}\nnoise\n{pem('BBBB')}", pem("BBBB"))
    assert trusted == [pem("AAAA"), pem("BBBB")]
    assert carried.extra_certificates(trusted, pem("AA\nAA")) == [pem("BBBB")]


def test_stub_resolver_is_replaced_by_the_servers_behind_it(said: Said) -> None:
    stub = "nameserver 127.0.0.53\noptions edns0\n"
    real = "nameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch example.com\n"
    assert carried.resolv_conf([stub, real], said) == "nameserver 192.0.2.53\nsearch example.com\n"
    assert said == []


def test_without_a_reachable_name_server_public_ones_are_used_and_it_is_said(said: Said) -> None:
    assert carried.resolv_conf(["nameserver 127.0.0.1\n"], said).startswith("nameserver 9.9.9.9\n")
    assert "out of the machines' reach" in said[0]


def test_machine_files_of_what_is_carried() -> None:
    settings = carried.Carried({"http_proxy": "http://p:1", "no_proxy": "localhost"}, {"http": "http://p:1"})
    environment = carried.environment_file(settings, "192.168.60.0/24", has_extra=True)
    assert environment.splitlines() == [
        'http_proxy="http://p:1"',
        'no_proxy="localhost,192.168.60.0/24"',
        'NODE_EXTRA_CA_CERTS="/etc/ssl/certs/ca-certificates.crt"',
    ]
    assert carried.sudoers_file(environment) == 'Defaults env_keep += "http_proxy no_proxy NODE_EXTRA_CA_CERTS"\n'
    assert carried.apt_file(settings) == 'Acquire::http::Proxy "http://p:1";\n'


def test_nothing_carried_leaves_no_files() -> None:
    nothing = carried.Carried()
    assert carried.environment_file(nothing, "192.168.60.0/24", has_extra=False) == ""
    assert (carried.sudoers_file(""), carried.apt_file(nothing)) == ("", "")


# --- base image ---


def test_image_is_named_by_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.image("trixie", base.MIRROR)
    assert before == base.image("trixie", base.MIRROR)
    assert before != base.image("trixie", "http://mirror.example/debian")
    assert before.name.startswith("trixie-")
    monkeypatch.setattr(base, "PACKAGES", (*base.PACKAGES, "curl"))
    assert before != base.image("trixie", base.MIRROR)


def test_image_is_bare() -> None:
    assert not {"curl", "python3", "nginx", "nftables"} & set(base.PACKAGES)


def test_sources_follow_the_mirror() -> None:
    assert base.sources("bookworm", "http://m/debian")[2] == "deb http://m/debian-security bookworm-security main"


def test_scripts_are_beside_the_modules() -> None:
    scripts = Path(base.__file__).parent
    for name in ("customize.sh", "init.sh"):
        assert (scripts / name).read_text().startswith("#!/bin/sh\n")


# --- registry ---


def test_record_survives_the_file(state: Path) -> None:
    own = registry.Process.of(os.getpid())
    saved = registry.Record(MachineSpec("web-1", "192.168.60.11", "bookworm", 512, 1.5), "ssh-ed25519 AAAA", own)
    registry.save(saved)
    assert registry.load("web-1") == saved
    assert stat.S_IMODE((state / "registry/web-1.json").stat().st_mode) == 0o644
    assert [machine.state for machine in nspawn.listing()] == ["running"]


def test_a_pid_that_was_taken_over_is_not_the_process(state: Path) -> None:
    own = registry.Process.of(os.getpid())
    assert own.alive()
    assert not registry.Process(own.pid, own.started - 1).alive()
    registry.save(registry.Record(MachineSpec("web-1", "192.168.60.11"), "", registry.Process(own.pid, 1)))
    assert [machine.state for machine in nspawn.listing()] == ["stopped"]


def test_unknown_machine_is_refused_with_the_known_ones(state: Path) -> None:
    registry.save(record("web-1", "192.168.60.11"))
    with pytest.raises(MachinesError, match="web-2: no such machine; machines: web-1"):
        nspawn.ssh_command("web-2")


def test_lock_says_when_it_waits(state: Path, said: Said) -> None:
    with registry.lock("lock", "busy", said):
        assert said == []
    assert stat.S_IMODE((state / "run").stat().st_mode) == 0o700


# --- the front ---


def test_ssh_command_is_strict_about_the_host_key(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home state"))
    registry.save(registry.Record(MachineSpec("web-1", "192.168.60.11"), "ssh-ed25519 AAAA"))
    command = nspawn.ssh_command("web-1", "root")
    key = tmp_path / "home state/.local/state/roadbed/machines/id_ed25519"
    assert nspawn.key_path() == key
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert command[-1] == "root@192.168.60.11"
    assert "StrictHostKeyChecking=yes" in command
    known = Path(next(word for word in command if word.startswith("UserKnownHostsFile=")).partition("=")[2].strip('"'))
    assert known.read_text() == "192.168.60.11 ssh-ed25519 AAAA\n"


@pytest.mark.parametrize("milliseconds", [-1, 1e6, float("nan")])
def test_slow_refuses_impossible_delays(milliseconds: float) -> None:
    with pytest.raises(MachinesError, match="use 0 to 60000"):
        nspawn.slow("web-1", milliseconds)


def test_down_without_machines_needs_no_root(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "STATE", state / "never-made")
    assert nspawn.down() == []


def test_nspawn_boots_without_registering_anywhere() -> None:
    command = supervise.command(MachineSpec("web-1", "192.168.60.11"))
    assert command[-1] == disk.INIT
    for option in ("--register=no", "--keep-unit", "--settings=no"):
        assert option in command
    assert "--network-namespace-path=/run/netns/roadbed-web-1" in command


# --- preflight ---


def test_preflight_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"systemd-nspawn", "nft"}
    monkeypatch.setattr(commands, "find", lambda tool: None if tool in missing else f"/usr/bin/{tool}")
    monkeypatch.setattr(base, "KEYRING", Path("/nonexistent"))
    assert preflight.missing_packages() == ["debian-archive-keyring", "nftables", "systemd-container"]
    (problem,) = [each for each in preflight.preflight() if "Packages" in each]
    assert "apt-get install --yes debian-archive-keyring nftables systemd-container" in problem
    assert "rehearse --provider vagrant" in problem


def test_preflight_elsewhere_points_at_vagrant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert preflight.preflight() == [
        "darwin: systemd-nspawn needs Linux; rehearse on virtual machines: provision rehearse --provider vagrant"
    ]


def test_root_of_a_plain_container_is_refused() -> None:
    default_docker = "Name:\tsh\nCapEff:\t00000000a80425fb\n"
    problem = preflight.capability_problem(default_docker)
    assert problem is not None
    assert "CAP_SYS_ADMIN and CAP_NET_ADMIN" in problem
    assert preflight.capability_problem("CapEff:\t000001ffffffffff\n") is None


def test_up_on_a_platform_that_cannot_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(MachinesError, match="win32: systemd-nspawn needs Linux"):
        nspawn.up([MachineSpec("web-1", "192.168.60.11")])


# --- the privileged child ---


def test_privileged_child_answers_in_json_lines(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"])
    assert privileged.main("cut", json.dumps({"name": "web-9"})) == 1
    assert json.loads(capsys.readouterr().out) == {"error": "web-9: no such machine; machines: none"}


def test_failed_command_is_told_with_its_last_words() -> None:
    with pytest.raises(MachinesError, match=r"ls /nonexistent: .*No such file"):
        commands.run("ls", "/nonexistent")
    with pytest.raises(MachinesError, match="no-such-program: not installed"):
        commands.run("no-such-program")


def test_removing_a_tree_never_follows_links(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(precious)
    commands.remove_tree(tree)
    commands.remove_tree(tree)
    assert precious.is_dir()
    assert not tree.exists()


def test_mount_points_with_blanks_are_read() -> None:
    assert commands.unescape(r"/mnt/my\040disk") == "/mnt/my disk"
