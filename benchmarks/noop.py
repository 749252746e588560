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
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent


def timed(words: list[str], environment: dict[str, str], folder: Path) -> tuple[float, str]:
    """Wall seconds and output of a command. Raises CalledProcessError, with the output, when it fails."""
    began = time.monotonic()
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise subprocess.CalledProcessError(done.returncode, words)
    return took, done.stdout


def compare(inventory: Path, host: str, rounds: int) -> dict[str, float]:
    """Medians in seconds of both, run in turns, and their ratio. The machine must be converged."""
    from roadbed.engine.load import load

    stack = load(str(inventory))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = {
            "ssh_user": stack.ssh.user,
            "ssh_key": str(stack.ssh.key.expanduser()) if stack.ssh.key else None,
            "ssh_known_hosts_file": str(stack.beside(".known_hosts").resolve()),
            "ssh_port": stack.ssh.port,
        }
        (folder / "hosts.py").write_text(f"bench = [({stack.hosts[host].address!r}, {data!r})]\n")
        environment = {**os.environ, "BENCH_INVENTORY": str(inventory.resolve()), "BENCH_HOST": host}
        stock = [str(BIN / "pyinfra"), "--sudo", "-y", "hosts.py", str(HERE / "stock/deploy.py")]
        ours = [str(BIN / "provision"), "phase1", "-i", str(inventory.resolve()), "--limit", host, "--json"]
        times: dict[str, list[float]] = {"provision": [], "pyinfra": []}
        for number in range(rounds + 1):
            took, said = timed(ours, environment, folder)
            changed = json.loads(said)["hosts"][host]["changed"]
            if changed:
                raise SystemExit(f"{host}: provision changed {changed} operations; converge it first")
            stock_took, _ = timed(stock, environment, folder)
            if number:  # the first round warms caches on both sides
                times["provision"].append(took)
                times["pyinfra"].append(stock_took)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {**medians, "ratio": medians["pyinfra"] / medians["provision"]}


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
    print(f"no-op phase1 of {options.host}, median of {options.rounds} rounds in turns")
    print(f"  provision       {result['provision']:6.2f} s")
    print(f"  stock pyinfra   {result['pyinfra']:6.2f} s   {result['ratio']:.1f} x as long")


if __name__ == "__main__":
    main()
