"""Converges single components in a process of its own: ``python components.py INVENTORY COMPONENT... [--hang]``.

Prints the result as JSON. ``--hang`` stops for good at the moment of the second login of a guarded
change, so that the test can kill the run there.
"""

from gevent import monkey

monkey.patch_all()

import importlib  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

from roadbed.deploys.context import Context  # noqa: E402
from roadbed.engine.converge import ComponentStep, Run  # noqa: E402
from roadbed.engine.fleet import Fleet  # noqa: E402
from roadbed.engine.load import load  # noqa: E402
from roadbed.engine.report import Report  # noqa: E402


def _hang(fleet: Fleet, name: str) -> None:
    print("at the second login", flush=True)
    time.sleep(600)


def main(inventory: str, *words: str) -> None:
    """Runs the components and prints ``{"failed": {host: reason}, "changed": [operation names]}``."""
    stack = load(inventory)
    if "--hang" in words:
        Fleet.fresh_login = _hang  # type: ignore[method-assign]
    components = [importlib.import_module(f"roadbed.deploys.{word}") for word in words if word != "--hang"]
    with Fleet(stack) as fleet:
        fleet.connect()
        contexts = {name: Context(stack, "phase1", name, fleet.facts, {}.__getitem__) for name in fleet.facts}
        run = Run(fleet, "phase1", contexts, Report())
        run.execute([ComponentStep(component) for component in components])
    failed = {host: str(reason) for host, reason in run.failed.items()}
    print(json.dumps({"failed": failed, "changed": run.report.count("changed")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
