"""`provision status`: the stack at this moment, who works on it, and what an interrupted run has left."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from .options import sudo_password
from .style import console, myself, output, say

if TYPE_CHECKING:
    from roadbed.engine.errors import RoadbedError
    from roadbed.engine.inventory import Inventory
    from roadbed.engine.past_runs import PastRun
    from roadbed.releases.status import HostStatus

COLOURS = {"live": "green", "sends there": "green", "idle": "yellow"}


def run(inventory: str | None, *, as_json: bool, ask_sudo_password: bool) -> None:
    """Prints what the hosts say. Raises HostUnreachable (3), after that, when one does not answer."""
    from roadbed.engine.errors import RoadbedError
    from roadbed.engine.fleet import Fleet
    from roadbed.engine.load import load
    from roadbed.engine.past_runs import last_run
    from roadbed.releases import status

    stack = load(inventory)
    with Fleet(stack, sudo_password=sudo_password(ask_sudo_password)) as fleet:
        fleet.connect()
        answers = fleet.each(fleet.sessions, lambda s, name: status.look(s, stack.app, fleet.facts[name].phase))
        failures = dict(fleet.failures)
    hosts = {name: answer for name, answer in answers.items() if not isinstance(answer, RoadbedError)}
    failures |= {name: answer for name, answer in answers.items() if isinstance(answer, RoadbedError)}
    last = last_run(stack.path)
    if as_json:
        away = {name: {"reachable": False, "error": str(error)} for name, error in failures.items()}
        there = {name: status.as_json(stack, hosts, name) for name in hosts}
        told = {name: (there | away)[name] for name in stack.hosts}
        output(json.dumps({"stack": stack.name, "hosts": told, "last_run": last and last.as_json()}, indent=1))
    else:
        console.print(table(stack, hosts, failures))
        for line in [*notes(stack, hosts), *run_lines(stack, hosts, last)]:
            say(line)
    if failures:
        worst = min(failures.values(), key=lambda error: error.exit_code)
        raise type(worst)("\n".join(map(str, failures.values())))


def table(stack: "Inventory", hosts: "Mapping[str, HostStatus]", failures: "Mapping[str, RoadbedError]") -> Table:
    """A line for each slot in use on each host."""
    from roadbed.releases.status import slots

    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in ("host", "phase", "slot", "release", "instances", "", "free"):
        grid.add_column(title, no_wrap=title in ("phase", "slot", "release", "free"), overflow="fold")
    for name in stack.hosts:
        if name in failures:
            grid.add_row(name, "-", "-", "unreachable", "-", "", "-", style="red")
            continue
        status = hosts[name]
        free, head = f"{status.state.free_kb / 2**20:.1f} GB", (name, status.phase or "none")
        for slot in slots(stack, hosts, name):
            counts = ", ".join(f"{count} {condition}" for condition, count in slot.counts.items()) or "-"
            bad = any(condition != "active" for condition in slot.counts)
            style = "red" if bad else COLOURS.get(slot.use, "cyan")
            grid.add_row(*head, slot.slot, slot.release or "-", counts, slot.use, free, style=style)
            free, head = "", ("", "")
        if free:
            grid.add_row(*head, "-", "-", "-", "", free)
    return grid


def notes(stack: "Inventory", hosts: "Mapping[str, HostStatus]") -> Iterator[str]:
    """Who works on the stack, what does not run, and what is owed."""
    from roadbed.releases.status import stopped

    holders = {name: status.holder for name, status in hosts.items() if status.holder}
    for told in dict.fromkeys(f"{holder.owner}: {holder.what}" for holder in holders.values()):
        names = [name for name, holder in holders.items() if f"{holder.owner}: {holder.what}" == told]
        yield f"locked: {', '.join(names)}, by {holders[names[0]]}"
    if hosts and not holders:
        yield "locked: no"
    for name, status in hosts.items():
        for unit, _, state in (line.partition(" ") for line in stopped(stack.app, status) if not status.holder):
            yield f"  ! {name}: {unit} does not run ({state}): {myself()} logs {name} --unit {unit} -i {stack.name}"
        if "maintenance" in status.state.flags:
            yield f"{name}: shows the maintenance page. `{myself()} maintenance off -i {stack.name}` ends that"
        if status.pending:
            owed = ", ".join(status.pending)
            yield f"{name}: a restart is owed: {owed}. `{myself()} {status.phase or 'phase1'} -i {stack.name}` does it"


def run_lines(stack: "Inventory", hosts: "Mapping[str, HostStatus]", last: "PastRun | None") -> Iterator[str]:
    """The last run of this machine, and what lies about."""
    from roadbed.releases.status import leftovers

    yield f"last run from this machine: {_told(last)}" if last else "last run from this machine: none yet"
    if any(status.holder for status in hosts.values()):
        return  # what looks left over may be under way
    left = list(leftovers(stack, hosts))
    for name, what in left:
        yield f"{name}: {what}"
    if left:
        yield f"The next `{myself()} {_again(last)} -i {stack.name}` cleans up and finishes"
    elif last and last.outcome == "interrupted":
        yield f"`{myself()} {_again(last)} -i {stack.name}` finishes what was begun"


def _again(last: "PastRun | None") -> str:
    """The command that finishes what ``last`` began: of the same release, whatever the project is by now."""
    if last is None or not last.command.startswith(("phase", "deploy", "rollback")):
        return "deploy"
    return last.what.replace("deploy ", "deploy --release ", 1) if last.command == "deploy" else last.what


def _told(last: "PastRun") -> str:
    from roadbed.engine.holder import duration

    when, where = f"{last.what}, {last.begun:%Y-%m-%d %H:%M} UTC", f" in {last.stage}" if last.stage else ""
    if last.ended is None:
        return f"{when}, at work{where}"
    took = duration((last.ended - last.begun).total_seconds())
    after = f"{where}, after {took}" if where else f" after {took}"
    return f"{when}, {last.outcome}{after}{f': {last.error}' if last.error else ''}"
