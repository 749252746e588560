"""What a new release costs visitors: Roadbed, `systemctl restart` and `pm2 reload`, on the same machine, one by one.

    make bench-rollout
    python benchmarks/rollout.py --switches 5 --json

A machine at phase1 with two builds of the sample app, to and fro between them under the load of ``make test-rollout``.
Beside Roadbed's slots the same builds run (a) as one systemd unit, restarted, and (b) as two processes of pm2's
cluster mode, reloaded, both with their defaults and behind an nginx as guides have it (``benchmarks/baseline/``).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests.machines.odds import claim  # noqa: E402
from tests.machines.storefronts import edition  # noqa: E402
from tests.machines.traffic import Orders, Traffic  # noqa: E402

BIN = Path(sys.executable).parent
MACHINE, ADDRESS, DOMAIN = "base-1", "192.168.60.195", "shop.example.test"
PM2 = "pm2@7.0.4"
INVENTORY = f"""
app:
  name: storefront
  source: SOURCE
  domain: {DOMAIN}
  health: /api/info
  replicas: 2
  memory: 512
ssh: {{user: admin, key: ~/.local/state/roadbed/machines/id_ed25519}}
hosts:
  {MACHINE}: {{address: {ADDRESS}, roles: [web, app]}}
nginx: {{tls: {{mode: self-signed}}, limits: {{requests: 1000, burst: 1000}}}}
firewall: {{allow: [{{port: 8443, comment: baselines}}]}}
node: {{source: npm}}
"""
QUIET = 8.0
"""Seconds between two switches: the longest request takes 5."""
AS_APP = (
    "cd /opt/baseline/current && runuser -u storefront -- env HOME=/opt/baseline/home NODE_ENV=production PORT=3100"
)
PM2_WORDS = f"{AS_APP} HOSTNAME=127.0.0.1 /opt/baseline/node /opt/baseline/pm2/node_modules/pm2/bin/pm2"


def ssh(command: str, stdin: bytes = b"") -> str:
    """Runs a command as root on the machine."""
    from roadbed.machines import nspawn

    words = [*nspawn.ssh_command(MACHINE, user="root"), command]
    done = subprocess.run(words, input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout.decode()


def copy(file: Path, remote: str) -> None:
    """Copies a file to the machine."""
    ssh(f"cat > {remote}", file.read_bytes())


class Machine:
    """The machine with both releases on it, and the folder of its inventory."""

    releases: list[str]

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "bench.yml"
        self.files = {name: folder / f"{name}.tar.gz" for name in ("red", "blue")}

    def provision(self, *words: str) -> dict[str, Any]:
        """`provision WORDS --json`."""
        line = [str(BIN / "provision"), *words, "-i", str(self.path)]
        done = subprocess.run(line, stdout=subprocess.PIPE, check=True, cwd=self.folder)
        return json.loads(done.stdout) if "--json" in words else {}

    def prepare(self) -> None:
        """Builds both releases, converges, deploys each once, and installs the baselines."""
        for name, file in self.files.items():
            self.path.write_text(INVENTORY.replace("SOURCE", str(edition(self.folder, name))))
            self.provision("build", "--output", str(file))
        self.provision("phase1", "--yes")
        ids = [self.provision("deploy", "--json", "--source", str(file))["release"] for file in self.files.values()]
        self.releases = list(dict.fromkeys(ids))
        ssh("mkdir -p /opt/baseline")
        for name in ("nginx.conf", "shop.service", "setup.sh"):
            copy(HERE / "baseline" / name, f"/opt/baseline/{name}")
        copy(pm2(self.folder), "/opt/baseline/pm2.tar.gz")
        ssh(f"sh /opt/baseline/setup.sh {' '.join(self.releases)}")

    def point(self, number: int) -> None:
        """Has the baselines start the other release next."""
        ssh(f"ln -sfT /srv/storefront/releases/{self.releases[number % 2]}/app /opt/baseline/current")


def pm2(folder: Path) -> Path:
    """pm2 of the npm registry with what it depends on, as an archive."""
    from roadbed.deploys.node import NodeSettings
    from roadbed.releases import node_builds, toolchain

    kit = toolchain.fetch(node_builds.resolve_all(NodeSettings(source="npm")), print)
    place, archive = folder / "pm2", folder / "pm2.tar.gz"
    place.mkdir()
    env = {**os.environ, "PATH": f"{kit.node.parent}:{os.environ['PATH']}"}
    words = [*kit.npm, "install", "--prefix", str(place), "--no-audit", "--no-fund", PM2]
    subprocess.run(words, check=True, env=env, stdout=subprocess.DEVNULL)
    subprocess.run(["tar", "-czf", str(archive), "-C", str(place), "."], check=True)
    return archive


Switch = Callable[[int], None]


@contextmanager
def roadbed(machine: Machine) -> Iterator[Switch]:
    """Roadbed's own rollout."""

    def switch(number: int) -> None:
        file = list(machine.files.values())[number % 2]
        machine.provision("deploy", "--json", "--source", str(file))

    yield switch


@contextmanager
def systemd(machine: Machine) -> Iterator[Switch]:
    """One unit and `systemctl restart`."""

    def switch(number: int) -> None:
        machine.point(number + 1)
        ssh("systemctl restart shop")

    ssh("systemctl start shop")
    yield switch
    ssh("systemctl stop shop")


@contextmanager
def reloaded(machine: Machine) -> Iterator[Switch]:
    """Two processes of pm2's cluster mode and `pm2 reload`."""

    def switch(number: int) -> None:
        machine.point(number + 1)
        ssh(f"{PM2_WORDS} reload shop")

    ssh(f"{PM2_WORDS} start /opt/baseline/current/server.js --name shop --instances 2")
    yield switch
    ssh(f"{PM2_WORDS} kill")


LOGS = {
    "roadbed": "journalctl --quiet --output cat --unit 'storefront@*'",
    "systemctl restart": "journalctl --quiet --output cat --unit shop",
    "pm2 reload": "cat /opt/baseline/home/.pm2/logs/*.log",
}
"""Where the app's lines are, the actions among them."""
WAYS: dict[str, tuple[Callable[..., Any], int]] = {
    "roadbed": (roadbed, 443),
    "systemctl restart": (systemd, 8443),
    "pm2 reload": (reloaded, 8443),
}


def measure(machine: Machine, name: str, switches: int) -> tuple[Traffic, Orders]:
    """The load during some switches of one way."""
    way, port = WAYS[name]
    with way(machine) as switch:
        time.sleep(QUIET)
        with Traffic(ADDRESS, DOMAIN, machine.folder, port=port) as traffic:
            time.sleep(QUIET)
            for number in range(switches):
                with traffic.during(f"switch {number + 1}"):
                    switch(number)
                    time.sleep(QUIET)
        log = ssh(f"{LOGS[name]} | grep -o '^order {traffic.run}-.*' || true")
    return traffic, traffic.orders(log)


@contextmanager
def own_machine() -> Iterator[Machine]:
    """A machine with everything on it, removed at the end."""
    from roadbed.machines import nspawn
    from roadbed.machines.model import MachineSpec

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["ROADBED_IDENTITY"] = f"{scratch}/identity.age"
        nspawn.up(
            [MachineSpec(name=MACHINE, address=ADDRESS, suite="trixie")], say=lambda text: print(text, file=sys.stderr)
        )
        try:
            machine = Machine(Path(scratch))
            machine.prepare()
            yield machine
        finally:
            nspawn.down([MACHINE])


def row(name: str, traffic: Traffic, orders: Orders) -> dict[str, Any]:
    """The figures of one way."""
    found = traffic.as_json()
    figures = {key: found[key] for key in ("requests", "failed", "truncated", "bound")}
    by_client = {one["name"]: one["failed"] for one in found["counts"] if one["name"] != "all"}
    actions = {"sent": len(orders.sent), "lost": len(orders.lost), "doubled": len(orders.doubled)}
    return {"way": name, **figures, "failed_by": by_client, "actions": actions, "goaways": traffic.goaways}


def main() -> None:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switches", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    with own_machine() as machine:
        for name in WAYS:
            traffic, orders = measure(machine, name, options.switches)
            rows.append(row(name, traffic, orders))
            print(f"== {name}", traffic.report(), orders, *traffic.failures[:10], sep="\n", file=sys.stderr)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{options.switches} switches each, on one machine")
    for one in rows:
        actions = ", ".join(f"{count} {what}" for what, count in one["actions"].items())
        failed = claim(one["failed"], one["requests"])
        print(f"{one['way']:18} failed {failed}; cut {one['truncated']}; actions: {actions}")


if __name__ == "__main__":
    main()
