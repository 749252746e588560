"""`provision check`: the preflight, for people and for programs."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from .options import sudo_password
from .style import console, output

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory

COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def driver(stack: "Inventory") -> tuple[str | None, str]:
    """The app's database driver, by the inventory or else by its dependencies, and what is to be said about it."""
    from roadbed.deploys.urls import chosen_driver
    from roadbed.releases.drivers import driver_of

    if stack.app.database.driver != "auto":
        return chosen_driver(stack.app.database.driver, None), ""
    found = driver_of(stack)
    return found.driver, found.note


def source_problem(stack: "Inventory") -> str:
    """Why a phase would refuse the project, if for more than a vulnerable version; empty when it would not."""
    from roadbed.engine.errors import RoadbedError
    from roadbed.releases.build import check_source

    try:
        check_source(stack, allow_vulnerable=True)
    except RoadbedError as error:
        return str(error)
    return ""


def run(phase: str | None, inventory: str | None, *, as_json: bool, ask_sudo_password: bool) -> None:
    """Prints every finding.

    Raises InventoryError (2) when the inventory lacks what the phase needs, HostUnreachable (3) or Refused (6)
    when a host cannot be reached, and OperationFailed (4) when one is not fit.
    """
    from roadbed.deploys.context import Context
    from roadbed.engine.conflicts import check_conflicts
    from roadbed.engine.errors import OperationFailed, RoadbedError
    from roadbed.engine.fleet import Fleet
    from roadbed.engine.load import load
    from roadbed.engine.preflight import Finding, check_host, check_names
    from roadbed.engine.preflight_data import check_data, check_stack
    from roadbed.engine.roadmap import named, recorded, require
    from roadbed.engine.secrets import Secrets

    stack = load(inventory)
    require(stack, named(phase or "phase1"))
    problem = source_problem(stack)
    findings = [Finding("stack", "source", "error" if problem else "ok", problem or str(stack.source))]
    with Fleet(stack, sudo_password=sudo_password(ask_sudo_password)) as fleet:
        known = {name: fleet.known.known(host.address, stack.ssh.port) for name, host in stack.hosts.items()}
        fleet.connect()
        secret = Secrets(stack.beside(".secrets.age")).get
        wanted = phase or recorded(fleet.facts.values()) or "phase1"
        contexts = {name: Context(stack, wanted, name, fleet.facts, secret) for name in fleet.facts}
        answers = fleet.each(
            contexts,
            lambda session, name: [
                *check_host(session, contexts[name]),
                *check_conflicts(session, contexts[name], adopt=False),
                *check_data(session, contexts[name]),
            ],
        )
    for name in stack.hosts:
        if name in fleet.failures:
            findings.append(Finding(name, "reachable", "error", str(fleet.failures[name])))
            continue
        findings.append(Finding(name, "reachable", "ok", f"{stack.ssh.user}@{stack.hosts[name].address}, root by sudo"))
        key = "known" if known[name] else f"recorded now in {fleet.known.path}"
        findings.append(Finding(name, "host key", "ok", key))
        answer = answers[name]
        if isinstance(answer, RoadbedError):
            findings.append(Finding(name, "preflight", "error", str(answer)))
        else:
            findings += answer
    if contexts:
        findings.append(check_names(next(iter(contexts.values()))))
        findings += check_stack(next(iter(contexts.values())), *driver(stack))
    if as_json:
        output(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            line = Text(f"{finding.level:<8}", style=COLOURS[finding.level])
            console.print(
                line.append(f"{finding.host:<14} {finding.what:<13} {finding.message}", style="default"), soft_wrap=True
            )
    if fleet.failures:
        worst = min(fleet.failures.values(), key=lambda error: error.exit_code)
        raise type(worst)(f"{len(fleet.failures)} of {len(stack.hosts)} hosts cannot be reached")
    if bad := [finding for finding in findings if finding.level == "error"]:
        raise OperationFailed(f"{len(bad)} findings must be mended first")
