"""Virtual machines for the tests: libvirt's, run by hand where no init system does, and boxes built here.

The ring is slow: without KVM the processor is emulated. `make test-vagrant` runs it.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROVISION = str(Path(sys.executable).with_name("provision"))
CACHE = Path("/var/cache/roadbed-boxes")
"""Boxes by the script that builds them, and Vagrant's home: kept between runs."""
ADDRESS = "192.168.61."
"""Another network than that of the nspawn machines: both may run."""


@pytest.fixture(scope="session")
def libvirt() -> Iterator[None]:
    """A libvirtd that answers; ours ends with the session."""
    if _answers():
        yield
        return
    work = CACHE / "libvirt"
    work.mkdir(parents=True, exist_ok=True)
    with (work / "log").open("w") as log:
        daemon = subprocess.Popen(
            [ROOT / "tests/vagrant/libvirtd.sh", work], stdout=log, stderr=log, start_new_session=True
        )
    try:
        until = time.monotonic() + 30
        while not _answers():
            assert daemon.poll() is None, (work / "log").read_text()
            assert time.monotonic() < until, (work / "log").read_text()
            time.sleep(0.5)
        _clear()
        yield
    finally:
        os.killpg(daemon.pid, 15)
        daemon.wait(timeout=30)


def _clear() -> None:
    """Takes away what a session that was stopped has left in our own libvirtd: machines, and networks like the next."""
    virsh = ["virsh", "-q", "-c", "qemu:///system"]
    machines = (["destroy"], ["undefine", "--remove-all-storage"])
    for kind, verbs in (("list", machines), ("net-list", (["net-destroy"], ["net-undefine"]))):
        listed = subprocess.run([*virsh, kind, "--all", "--name"], capture_output=True, text=True, check=True).stdout
        for name in listed.split():
            for verb, *options in verbs:
                subprocess.run([*virsh, verb, name, *options], capture_output=True, check=False)


def _answers() -> bool:
    return (
        subprocess.run(["virsh", "-c", "qemu:///system", "version"], capture_output=True, check=False).returncode == 0
    )


@pytest.fixture(scope="session")
def environment(libvirt: None) -> dict[str, str]:
    """What `vagrant` and `provision` run with; each suite's box is built if it is missing."""
    variables = {**os.environ, "VAGRANT_HOME": str(CACHE / "home"), "VAGRANT_DEFAULT_PROVIDER": "libvirt"}
    script = ROOT / "scripts/vagrant-box"
    recipe = hashlib.sha256(script.read_bytes()).hexdigest()[:12]
    for suite, name in (("bookworm", "debian-12"), ("trixie", "debian-13")):
        box = CACHE / f"{suite}-{recipe}.box"
        if box.exists():
            continue
        began = time.monotonic()
        built = box.with_suffix(".built")
        subprocess.run([script, suite, built], check=True, stdout=subprocess.DEVNULL)
        print(f"\nbox of {suite}: {time.monotonic() - began:.0f} s")
        # By the names that the Vagrantfile uses, so that it is tested as it is.
        command = ["vagrant", "box", "add", "--force", "--name", f"cloud-image/{name}", built]
        subprocess.run(command, check=True, env=variables, stdout=subprocess.DEVNULL)
        built.rename(box)  # there once Vagrant has it
    return variables


@dataclass
class Rehearsal:
    """An inventory whose hosts are played by virtual machines."""

    path: Path
    environment: dict[str, str]

    def run(self, *words: str, timeout: float = 3600) -> subprocess.CompletedProcess[str]:
        """Runs `provision WORDS` as a user does; asserts that it succeeds."""
        done = subprocess.run(
            [PROVISION, *words],
            cwd=self.path.parents[1],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @property
    def played(self) -> str:
        """The inventory with Vagrant's logins."""
        checksum = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:8]
        folder = f"{self.environment['XDG_STATE_HOME']}/roadbed/vagrant/{self.path.stem}-{checksum}"
        return f"{folder}/{self.path.name}"

    def sh(self, host: str, command: str) -> str:
        """A command as root on a machine; its output."""
        said = self.run("exec", host, "-i", self.played, "--json", "--", "sh", "-c", command, timeout=1800).stdout
        return str(json.loads(said)["hosts"][host]["stdout"])

    def feed(self, host: str, command: str, text: bytes) -> str:
        """A command as root on a machine that reads ``text``; its output."""
        data = yaml.safe_load(Path(self.played).read_text())
        login = f"{data['ssh']['user']}@{data['hosts'][host]['address']}"
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        words = ["ssh", "-i", data["hosts"][host]["key"], *options, login, f"sudo sh -c {shlex.quote(command)}"]
        return subprocess.run(words, input=text, stdout=subprocess.PIPE, check=True, timeout=1800).stdout.decode()


def rehearsal(
    folder: Path, environment: dict[str, str], name: str, hosts: dict[str, Any], blocks: Any = None, **app: Any
) -> Rehearsal:
    """Writes the inventory of a stack that runs the sample app; ``blocks`` are those besides ``app`` and ``hosts``."""
    data = yaml.safe_load((ROOT / "inventories/rehearsal.yml").read_text())
    data["app"] |= {"source": str(ROOT / "examples/storefront"), **app}
    data |= {"hosts": hosts, **(blocks or {})}
    del data["ssh"]
    path = folder / "inventories" / f"{name}.yml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return Rehearsal(path, {**environment, "XDG_STATE_HOME": str(folder / "state")})
