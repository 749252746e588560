"""The components of phase1 for pyinfra's own command line: see ``benchmarks/noop.py``."""

import os

from pyinfra import host
from pyinfra.facts.server import Command

from roadbed.deploys.context import Context, HostFacts
from roadbed.deploys.phases import PHASES
from roadbed.engine.facts import SCRIPT, parse_facts
from roadbed.engine.load import load
from roadbed.engine.secrets import Secrets
from roadbed.releases.node_builds import resolve_all

inventory = load(os.environ["BENCH_INVENTORY"])
name = os.environ["BENCH_HOST"]
facts: dict[str, HostFacts] = {name: parse_facts(name, host.get_fact(Command, command=SCRIPT))}
context = Context(
    inventory=inventory,
    phase="phase1",
    name=name,
    facts=facts,
    secret=Secrets(inventory.beside(".secrets.age")).get,
    node=resolve_all(inventory.node),
)
for component in PHASES["phase1"]:
    component.deploy(context)
