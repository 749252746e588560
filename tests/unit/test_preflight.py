"""Facts of a host and the preflight: what a host prints, and what Roadbed makes of it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roadbed.engine.errors import OperationFailed
from roadbed.engine.facts import parse_facts
from roadbed.engine.preflight import SCRIPT, _architecture, _clock, _disks, _init, _memory, _ports, _processor, _system

Make = Callable[..., Any]
FACTS = {
    "hostname": "web-1",
    "os_id": "debian",
    "os_version": "13",
    "codename": "trixie",
    "arch": "x86_64",
    "cpus": "4",
    "memory": "4096000",
    "limit": "",
    "systemd": "257",
}


def printed(**changes: str) -> str:
    """What a host prints when it is asked for its facts."""
    return "".join(f"{key}={value}\n" for key, value in {**FACTS, **changes}.items())


@pytest.mark.parametrize(("limit", "memory"), [("", 4000), ("1073741824", 1024), ("9223372036854771712", 4000)])
def test_memory_is_what_the_cgroup_allows(limit: str, memory: int) -> None:
    """cgroup v1 prints a huge number for no limit, v2 the word max, which the script leaves out."""
    facts = parse_facts("web-1", "Last login: never\n" + printed(limit=limit))
    assert facts.memory_mb == memory
    assert (facts.os_id, facts.os_version, facts.cpus, facts.systemd) == ("debian", "13", 4, 257)


def test_a_system_without_systemd_has_facts_too() -> None:
    assert parse_facts("web-1", printed(systemd="")).systemd == 0


@pytest.mark.parametrize("output", ["", "BusyBox v1.37\n", printed(memory=""), printed(cpus="many")])
def test_what_is_no_linux_host_is_said_to_be_none(output: str) -> None:
    with pytest.raises(OperationFailed, match=r"web-1: is not a system that Roadbed knows: .* Use Debian 12, 13 or"):
        parse_facts("web-1", output)


@pytest.mark.parametrize(
    ("system", "version", "level"),
    [
        ("debian", "12", "ok"),
        ("debian", "13", "ok"),
        ("debian", "11", "error"),
        ("ubuntu", "22.04", "ok"),
        ("ubuntu", "24.04", "ok"),
        ("ubuntu", "26.04", "ok"),
        ("ubuntu", "25.10", "error"),
        ("fedora", "44", "error"),
        ("arch", "", "error"),
    ],
)
def test_supported_systems(system: str, version: str, level: str) -> None:
    facts = parse_facts("web-1", printed(os_id=system, os_version=version))
    assert _system(facts)[1] == level


@pytest.mark.parametrize(
    ("arch", "level"), [("x86_64", "ok"), ("aarch64", "ok"), ("armv7l", "error"), ("i686", "error")]
)
def test_supported_architectures(arch: str, level: str) -> None:
    assert _architecture(parse_facts("web-1", printed(arch=arch)))[1] == level


@pytest.mark.parametrize(("name", "level"), [("systemd", "ok"), ("init", "error"), ("", "error")])
def test_only_systemd_will_do(name: str, level: str) -> None:
    assert _init(name)[1] == level


@pytest.mark.parametrize(
    ("memory", "app", "level", "message"),
    [
        (4096, {}, "ok", "4096 MiB, less 384 for the system"),
        (950, {}, "ok", "950 MiB"),
        (512, {}, "error", "512 MiB of memory, 900 MiB are needed. Use a larger machine"),
        (2048, {"replicas": 20}, "error", "20 x 256 MiB, twice during a rollout, make 10240 MiB"),
    ],
)
def test_memory_must_do_for_the_app(
    make_context: Make, memory: int, app: dict[str, int], level: str, message: str
) -> None:
    found = _memory(make_context(memory_mb=memory, app=app))
    assert found[:2] == ("memory", level)
    assert message in found[2]


QEMU = "QEMU Virtual CPU version 2.5+"


def test_a_processor_that_sharp_cannot_use_is_told(make_context: Make) -> None:
    """What a virtual machine of the type qemu64 prints; Sharp ends the process by SIGILL there."""
    [(what, level, message)] = _processor(make_context(), QEMU)
    web = {"web-1": {"address": "192.0.2.10", "roles": ["web"]}, "app-1": {"address": "192.0.2.11", "roles": ["app"]}}
    assert list(_processor(make_context(hosts=web, phase="phase3"), QEMU)) == []
    assert (what, level) == ("processor", "warning")
    assert message.startswith(f"{QEMU} has no SSE4.2, and Sharp")
    assert list(_processor(make_context(), None)) == []
    assert list(_processor(make_context(app={"images": {"service": "https://img.example.com/"}}), QEMU)) == []


X86 = f"processor\t: 0\nmodel\t\t: 6\nmodel name\t: {QEMU}\nflags\t\t: fpu {{}}\nvmx flags\t: ept\n\n"
PROCESSORS = {
    2 * X86.format("sse sse2 pni"): [f"old_cpu={QEMU}"],
    2 * X86.format("sse4_1 sse4_2 popcnt"): [],
    "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU part\t: 0xd0c\n": [],
}


@pytest.mark.parametrize(("cpuinfo", "told"), PROCESSORS.items())
def test_the_processor_is_read_from_the_kernel(tmp_path: Path, cpuinfo: str, told: list[str]) -> None:
    """proc_cpuinfo(5) of two old processors, of a newer one, and of arm64."""
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    script = SCRIPT.replace("/proc/cpuinfo", str(tmp_path / "cpuinfo"))
    output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert [line for line in output.splitlines() if line.startswith("old_cpu=")] == told


def test_each_file_system_is_judged_once() -> None:
    rows = ["/ 50000", "/srv 100", "/var 50000", "/opt "]
    assert [(level, text) for _, level, text in _disks(rows)] == [
        ("ok", "/ has 48.8 GiB free"),
        ("error", "/srv has 100 MiB free, 2048 MiB are needed. Free some space"),
    ]


@pytest.mark.parametrize(("skew", "level"), [(0.2, "ok"), (-29.0, "ok"), (31.0, "error"), (-3600.0, "error")])
def test_clocks_may_differ_by_half_a_minute(skew: float, level: str) -> None:
    assert _clock(skew)[1] == level


NGINX = 'users:(("nginx",pid=9,fd=5))'
PORTS: list[tuple[list[str], bool, str]] = [
    ([f"22 ssh.service {NGINX}", "5432 - "], False, ""),
    ([f"80 nginx.service {NGINX}", f"443 nginx.service {NGINX}", "5000 shop@a-0.service x"], True, ""),
    ([f"80 nginx.service {NGINX}"], False, "80 (nginx.service)"),
    (
        ["443 apache2.service x", "80 apache2.service x", "80 apache2.service x"],
        False,
        "443 (apache2.service), 80 (apa",
    ),
    (['80 - users:(("caddy",pid=7,fd=3))'], False, '80 (users:(("caddy",pid=7,fd=3)))'),
    (["5001 other@a-0.service x"], True, "5001 (other@a-0.service)"),
]


@pytest.mark.parametrize(("rows", "ours", "taken"), PORTS)
def test_needed_ports_are_free_or_ours(make_context: Make, rows: list[str], ours: bool, taken: str) -> None:
    ((what, level, message),) = _ports(make_context(), rows, ours)
    assert (what, level) == ("ports", "error" if taken else "ok")
    assert f"taken by something else: {taken}" in message if taken else "free or ours" in message
