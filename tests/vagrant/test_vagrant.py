"""The rehearsal on virtual machines, and what only those can show: a kernel of their own."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ADDRESS, PROVISION, ROOT, Rehearsal, rehearsal

DATA = ["cache", "pooler", "database"]
THREE = {
    "web-1": {"address": f"{ADDRESS}31", "roles": ["web"], "machine": {"suite": "bookworm", "cpus": 1}},
    "app-1": {"address": f"{ADDRESS}32", "roles": ["app"], "machine": {"suite": "trixie", "cpus": 2}},
    "data-1": {"address": f"{ADDRESS}33", "roles": DATA, "machine": {"suite": "trixie", "cpus": 1}},
}

EMULATED = 100
"""Requests at once for the pool: a handshake of TLS takes an emulated processor 60 ms. The default ring sends 500."""


@pytest.fixture(scope="module")
def one(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """phase1 on one virtual machine, rehearsed and kept."""
    hosts = {"all-1": {"address": f"{ADDRESS}21", "roles": ["web", "app"], "machine": {"memory": 2048, "cpus": 2}}}
    stack = rehearsal(tmp_path_factory.mktemp("one"), environment, "one", hosts, replicas=1, migrate=None)
    try:
        print("\n" + stack.run("rehearse", "phase1", "-i", "one", "--provider", "vagrant", "--keep").stderr[-600:])
        yield stack
    finally:
        stack.run("machines", "down", "-i", "one", "--provider", "vagrant")


def serves(stack: Rehearsal, address: str) -> bool:
    words = ["curl", "-sk", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}"]
    url = ["--resolve", f"shop.example.test:443:{address}", "https://shop.example.test/api/info"]
    return subprocess.run([*words, *url], capture_output=True, text=True, check=False).stdout == "200"


def booted(stack: Rehearsal) -> str:
    """The boot id of the machine all-1; empty while it takes no login."""
    words = [PROVISION, "exec", "all-1", "-i", stack.played, "--json", "--", "cat", "/proc/sys/kernel/random/boot_id"]
    done = subprocess.run(words, env=stack.environment, capture_output=True, text=True, check=False)
    return str(json.loads(done.stdout)["hosts"]["all-1"]["stdout"]).strip() if done.returncode == 0 else ""


PROVIDERS = ["libvirt", "virtualbox", "parallels", "vmware_desktop", "utm"]
VALID = "Vagrantfile validated successfully."


def validated(folder: Path, environment: dict[str, str], provider: str, text: str) -> str:
    """What `vagrant validate` says of a Vagrantfile for a provider.

    Vagrant asks VBoxManage for its version before it looks at options of VirtualBox, and nothing else: a program that
    tells one stands in for it, and the look is Vagrant's own. Plugins that Debian lacks: see providers.rb.
    """
    (folder / "Vagrantfile").write_text((ROOT / "tests/vagrant/providers.rb").read_text() + text)
    manage = folder / "bin/VBoxManage"
    manage.parent.mkdir(exist_ok=True)
    manage.write_text("#!/bin/sh\necho 7.0.20r163906\n")
    manage.chmod(0o755)
    variables = {
        **environment,
        "PATH": f"{manage.parent}:{environment['PATH']}",
        "VAGRANT_DEFAULT_PROVIDER": provider,
        "ROADBED_INVENTORY": str(ROOT / "inventories/rehearsal.yml"),
    }
    done = subprocess.run(
        ["vagrant", "validate"], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_vagrantfile_is_valid(environment: dict[str, str], provider: str, tmp_path: Path) -> None:
    """With the block of each provider; and an option that it does not have is found."""
    text = (ROOT / "Vagrantfile").read_text()
    assert VALID in validated(tmp_path, environment, provider, text)
    block = text.index(f'machine.vm.provider "{provider}"')
    wrong = text[:block] + text[block:].replace(
        "\n      end", f"\n        {provider.split('_')[0]}.memry = 1\n      end", 1
    )
    told = validated(tmp_path, environment, provider, wrong)
    assert "The following settings shouldn't exist: memry" in told


def test_kernel_settings_are_real(one: Rehearsal) -> None:
    said = one.sh("all-1", "sysctl -n net.core.somaxconn vm.swappiness net.ipv4.ip_local_reserved_ports")
    assert said.split() == ["8192", "10", "5000-5059"]


def test_swap_is_in_use(one: Rehearsal) -> None:
    assert one.sh("all-1", "swapon --show=NAME,SIZE --noheadings").split() == ["/var/lib/roadbed/swap", "2G"]


def test_memory_limits_are_the_kernels(one: Rehearsal) -> None:
    """cgroup v2: memory.max of an instance is what the inventory says, and the kernel ends what exceeds it."""
    instance = "$(systemctl list-units --plain --no-legend 'storefront@*' | cut -d' ' -f1)"
    group = one.sh("all-1", f"systemctl show -p ControlGroup --value {instance}").strip()
    assert one.sh("all-1", f"cat /sys/fs/cgroup{group}/memory.max").strip() == str(512 * 2**20)
    assert one.sh("all-1", "stat -fc %T /sys/fs/cgroup").strip() == "cgroup2fs"


def test_clock_and_apparmor(one: Rehearsal) -> None:
    assert one.sh("all-1", "timedatectl show -p NTP --value").strip() == "yes"
    assert one.sh("all-1", "cat /sys/module/apparmor/parameters/enabled").strip() == "Y"


def test_everything_comes_back_after_a_reboot(one: Rehearsal) -> None:
    """By itself, with a restart that the machine owed: nothing is left to do for the next run."""
    before = booted(one)
    subprocess.run([PROVISION, "exec", "-i", one.played, "--", "systemctl", "reboot"], env=one.environment, check=False)
    began = time.monotonic()
    while booted(one) in ("", before) or not serves(one, f"{ADDRESS}21"):
        assert time.monotonic() - began < 600
        time.sleep(1)
    print(f"\nserves again after {time.monotonic() - began:.0f} s")
    assert one.sh("all-1", "systemctl is-system-running --wait").strip() == "running"
    assert one.sh("all-1", "swapon --show=NAME --noheadings").strip() == "/var/lib/roadbed/swap"
    assert "table inet roadbed" in one.sh("all-1", "nft list tables")
    again = json.loads(one.run("phase1", "-i", one.played, "--json", "--yes").stdout)
    assert [item for item in again["operations"] if item["status"] == "changed"] == []
    one.run("verify", "phase1", "-i", one.played)


INNER = """
from roadbed.machines import cgroups, nspawn
from roadbed.machines.model import MachineSpec
import subprocess
assert cgroups.layout().legacy == {}, "a kernel with cgroup v2 alone"
nspawn.up([MachineSpec("inner", "192.168.62.11", "trixie", memory=256)])
question = "systemctl is-system-running --wait; stat -fc %T /sys/fs/cgroup; grep -c . /proc/self/cgroup"
subprocess.run([*nspawn.ssh_command("inner"), question])
group = next(iter(cgroups.layout().groups("inner")))
print((group / "memory.max").read_text().strip())
print(nspawn.down(["inner"]), nspawn.listing())
"""


def test_nspawn_boots_a_machine_on_a_kernel_with_cgroup_v2_alone(one: Rehearsal) -> None:
    """The nspawn provider inside the virtual machine: base image, boot, SSH, memory limit, and nothing left of it."""
    one.sh(
        "all-1",
        "apt-get -q update && apt-get -q -y --no-install-recommends install python3 systemd-container mmdebstrap",
    )
    place = one.sh("all-1", "python3 -c 'import site; print(site.getsitepackages()[0])'").strip()
    sources = ["src/roadbed/__init__.py", "src/roadbed/machines"]
    archive = subprocess.run(
        ["tar", "-czh", "--exclude=__pycache__", *sources], cwd=ROOT, capture_output=True, check=True
    ).stdout
    one.feed("all-1", f"mkdir -p {place} && tar -xz -C {place} --strip-components=1", archive)
    said = one.feed("all-1", "python3 -u -", INNER.encode()).splitlines()
    assert said[-5:] == ["running", "cgroup2fs", "1", str(256 * 2**20), "['inner'] []"]


def test_phase3_on_three_machines(environment: dict[str, str], tmp_path: Path) -> None:
    """Create, converge, converge again with 0 changes, verify, report, destroy; Debian 12 and 13 mixed."""
    stack = rehearsal(tmp_path, environment, "three", THREE, {"pgbouncer": {"verify_requests": EMULATED}})
    done = stack.run("rehearse", "phase3", "-i", "three", "--provider", "vagrant", "--report", str(tmp_path / "report"))
    print("\n" + done.stderr[-600:])
    told = json.loads((tmp_path / "report/rehearsal.json").read_text())
    assert all(check["passed"] for check in told["checks"])
    assert {check["host"] for check in told["checks"]} >= set(THREE)
    left = subprocess.run(
        ["virsh", "-c", "qemu:///system", "list", "--all", "--name"], capture_output=True, text=True, check=True
    )
    assert "three" not in left.stdout
