"""The shared cache with 100 entries beside 100 000: median and p99 of get, set and revalidateTag, as a ratio.

    make bench-cache
    python benchmarks/cache.py --entries 100 100000 --rounds 20 --json

A real Redis for each count (Debian's, from the package redis-tools), the handler that every release has, and
the Node.js that releases are built with. `benchmarks/cache.cjs` measures.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENTRIES = (100, 100_000)
FORBIDDEN = {"keys", "scan", "hscan", "sscan", "zscan", "eval", "evalsha", "fcall"}
"""Commands whose cost grows with what is stored, or may."""


def tools() -> tuple[Path, Path]:
    """node, and the cache handler of a release; both are fetched and made when they are not there yet."""
    from roadbed.deploys.node import NodeSettings
    from roadbed.releases import node_builds, runtime_files, toolchain
    from roadbed.releases.command import BuildLog

    kit = toolchain.fetch(node_builds.resolve_all(NodeSettings(source="npm")), print)
    with tempfile.TemporaryDirectory() as scratch:
        log = BuildLog(Path(scratch) / "log")
        handlers = runtime_files.cache_handlers(kit, {"PATH": os.defpath, "HOME": scratch}, log)
    return kit.node, handlers / runtime_files.BUNDLE


def compare(entries: tuple[int, ...] = ENTRIES, rounds: int = 20) -> list[dict[str, Any]]:
    """What was measured for each count of entries, in its order; times in ms. See the end of ``cache.cjs``."""
    node, handler = tools()
    words = [str(node), str(HERE / "cache.cjs"), str(handler), str(rounds), *map(str, entries)]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"cache.cjs failed. It needs Redis, which scripts/setup --tests brings\n{done.stderr}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def ratios(few: dict[str, Any], many: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Operation -> how many times as long it takes with many entries: by the median, and by the 99th percentile."""
    return {
        name: {kind: many["operations"][name][kind] / times[kind] for kind in ("median", "p99")}
        for name, times in few["operations"].items()
    }


def main() -> None:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, nargs=2, default=list(ENTRIES), help="multiples of 50")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    few, many = compare(tuple(options.entries), options.rounds)
    found = ratios(few, many)
    if options.json:
        print(json.dumps({"measured": [few, many], "ratios": found}))
        return
    print(f"Redis {many['redis']}; {options.rounds} rounds in turns; ms, median and p99")
    print(f"{'':14}{few['entries']:>12} entries{many['entries']:>12} entries       ratio")
    for name, ratio in found.items():
        cells = [
            f"{times['median']:8.3f} {times['p99']:8.3f}"
            for times in (few["operations"][name], many["operations"][name])
        ]
        print(f"{name:14}   {cells[0]}   {cells[1]}   {ratio['median']:6.2f} {ratio['p99']:6.2f}")
    print(
        f"{many['entries']} entries: {many['bytes'] / 2**20:.0f} MiB in Redis, filled in {many['fill_seconds']:.1f} s"
    )


if __name__ == "__main__":
    main()
