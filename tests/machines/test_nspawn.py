"""Rehearsal machines by systemd-nspawn, on real ones: two of our own, beside whatever else is running."""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadbed.machines import nspawn, registry
from roadbed.machines.model import MachinesError, MachineSpec

from .conftest import BOOT, NO_BOOT

TRIXIE = MachineSpec("t-trixie", "192.168.60.200", "trixie")
BOOKWORM = MachineSpec("t-bookworm", "192.168.60.201", "bookworm", memory=256, cpus=1.0)
LATER = MachineSpec("t-later", "192.168.60.202", "bookworm")
ALL = (TRIXIE, BOOKWORM, LATER)
CLOSED_PORT = 9  # discard, RFC 863: refused, so that a round trip is measured without bothering sshd


FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


HARDENING = [
    "DynamicUser=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateUsers=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "NoNewPrivileges=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallFilter=@system-service",
    "CapabilityBoundingSet=",
]


def forward_before() -> str:
    """ip_forward as it was before the first machine."""
    state = registry.STATE / "network.json"
    return json.loads(state.read_text())["ip_forward"] if state.exists() else FORWARD.read_text().strip()


def ours() -> list[str]:
    return [machine.name for machine in nspawn.listing() if machine.name in {spec.name for spec in ALL}]


@pytest.fixture(scope="module", autouse=True)
def machines() -> Iterator[None]:
    nspawn.down(ours())
    for machine in nspawn.up([TRIXIE, BOOKWORM]):
        print(f"\n{machine.name} ({machine.suite}): boot to SSH {machine.boot_seconds} s")
    yield
    nspawn.down(ours())


def ssh(
    name: str, command: str, user: str = "admin", stdin: str = "", timeout: float = 60
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*nspawn.ssh_command(name, user), command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def out(name: str, command: str, user: str = "admin", stdin: str = "") -> str:
    done = ssh(name, command, user, stdin)
    assert done.returncode == 0, done
    assert done.stderr == ""
    return done.stdout.strip()


def round_trip(spec: MachineSpec, timeout: float = 3) -> float:
    """Milliseconds until a closed port refuses; OSError when nothing comes back."""
    begin = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((spec.address, CLOSED_PORT), timeout)
    return (time.monotonic() - begin) * 1000


both = pytest.mark.parametrize("spec", [TRIXIE, BOOKWORM], ids=lambda spec: spec.suite)


@both
def test_runs_its_suite_with_systemd_and_no_failed_unit(spec: MachineSpec) -> None:
    assert f"VERSION_CODENAME={spec.suite}" in out(spec.name, "cat /etc/os-release")
    assert out(spec.name, "systemctl is-system-running --wait") == "running"
    assert out(spec.name, "systemctl --failed --no-legend") == ""
    assert out(spec.name, "hostname") == spec.name


@both
def test_admin_has_sudo_without_password_and_root_logs_in(spec: MachineSpec) -> None:
    assert out(spec.name, "id -un") == "admin"
    assert out(spec.name, "sudo -n id -un") == "root"
    assert out(spec.name, "id -un", user="root") == "root"


@both
def test_passwords_are_not_accepted(spec: MachineSpec) -> None:
    command = nspawn.ssh_command(spec.name)
    command[1:1] = ["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=0"]
    refused = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


@both
def test_is_bare(spec: MachineSpec) -> None:
    assert ssh(spec.name, "command -v curl python3 nginx nft").stdout == ""
    assert out(spec.name, "ls /var/lib/apt/lists") in ("", "lock\npartial", "partial")


@both
def test_sysctl_takes_every_value_and_leaves_this_machine_alone(spec: MachineSpec) -> None:
    swappiness = Path("/proc/sys/vm/swappiness").read_text()
    settings = "vm.swappiness = 7\nnet.core.somaxconn = 4097\nkernel.kptr_restrict = 2\nfs.file-max = 500000\n"
    out(spec.name, "sudo tee /etc/sysctl.d/90-test.conf", stdin=settings)
    out(spec.name, "sudo sysctl --system")
    assert out(spec.name, "sudo sysctl -n vm.swappiness net.core.somaxconn") == "7\n4097"
    assert Path("/proc/sys/vm/swappiness").read_text() == swappiness


@both
def test_hardened_units_and_their_limits_are_real(spec: MachineSpec) -> None:
    run = "sudo systemd-run --quiet --wait --pipe " + " ".join(f"--property={each}" for each in HARDENING)
    assert "Seccomp:\t2" in out(spec.name, f"{run} cat /proc/self/status")
    hungry = "sh -c 'head -c 200000000 /dev/zero | tail >/dev/null'"
    assert ssh(spec.name, f"{run} -p MemoryMax=64M {hungry}").returncode != 0
    assert ssh(spec.name, f"{run} {hungry}").returncode == 0
    ping = "ping -c 1 -W 1 127.0.0.1"
    assert ssh(spec.name, f"sudo systemd-run --quiet --wait -p IPAddressDeny=any {ping}").returncode != 0
    out(spec.name, "sudo systemctl reset-failed")


def test_control_machine_certificates_and_packages_reach_the_machine() -> None:
    assert "Reading package lists" in out(TRIXIE.name, "sudo apt-get update")
    install = "sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends nftables"
    assert ssh(TRIXIE.name, install).returncode == 0
    rules = "table inet t {\n chain i {\n type filter hook input priority 0\n tcp dport 9999 counter drop\n }\n}\n"
    out(TRIXIE.name, "sudo nft -f -", stdin=rules)
    assert "dport 9999" in out(TRIXIE.name, "sudo nft list ruleset")
    https = "openssl s_client -brief -verify_return_error -connect registry.npmjs.org:443"
    answer = ssh(TRIXIE.name, f"{https} </dev/null")
    assert "Verification: OK" in answer.stderr, answer


def test_machines_reach_one_another() -> None:
    out(BOOKWORM.name, f"ping -c 1 -W 2 {TRIXIE.address}")


def test_memory_and_cpu_limits_are_enforced() -> None:
    hungry = "head -c 350000000 /dev/zero | tail | wc -c"
    assert ssh(BOOKWORM.name, hungry).stdout.strip() != "350000000"
    assert out(TRIXIE.name, hungry) == "350000000"
    spin = "time -p timeout 1.5 sh -c 'while :; do :; done & while :; do :; done'"
    times = ssh(BOOKWORM.name, f"bash -c '{spin.replace(chr(39), chr(34))}'").stderr
    used = sum(float(line.split()[1]) for line in times.splitlines() if line.split()[:1] in (["user"], ["sys"]))
    assert used < 2.0, times  # two loops on one CPU's worth of time


def test_reboot_from_inside_brings_a_new_boot_id_and_keeps_the_disk() -> None:
    before = out(TRIXIE.name, "cat /proc/sys/kernel/random/boot_id; touch kept")
    ssh(TRIXIE.name, "sudo systemctl reboot")
    begin = time.monotonic()
    after = ssh(TRIXIE.name, BOOT)
    while (after.returncode != 0 or after.stdout.strip() in (*NO_BOOT, before)) and time.monotonic() - begin < 30:
        time.sleep(0.2)
        after = ssh(TRIXIE.name, BOOT)
    assert after.returncode == 0
    assert after.stdout.strip() != before
    print(f"\nreboot to SSH {time.monotonic() - begin:.1f} s")
    assert out(TRIXIE.name, "ls kept") == "kept"
    rules = "sudo nft list ruleset" if ssh(TRIXIE.name, "test -x /usr/sbin/nft").returncode == 0 else "true"
    assert "dport 9999" not in out(TRIXIE.name, rules)  # what was not saved to a file is gone, as anywhere
    assert nspawn.listing()[-1].state == "running"


def test_cut_loses_the_machine_and_heal_brings_it_back() -> None:
    round_trip(BOOKWORM)
    nspawn.cut(BOOKWORM.name)
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        socket.create_connection((BOOKWORM.address, 22), 1)
    assert time.monotonic() - begin < 2
    nspawn.heal(BOOKWORM.name)
    assert out(BOOKWORM.name, "echo here") == "here"


def test_slow_delays_both_ways_and_nobody_else() -> None:
    nspawn.slow(BOOKWORM.name, 25)
    trips = [round_trip(BOOKWORM) for _ in range(5)]
    assert min(trips) >= 50
    assert statistics.median(trips) < 90
    assert min(round_trip(TRIXIE) for _ in range(3)) < 25
    nspawn.cut(BOOKWORM.name)
    nspawn.heal(BOOKWORM.name)
    assert min(round_trip(BOOKWORM) for _ in range(3)) >= 50
    megabytes = 8_000_000
    assert out(BOOKWORM.name, "wc -c", stdin="x" * megabytes) == str(megabytes)
    nspawn.slow(BOOKWORM.name, 0)
    assert min(round_trip(BOOKWORM) for _ in range(3)) < 25


def test_up_again_leaves_a_running_machine_alone() -> None:
    before = registry.load(TRIXIE.name)
    assert nspawn.up([TRIXIE])[0].state == "running"
    assert registry.load(TRIXIE.name) == before


def test_up_with_another_definition_is_refused() -> None:
    with pytest.raises(MachinesError, match=r"t-trixie: this machine exists, but its memory is None, not 512"):
        nspawn.up([MachineSpec(TRIXIE.name, TRIXIE.address, TRIXIE.suite, memory=512)])


def test_another_subnet_is_refused() -> None:
    with pytest.raises(MachinesError, match=r"outside 192\.168\.60\.0/24"):
        nspawn.up([MachineSpec("t-elsewhere", "10.99.8.200")])
    assert "t-elsewhere" not in registry.names()


def test_powered_off_machine_is_stopped_and_boots_again_with_its_disk() -> None:
    out(BOOKWORM.name, "touch kept")
    key = nspawn.host_key(BOOKWORM.name)
    ssh(BOOKWORM.name, "sudo systemctl poweroff")
    deadline = time.monotonic() + 20
    while registry.load(BOOKWORM.name).running() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not registry.load(BOOKWORM.name).running()
    with pytest.raises(MachinesError, match="t-bookworm: is stopped; start it"):
        nspawn.cut(BOOKWORM.name)
    nspawn.up([BOOKWORM])
    assert out(BOOKWORM.name, "ls kept") == "kept"
    assert nspawn.host_key(BOOKWORM.name) == key


def test_reset_gives_a_fresh_disk_and_a_new_host_key() -> None:
    key = nspawn.host_key(BOOKWORM.name)
    (machine,) = nspawn.reset([BOOKWORM.name])
    print(f"\nreset to SSH {machine.boot_seconds} s")
    assert ssh(BOOKWORM.name, "ls kept").returncode != 0
    assert nspawn.host_key(BOOKWORM.name) != key
    assert nspawn.host_key(BOOKWORM.name) != nspawn.host_key(TRIXIE.name)


def test_machine_outlives_the_process_that_started_it() -> None:
    start = (
        "from roadbed.machines import nspawn; from roadbed.machines.model import MachineSpec; "
        f"nspawn.up([MachineSpec({LATER.name!r}, {LATER.address!r}, {LATER.suite!r})])"
    )
    # Returns only when nobody holds the pipes any more.
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "t-later answers SSH after" in done.stdout
    assert out(LATER.name, "echo here") == "here"


def test_lost_disk_and_processes_are_replaced() -> None:
    """What a reboot of the control machine leaves: records, without mounts or processes."""
    record = registry.load(LATER.name)
    assert record.supervisor is not None
    script = (
        "import sys; from roadbed.machines import boot, commands, disk, link, registry; "
        "record = registry.load(sys.argv[1]); boot.stop(record); "
        "commands.unmount(disk.folder(sys.argv[1])); link.unplug(record.spec)"
    )
    subprocess.run([*as_root(), sys.executable, "-c", script, LATER.name], check=True)
    said: list[str] = []
    nspawn.up([LATER], say=said.append)
    assert any("its disk is gone" in line for line in said)
    assert out(LATER.name, "echo here") == "here"


def as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo"]


def test_interrupted_up_is_cleaned_by_down() -> None:
    nspawn.down([LATER.name])
    child = subprocess.Popen(
        [*as_root(), sys.executable, "-I", "-m", "roadbed.machines.privileged", "up"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps({"specs": [LATER.__dict__], **nspawn.settings(print)}))
    child.stdin.close()
    deadline = time.monotonic() + 10
    while LATER.name not in registry.names() and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert nspawn.down([LATER.name]) == [LATER.name]
    assert traces(LATER) == []


def test_down_of_an_unknown_machine_names_the_known_ones() -> None:
    with pytest.raises(MachinesError, match=r"t-nobody: no such machine; machines: .*t-trixie"):
        nspawn.down(["t-nobody"])


def test_down_leaves_nothing_behind() -> None:
    others = [machine.name for machine in nspawn.listing() if machine.name not in ours()]
    forward = "1" if others else forward_before()
    assert sorted(nspawn.down(ours())) == ["t-bookworm", "t-trixie"]
    for spec in ALL:
        assert traces(spec) == []
    left = shared_traces()
    assert bool(left) == bool(others), left
    assert FORWARD.read_text().strip() == forward


# Runs with a network, /sys and /run of its own, so that nothing real is at stake.
ALONE = """
import ipaddress, pathlib, subprocess, sys
from roadbed.machines import registry
from roadbed.machines.model import MachinesError
registry.STATE = pathlib.Path(sys.argv[1])
from roadbed.machines import network

FORWARD = pathlib.Path("/proc/sys/net/ipv4/ip_forward")
FORWARD.write_text("0")
subprocess.run(sys.argv[2], shell=True, check=True)

def there():
    show = "ip -br link; ip -br address; nft list ruleset"
    return FORWARD.read_text() + subprocess.run(show, shell=True, check=True, capture_output=True, text=True).stdout

before = there()
try:
    network.ensure(ipaddress.IPv4Network("192.168.60.0/24"), print)
    print("made:", there())
    network.remove()
except MachinesError as error:
    print("refused:", error)
print("unchanged" if there() == before and not list(registry.STATE.iterdir()) else there())
"""


def alone(state: Path, foreign: str) -> str:
    enter = 'mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && exec "$@"'
    command = ["unshare", "--net", "--mount", "sh", "-c", enter, "sh", sys.executable, "-c", ALONE, str(state), foreign]
    done = subprocess.run([*as_root(), *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("foreign", "refusal"),
    [
        ("ip link add roadbed0 type bridge", "refused: roadbed0: a network interface of this name exists"),
        ("nft add table ip roadbed_machines", "refused: nftables table ip roadbed_machines: exists"),
        ("ip link set lo up; ip address add 192.168.60.9/30 dev lo", "route into that network (192.168.60.8/30 on lo)"),
    ],
)
def test_what_others_made_is_refused_and_not_touched(foreign: str, refusal: str, tmp_path: Path) -> None:
    told = alone(tmp_path, foreign)
    assert refusal in told
    assert told.endswith("unchanged\n")


def test_network_comes_and_goes_without_a_trace(tmp_path: Path) -> None:
    told = alone(tmp_path, "true")
    assert told.startswith("made: 1\n")
    assert "roadbed0" in told
    assert "masquerade" in told
    assert told.endswith("unchanged\n")


def test_foreign_firewall_that_drops_is_told(tmp_path: Path) -> None:
    docker = "nft 'table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }; }'"
    told = alone(tmp_path, docker)
    assert told.startswith("Warning: the chain `ip filter FORWARD` drops forwarded packets")
    assert told.endswith("unchanged\n")


def traces(spec: MachineSpec) -> list[str]:
    """Whatever has the machine's name or its interface's."""
    words = (f"roadbed-machines/run/{spec.name}", f"roadbed-{spec.name}", f"roadbed0-{spec.octet}")
    files = [*Path("/run/netns").glob("*"), *Path("/sys/class/net").glob("*"), *_cgroups()]
    files += Path("/run/systemd/nspawn").glob("*/*")
    places = [str(path) for path in files] + Path("/proc/self/mounts").read_text().splitlines()
    found = [place for place in places if any(word in place for word in (*words, f"roadbed-machines/{spec.name}"))]
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    found += [line for line in listing.splitlines() if f"--machine=roadbed-{spec.name}" in line]
    found += [line for line in listing.splitlines() if "roadbed.machines.supervise" in line and spec.name in line]
    return found + [name for name in registry.names() if name == spec.name]


def _cgroups() -> list[Path]:
    return [Path(folder) for folder, _, _ in os.walk("/sys/fs/cgroup") if "roadbed-machines" in folder]


def shared_traces() -> list[str]:
    """What all machines share."""
    tables = subprocess.run([*as_root(), "nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    found = [line for line in tables.splitlines() if "roadbed" in line]
    found += [str(path) for path in Path("/sys/class/net").glob("roadbed*")]
    return found + [str(path) for path in _cgroups()]
