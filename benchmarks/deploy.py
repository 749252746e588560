"""From `provision deploy` to the switch, for 2 and for 6 instances of a release that is built already.

    python benchmarks/deploy.py --replicas 2 6 --rounds 5 --json

A machine of its own at phase1, two builds of the sample app in turns. The time runs from the start of the command, on
the control machine, until nginx has sent everybody to the new release; the whole command takes longer, because the old
instances finish what they do.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rollout import BIN, Machine, own_machine


def timed(machine: Machine, file: Path) -> tuple[float, float]:
    """Deploys a release file; the seconds until the switch, and until the end."""
    began, switched = time.monotonic(), 0.0
    words = [str(BIN / "provision"), "deploy", "--source", str(file), "-i", str(machine.path)]
    run = subprocess.Popen(words, cwd=machine.folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert run.stderr is not None
    said = []
    for line in run.stderr:
        said.append(line)
        if "Switch traffic to slot" in line:
            switched = time.monotonic() - began
    if run.wait() or not switched:
        raise SystemExit("".join(said))
    return switched, time.monotonic() - began


def main() -> None:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, nargs="+", default=[2, 6])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    with own_machine() as machine:
        for replicas in options.replicas:
            text = machine.path.read_text()
            machine.path.write_text(text.replace("replicas: 2", f"replicas: {replicas}"))
            machine.provision("phase1", "--yes")
            files = list(machine.files.values())
            times = [timed(machine, files[number % 2]) for number in range(options.rounds + 1)][1:]
            until, whole = (statistics.median(one) for one in zip(*times, strict=True))
            rows.append({"replicas": replicas, "switched": round(until, 1), "ended": round(whole, 1)})
            machine.path.write_text(text)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(
            f"{row['replicas']} instances: switched after {row['switched']} s, ended after {row['ended']} s (medians)"
        )


if __name__ == "__main__":
    main()
