"""What a release costs to send to a host that has the one before: bytes, files and seconds, of the sample app.

    make bench-upload                       a machine of its own: booted, measured, removed
    python benchmarks/upload.py --json

The first release goes to an empty host. For the second the text of one page was changed; for the third nothing, so
that it has another id and no more. All are built as for a deploy, and sent as in a rollout (releases/upload.py).
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory
    from roadbed.engine.session import Session
    from roadbed.releases.artefact import Artefact

HERE = Path(__file__).resolve().parent
APP = HERE.parent / "examples/storefront"
MACHINE, ADDRESS = "bench-2", "192.168.60.188"
NAME = "benchshop"
INVENTORY = f"""
app: {{name: {NAME}, source: app, domain: shop.example.test}}
ssh: {{user: admin, key: ~/.local/state/roadbed/machines/id_ed25519}}
hosts: {{{MACHINE}: {{address: {ADDRESS}}}}}
node: {{source: npm}}
"""
PAGE, BEFORE, AFTER = "app/flash-sale/page.tsx", "once, however many", "only once, however many"
"""The page that is changed, and how."""


@contextmanager
def machine(stack: "Inventory") -> Iterator["Session"]:
    """A fresh Debian 13 machine with the app's user, and a session on it."""
    from roadbed.engine.connect import open_session
    from roadbed.engine.hostkeys import KnownHosts
    from roadbed.machines import nspawn
    from roadbed.machines.model import MachineSpec

    nspawn.up([MachineSpec(name=MACHINE, address=ADDRESS, suite="trixie")], say=print)
    try:
        session = open_session(stack, MACHINE, KnownHosts(stack.beside(".known_hosts")))
        session.run(f"useradd --system --user-group {NAME}")
        yield session
        session.close()
    finally:
        nspawn.down([MACHINE])


def build(stack: "Inventory", env: str) -> "Artefact":
    """A release of the project as it is now; ``env`` makes its hash another one where the files are the same."""
    from roadbed.engine.secrets import ACTION_KEY, Secrets, new_action_key
    from roadbed.releases.build import ensure
    from roadbed.releases.node_builds import resolve_all
    from roadbed.releases.toolchain import fetch

    app = stack.app.model_copy(update={"env": {"BENCHMARK_ROUND": env}})
    key = Secrets(stack.beside(".secrets.age")).get_or_create(ACTION_KEY, new_action_key)
    say = lambda text: print(f"  {text}", file=sys.stderr)  # noqa: E731
    return ensure(stack.model_copy(update={"app": app}), key.encode(), fetch(resolve_all(stack.node), say), say)


def send(session: "Session", stack: "Inventory", release: "Artefact") -> dict[str, Any]:
    """Sends a release; what that took."""
    from roadbed.releases.upload import upload

    began = time.monotonic()
    sent = upload(session, stack.app, release, node="/usr/bin/node", progress=lambda now, total: None)
    return {
        "bytes": sent.size,
        "files": sent.sent,
        "of_files": sent.files,
        "of_bytes": sent.total,
        "seconds": round(time.monotonic() - began, 2),
    }


def compare(folder: Path) -> dict[str, Any]:
    """All three uploads, and the ratios of the second and third to the first."""
    from roadbed.engine.load import load

    shutil.copytree(APP, folder / "app", ignore=shutil.ignore_patterns("node_modules", ".next"))
    (folder / "bench.yml").write_text(INVENTORY)
    os.environ["ROADBED_IDENTITY"] = str(folder / "identity.age")
    stack = load(str(folder / "bench.yml"))
    page = folder / "app" / PAGE
    releases = [build(stack, "1")]
    assert BEFORE in page.read_text(), f"{PAGE} has changed: change BEFORE too"
    page.write_text(page.read_text().replace(BEFORE, AFTER))
    releases.append(build(stack, "1"))
    releases.append(build(stack, "2"))
    with machine(stack) as session:
        found = [send(session, stack, release) for release in releases]
    names = ("first", "one_page_changed", "nothing_changed")
    ratios = {name: round(each["bytes"] / found[0]["bytes"], 5) for name, each in zip(names, found, strict=True)}
    return {**dict(zip(names, found, strict=True)), "ratio": ratios}


def main() -> None:
    """Runs it and prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = compare(Path(folder))
    if options.json:
        print(json.dumps(result, indent=1))
        return
    for name, ratio in result["ratio"].items():
        each = result[name]
        print(
            f"{name:17} {each['bytes'] / 1024:9.1f} KB  {each['files']:5} of {each['of_files']} files  "
            f"{each['seconds']:5.2f} s  {ratio:.2%} of the first"
        )


if __name__ == "__main__":
    main()
