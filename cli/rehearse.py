"""`provision rehearse`: the whole thing on local machines, each stage shown with its time."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .machine_commands import plain_errors
from .style import myself, output, say, seconds

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory
    from roadbed.machines.providers import Provider


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


@dataclass(frozen=True)
class Rehearsal:
    """One rehearsal: the machines of ``provider`` play the hosts of ``stack``, which has their logins."""

    stack: "Inventory"
    named: "Inventory"
    provider: "Provider"
    phase: str
    folder: Path
    stages: Stages

    def provision(self, command: str, *words: str) -> dict[str, Any]:
        """Runs one `provision` command as a user would; its progress goes to the terminal. Exits with its exit code."""
        line = [sys.executable, "-m", "roadbed.cli", command, *words, "-i", str(self.stack.path), "--json"]
        line += ["--yes"] if command != "verify" else []
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ})
        if done.returncode != 0:
            say(f"\nThe machines are still up: {self.login(next(iter(self.stack.hosts)))}, {self.destroy()}")
            sys.exit(done.returncode)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def login(self, host: str) -> str:
        """The command that logs in to a machine."""
        return f"{myself()} {self.provider.login(self.named, host)}"

    def destroy(self) -> str:
        """The command that destroys the machines."""
        return f"{myself()} {self.provider.destroy(self.named)}"

    def report(self, first: dict[str, Any], checks: list[dict[str, Any]]) -> None:
        """Writes the HTML and the JSON report."""
        from .html import write_html

        self.folder.mkdir(parents=True, exist_ok=True)
        timings = list(self.stages.timings)
        data = {"phase": self.phase, "timings": dict(timings), "converge": first, "checks": checks}
        (self.folder / "rehearsal.json").write_text(json.dumps(data, indent=1))
        page = self.folder / "rehearsal.html"
        write_html(page, self.stack, self.phase, checks=checks, timings=timings, operations=first["operations"])

    def summarise(self, checks: list[dict[str, Any]], keep: bool) -> None:
        """The last lines: what was shown, how long it took, and how to look at what was kept."""
        count = len(self.stack.hosts)
        on = f"{count} machine" + ("s" if count != 1 else "")
        say(f"\n{self.phase} rehearsed on {on}: {len(checks)} checks hold, second run 0 changes.")
        say("  " + ", ".join(f"{name} {seconds(took)}" for name, took in self.stages.timings))
        say(f"  report: {self.folder / 'rehearsal.html'}")
        if not keep:
            return
        domain, name, address = self.stack.app.domain, "", ""
        for name in self.stack.with_role("web"):
            address = self.stack.hosts[name].address
            say(f"  {name}: curl -k --resolve {domain}:443:{address} https://{domain}/")
        say(f"  in a browser: '{address} {domain}' into /etc/hosts, then https://{domain}/ (self-signed certificate)")
        say(f"  log in: {self.login(name)}   destroy: {self.destroy()}")


def run(phase: str | None, inventory: str, *, provider: str, keep: bool, folder: Path, as_json: bool) -> None:
    """Create, converge, converge again, verify, report, destroy. Raises what the first failing stage raises.

    Machines stay up after a failure and with ``keep``, so that they can be looked at.
    """
    from roadbed.deploys.context import ROADMAP
    from roadbed.engine.errors import VerificationFailed
    from roadbed.engine.load import load
    from roadbed.engine.roadmap import named, require
    from roadbed.machines.providers import choose

    phase = named(phase or ROADMAP[-1])
    stack = load(inventory)
    require(stack, phase)
    stages = Stages()
    with plain_errors():
        by = choose(provider)
        began = stages.announce(f"create {', '.join(stack.hosts)}")
        played = load(str(by.up(stack, say)))
        stages.ended("create", began)
    rehearsal = Rehearsal(played, stack, by, phase, folder, stages)
    began = stages.announce(f"converge to {phase}")
    first = rehearsal.provision(phase)
    stages.ended("converge", began)
    began = stages.announce("converge again: nothing may change")
    second = rehearsal.provision(phase)
    stages.ended("converge again", began)
    changed = [item for item in second["operations"] if item["status"] == "changed"]
    if changed:
        names = "\n".join(f"  {item['host']}: {item['name']}" for item in changed)
        raise VerificationFailed(f"the second run changed {len(changed)} operations:\n{names}")
    say("0 changes")
    began = stages.announce("verify")
    checks = rehearsal.provision("verify", phase, "--disruptive")["checks"]
    stages.ended("verify", began)
    rehearsal.report(first, checks)
    if not keep:
        began = stages.announce("destroy")
        with plain_errors():
            by.down(stack, say)
        stages.ended("destroy", began)
    rehearsal.summarise(checks, keep)
    if as_json:
        output((folder / "rehearsal.json").read_text())
