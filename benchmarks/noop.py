"""No-op phase1 of one machine: `provision` beside stock pyinfra, same operations, same machine, same run.

    make bench                                          a machine of its own: booted, converged, measured, removed
    python benchmarks/noop.py -i INVENTORY --host NAME  a host that is converged to phase1

Stock pyinfra runs ``benchmarks/stock/deploy.py`` with its own command line and SSH connector
(``pyinfra INVENTORY deploy.py -y``, sudo): the same ``deploy()`` functions with the same context.
`provision` does more in its time: inventory, preflight, release. Both change nothing.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
MACHINE, ADDRESS = "bench-1", "192.168.60.25"
INVENTORY = f"""
app:
  name: storefront
  source: {HERE.parent / "examples/storefront"}
  domain: shop.example.test
  health: /api/info
  replicas: 2
  memory: 512
ssh: {{user: admin, key: ~/.local/state/roadbed/machines/id_ed25519}}
hosts:
  {MACHINE}: {{address: {ADDRESS}, roles: [web, app]}}
nginx: {{tls: {{mode: self-signed}}}}
node: {{source: npm}}
"""
"""A complete phase1 on one local machine, Debian 13."""


def timed(words: list[str], environment: dict[str, str], folder: Path) -> tuple[float, str, str]:
    """Wall seconds, standard output and standard error of a command; when it fails, that ends the benchmark."""
    began = time.monotonic()
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"{Path(words[0]).name} failed. The host must run and be converged: provision phase1")
    return took, done.stdout, done.stderr


def ours(inventory: Path, host: str, environment: dict[str, str], folder: Path) -> tuple[float, int]:
    """Seconds and number of operations of `provision`. Ends the benchmark when it changed something."""
    words = [str(BIN / "provision"), "phase1", "-i", str(inventory.resolve()), "--limit", host, "--json"]
    took, said, _ = timed(words, environment, folder)
    counts = json.loads(said)["hosts"][host]
    if counts["changed"]:
        raise SystemExit(f"{host}: provision changed {counts['changed']} operations; converge it first")
    return took, counts["unchanged"]


def stock(host: str, environment: dict[str, str], folder: Path) -> tuple[float, int]:
    """Seconds and number of operations of stock pyinfra. Ends the benchmark when it changed something."""
    took, _, said = timed(
        [str(BIN / "pyinfra"), "--sudo", "-y", "hosts.py", str(HERE / "stock/deploy.py")], environment, folder
    )
    total = re.search(r"Grand total +([0-9]+) +([0-9-]+) +([0-9-]+) +([0-9-]+)", said)
    if total is None or total[1] != total[4]:
        raise SystemExit(f"{host}: stock pyinfra did not leave everything as it was:\n{said}")
    return took, int(total[1])


def write_hosts(stack: "Inventory", host: str, file: Path) -> None:
    """pyinfra's inventory of one host: the same login, the same known host keys."""
    data = {
        "ssh_user": stack.ssh.user,
        "ssh_key": str(stack.ssh.key.expanduser()) if stack.ssh.key else None,
        "ssh_known_hosts_file": str(stack.beside(".known_hosts").resolve()),
        "ssh_port": stack.ssh.port,
    }
    file.write_text(f"bench = [({stack.hosts[host].address!r}, {data!r})]\n")


def compare(inventory: Path, host: str, rounds: int) -> dict[str, float]:
    """The fastest run of each in seconds, their ratio, and the number of operations that stock pyinfra ran.

    The two take turns, so that what else the control machine does meets both; the fastest, because other
    work only ever adds (docs.python.org, timeit). The first round warms the caches of both and does not
    count. The machine must be converged.
    """
    from roadbed.engine.load import load

    environment = {**os.environ, "BENCH_INVENTORY": str(inventory.resolve()), "BENCH_HOST": host}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else both compile all their modules in every round
    times: dict[str, list[float]] = {"provision": [], "pyinfra": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_hosts(load(str(inventory)), host, folder / "hosts.py")
        for number in range(rounds + 1):
            took, mine = ours(inventory, host, environment, folder)
            stock_took, operations = stock(host, environment, folder)
            if mine < operations:
                raise SystemExit(f"{host}: provision ran {mine} operations, stock pyinfra {operations}")
            if number:
                times["provision"].append(took)
                times["pyinfra"].append(stock_took)
    fastest = {name: min(values) for name, values in times.items()}
    return {**fastest, "ratio": fastest["pyinfra"] / fastest["provision"], "operations": operations}


@contextmanager
def own_machine() -> Iterator[Path]:
    """The inventory of a machine that is booted and converged, and removed at the end."""
    path = Path("~/.cache/roadbed/bench/bench.yml").expanduser()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(INVENTORY)
    provision, which = str(BIN / "provision"), ["-i", str(path)]
    subprocess.run([provision, "machines", "up", *which], check=True)
    try:
        subprocess.run([provision, "phase1", "--yes", *which], check=True)
        yield path
    finally:
        subprocess.run([provision, "machines", "down", MACHINE, *which], check=True)


def main() -> None:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--inventory", type=Path, help="default: a local machine, booted for this")
    parser.add_argument("--host", help="a host of the inventory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (options.inventory is None) != (options.host is None):
        parser.error("-i and --host belong together")
    with own_machine() if options.inventory is None else nullcontext(options.inventory) as inventory:
        result = compare(inventory, options.host or MACHINE, options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    print(f"no-op phase1: {result['operations']} operations, fastest of {options.rounds} rounds in turns")
    print(f"  provision       {result['provision']:6.2f} s")
    print(f"  stock pyinfra   {result['pyinfra']:6.2f} s   {result['ratio']:.1f} x as long")


if __name__ == "__main__":
    main()
