"""`provision rehearse`: the whole thing on local machines, each stage shown with its time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .style import myself, output, say, seconds

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory


class Stages:
    """Runs the stages of a rehearsal and keeps their times in seconds."""

    def __init__(self) -> None:
        self.timings: list[tuple[str, float]] = []

    def announce(self, title: str) -> float:
        """Says that a stage begins; returns the time it began."""
        say(f"\n== {title}")
        return time.monotonic()

    def ended(self, name: str, began: float) -> None:
        """Keeps and shows the time of a stage."""
        took = time.monotonic() - began
        self.timings.append((name, took))
        say(f"== {name}: {seconds(took)}")


def run(phase: str | None, inventory: str, *, keep: bool, folder: Path, as_json: bool) -> None:
    """Create, converge, converge again, verify, report, destroy. Raises what the first failing stage raises.

    Machines stay up after a failure and with ``keep``, so that they can be looked at.
    """
    from roadbed.deploys.context import ROADMAP
    from roadbed.engine.errors import VerificationFailed
    from roadbed.engine.load import load
    from roadbed.engine.roadmap import named, require

    phase = named(phase or ROADMAP[-1])
    stack = load(inventory)
    require(stack, phase)
    stages = Stages()
    began = stages.announce(f"create {', '.join(stack.hosts)}")
    _create(stack)
    stages.ended("create", began)
    began = stages.announce(f"converge to {phase}")
    first = _provision(phase, stack, as_json=True)
    stages.ended("converge", began)
    began = stages.announce("converge again: nothing may change")
    second = _provision(phase, stack, as_json=True)
    stages.ended("converge again", began)
    changed = [item for item in second["operations"] if item["status"] == "changed"]
    if changed:
        names = "\n".join(f"  {item['host']}: {item['name']}" for item in changed)
        raise VerificationFailed(f"the second run changed {len(changed)} operations:\n{names}")
    say("0 changes")
    began = stages.announce("verify")
    verified = _provision("verify", stack, phase, "--disruptive", as_json=True)
    stages.ended("verify", began)
    _report(stack, phase, folder, stages, first, verified["checks"])
    if not keep:
        began = stages.announce("destroy")
        _destroy(stack)
        stages.ended("destroy", began)
    _summarise(stack, phase, folder, stages, verified["checks"], keep)
    if as_json:
        output((folder / "rehearsal.json").read_text())


def _create(stack: "Inventory") -> None:
    from roadbed.engine.errors import OperationFailed
    from roadbed.machines import nspawn
    from roadbed.machines.model import MachinesError
    from roadbed.machines.rehearsal import boot

    try:
        boot(stack, say=say)
        for machine in nspawn.listing():
            if machine.name in stack.hosts:
                say(f"{machine.name}: {machine.suite} at {machine.address}")
    except MachinesError as error:
        raise OperationFailed(str(error)) from None


def _destroy(stack: "Inventory") -> None:
    from roadbed.machines import nspawn

    nspawn.down(list(stack.hosts), say=say)


def _provision(command: str, stack: "Inventory", *words: str, as_json: bool) -> dict[str, Any]:
    """Runs one `provision` command as a user would; its progress goes to the terminal. Exits with its exit code."""
    line = [sys.executable, "-m", "roadbed.cli", command, *words, "-i", str(stack.path)]
    line += ["--json"] if as_json else []
    line += ["--yes"] if command != "verify" else []
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ})
    if done.returncode != 0:
        name = next(iter(stack.hosts))
        say(f"\nThe machines are still up: {myself()} machines ssh {name}, {_down(stack)}")
        sys.exit(done.returncode)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _report(
    stack: "Inventory", phase: str, folder: Path, stages: Stages, first: dict[str, Any], checks: list[dict[str, Any]]
) -> None:
    from .html import write_html

    folder.mkdir(parents=True, exist_ok=True)
    timings = list(stages.timings)
    data = {"phase": phase, "timings": dict(timings), "converge": first, "checks": checks}
    (folder / "rehearsal.json").write_text(json.dumps(data, indent=1))
    write_html(folder / "rehearsal.html", stack, phase, checks=checks, timings=timings, operations=first["operations"])


def _summarise(
    stack: "Inventory", phase: str, folder: Path, stages: Stages, checks: list[dict[str, Any]], keep: bool
) -> None:
    count = len(stack.hosts)
    on = f"{count} machine" + ("s" if count != 1 else "")
    say(f"\n{phase} rehearsed on {on}: {len(checks)} checks hold, second run 0 changes.")
    say("  " + ", ".join(f"{name} {seconds(took)}" for name, took in stages.timings))
    say(f"  report: {folder / 'rehearsal.html'}")
    if not keep:
        return
    domain, name, address = stack.app.domain, "", ""
    for name in stack.with_role("web"):
        address = stack.hosts[name].address
        say(f"  {name}: curl -k --resolve {domain}:443:{address} https://{domain}/")
    say(f"  in a browser: '{address} {domain}' into /etc/hosts, then https://{domain}/ (self-signed certificate)")
    say(f"  log in: {myself()} machines ssh {name}   destroy: {_down(stack)}")


def _down(stack: "Inventory") -> str:
    """The command that destroys the machines of a stack."""
    return f"{myself()} machines down" + ("" if stack.name == "rehearsal" else f" -i {stack.name}")
