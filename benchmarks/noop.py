"""No-op phase1 of one machine: `provision` beside stock pyinfra, same operations, same machine, same run.

    make bench                     the machine shop-13 of inventories/rehearsal.yml, 5 rounds
    python benchmarks/noop.py -i INVENTORY --host NAME --rounds 5

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
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent


def timed(words: list[str], environment: dict[str, str], folder: Path) -> tuple[float, str, str]:
    """Wall seconds, standard output and standard error of a command; when it fails, that ends the benchmark."""
    began = time.monotonic()
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"{Path(words[0]).name} failed. The machine must run and be converged: make rehearse")
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


def main() -> None:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--inventory", type=Path, default=HERE.parent / "inventories/rehearsal.yml")
    parser.add_argument("--host", default="shop-13")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = compare(options.inventory, options.host, options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    print(f"no-op phase1 of {options.host}: {result['operations']} operations")
    print(f"fastest of {options.rounds} rounds in turns")
    print(f"  provision       {result['provision']:6.2f} s")
    print(f"  stock pyinfra   {result['pyinfra']:6.2f} s   {result['ratio']:.1f} x as long")


if __name__ == "__main__":
    main()
