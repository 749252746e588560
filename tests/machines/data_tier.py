"""Converges components of phase2 in a process of its own: ``python data_tier.py INVENTORY COMPONENT...``."""

from gevent import monkey

monkey.patch_all()

import importlib  # noqa: E402
import json  # noqa: E402
import secrets as random  # noqa: E402
import sys  # noqa: E402

from roadbed.deploys.context import Context  # noqa: E402
from roadbed.engine.converge import ComponentStep, Run  # noqa: E402
from roadbed.engine.fleet import Fleet  # noqa: E402
from roadbed.engine.load import load  # noqa: E402
from roadbed.engine.report import Report  # noqa: E402
from roadbed.engine.secrets import Secrets  # noqa: E402


def main(inventory: str, *words: str) -> None:
    """Runs the components and prints ``{"failed": {host: reason}, "changed": [operation names]}``."""
    stack = load(inventory)
    components = [importlib.import_module(f"roadbed.deploys.{word}") for word in words]
    secrets = Secrets(stack.beside(".secrets.age"))
    for name in (name for component in components for name in getattr(component, "SECRETS", ())):
        secrets.get_or_create(name, lambda: random.token_urlsafe(32))
    with Fleet(stack) as fleet:
        fleet.connect()
        contexts = {name: Context(stack, "phase2", name, fleet.facts, secrets.get) for name in fleet.facts}
        report = Report()
        run = Run(fleet, "phase2", contexts, report)
        run.execute([ComponentStep(component) for component in components])
    changed = [record.name for record in report.operations if record.status == "changed"]
    failed = {host: str(reason) for host, reason in run.failed.items()}
    print(json.dumps({"failed": failed, "changed": changed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
