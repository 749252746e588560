"""`provision patch`: operating system updates, one host at a time, without a lost request where others stand in."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .connected import Hosts, connected
from .options import sudo_password
from .progress import Progress
from .style import console, output, say, seconds

if TYPE_CHECKING:
    from roadbed.engine.errors import RoadbedError
    from roadbed.engine.inventory import Inventory
    from roadbed.releases.host_state import HostState
    from roadbed.releases.patch import Done, Verify
    from roadbed.releases.patch_plan import Pending, Reboot, Work


@dataclass(frozen=True)
class Wanted:
    """What the user asked for on the command line, beside the inventory."""

    hosts: tuple[str, ...] = ()
    reboot: str = "auto"
    accept_downtime: bool = False
    dry_run: bool = False
    as_json: bool = False
    yes: bool = False
    ask_sudo_password: bool = False
    break_lock: bool = False


def patch(inventory: str | None, wanted: Wanted) -> None:
    """The whole command. Raises InventoryError, Refused before anything is changed, or what ended the run."""
    from roadbed.engine.errors import InventoryError
    from roadbed.engine.load import load
    from roadbed.engine.secrets import Secrets
    from roadbed.engine.start import start

    start()
    from roadbed.releases.node_builds import resolve_all
    from roadbed.releases.patch_plan import REBOOTS, plan, refuse_downtime

    if wanted.reboot not in REBOOTS:
        raise InventoryError(f"--reboot: there is no {wanted.reboot}. Say one of {', '.join(REBOOTS)}")
    stack = load(inventory)
    names = named_hosts(stack, wanted.hosts)
    password = sudo_password(wanted.ask_sudo_password)
    secrets = Secrets(stack.beside(".secrets.age"))
    with (
        Progress() as report,
        connected(
            stack,
            list(stack.hosts),
            secrets,
            resolve_all(stack.node),
            None,
            None,
            password,
            what="patch",
            report=report,
            lock=not wanted.dry_run,
            break_lock=wanted.break_lock,
        ) as hosts,
    ):
        _all_there(hosts, names)
        pending, states = _look(hosts, names, refresh=not wanted.dry_run)
        reboot: Reboot = wanted.reboot  # type: ignore[assignment]
        works = plan(hosts.contexts, pending, states, reboot)
        for work in works:
            _show(work)
        due = [work for work in works if work.needed]
        error: RoadbedError | None = None
        done: list[Done] = []
        if due and not wanted.dry_run:
            refuse_downtime(works, accepted=wanted.accept_downtime, inventory=stack.name)
            _confirm(due, report, yes=wanted.yes)
            done, error = _run(hosts, due, report, wanted)
    _tell(works, done, error, report, wanted)


def named_hosts(stack: "Inventory", hosts: tuple[str, ...]) -> list[str]:
    """The hosts of ``--host``, or all. Raises InventoryError for one that is not there."""
    from roadbed.engine.errors import InventoryError

    for name in hosts:
        if name not in stack.hosts:
            raise InventoryError(f"--host: there is no host {name}. Hosts: {', '.join(stack.hosts)}")
    return [name for name in stack.hosts if not hosts or name in hosts]


def _all_there(hosts: Hosts, names: list[str]) -> None:
    """Raises the error of a host that is missing, if the run is about it or needs it to stand in."""
    for name, error in hosts.fleet.failures.items():
        if name in names or {"web", "app"} & set(hosts.fleet.inventory.roles_of(name)):
            raise type(error)(f"{error}\nNo host was patched: this one has to take part, or to stand in for others")


def _look(hosts: Hosts, names: list[str], *, refresh: bool) -> "tuple[Mapping[str, Pending], Mapping[str, HostState]]":
    from roadbed.engine.errors import RoadbedError
    from roadbed.releases.host_state import inspect
    from roadbed.releases.patch import look

    fleet = hosts.fleet
    say("asking for updates" if refresh else "updates as of the last time the hosts asked for them")
    pending, states = {}, {}
    for name, found in fleet.each(names, lambda session, host: look(session, host, refresh=refresh)).items():
        if isinstance(found, RoadbedError):
            raise found
        pending[name] = found
    apps = fleet.inventory.with_role("app")
    for name, state in fleet.each(apps, lambda session, _: inspect(session, fleet.inventory.app)).items():
        if isinstance(state, RoadbedError):
            raise state
        states[name] = state
    return pending, states


def _show(work: "Work") -> None:
    say(str(work))
    if work.needed:
        for sentence in work.meanwhile.said:
            say(f"    meanwhile {sentence}")
        for sentence in work.meanwhile.lost:
            say(f"    nobody stands in: {sentence}")


def _confirm(due: "list[Work]", report: Progress, *, yes: bool) -> None:
    """Asks on a terminal. Raises Refused on a no."""
    from roadbed.engine.errors import Refused

    on = f"{len(due)} host{'' if len(due) == 1 else 's'}"
    if not yes and sys.stdin.isatty() and console.is_terminal and not report.ask(f"Patch {on}, one after the other?"):
        raise Refused("Nothing was changed")


def _run(hosts: Hosts, due: "list[Work]", report: Progress, wanted: Wanted) -> "tuple[list[Done], RoadbedError | None]":
    """One host after the other, until one fails."""
    from roadbed.engine.errors import RoadbedError
    from roadbed.releases.patch import Patch

    lock = hosts.locked.lock if hosts.locked else None
    reconnected = lock.retake if lock else lambda session, name: None
    verify, reboot = _verify(hosts), wanted.reboot
    patch = Patch(hosts.fleet, hosts.contexts, report, verify, reboot, wanted.accept_downtime, reconnected)  # type: ignore[arg-type]
    done: list[Done] = []
    for place, work in enumerate(due):
        report.step(f"patch {place + 1} of {len(due)}", [work.host])
        try:
            hosts.begins(f"patch {work.host}")
            done.append(patch.host(work))
        except RoadbedError as error:
            report.operation(work.host, "patch", "Patch the host", "failed", detail=str(error))
            hosts.fleet.failures[work.host] = error
            return done, error
        finally:
            report.step_ended(work.host)
    return done, None


def _verify(hosts: Hosts) -> "Verify":
    """The checks of a host's components that take seconds: those of `provision verify` which have their names."""
    from roadbed import checks
    from roadbed.deploys.phases import PHASES, component_name

    from .verification import Verification
    from .verify import live_manifest, perform

    folder = Path(next(iter(checks.__path__)))
    inventory = hosts.fleet.inventory

    def verify(host: str) -> list[str]:
        names = [
            component_name(part)
            for part in PHASES[hosts.phase]
            if "*" in part.ROLES or set(part.ROLES) & set(inventory.roles_of(host))
        ]
        modules = [str(file) for name in names if (file := folder / f"test_{name}.py").is_file()]
        ctx = replace(hosts.contexts[host], manifest=live_manifest(hosts.fleet))
        verification = Verification(hosts.fleet, {host: ctx})
        code, chatter = perform(verification, modules)
        verification.tell_component()
        bad = [f"{one.component}: {one.claim}: {one.problem}" for one in verification.results if not one.passed]
        return bad or ([f"the checks could not run: {chatter}"] if code else [])

    return verify


def _tell(
    works: "list[Work]", done: "list[Done]", error: "RoadbedError | None", report: Progress, wanted: Wanted
) -> None:
    """The last lines and the JSON. Raises ``error``, with what is left to do."""
    from roadbed.releases.patch_plan import counted

    finished = {one.host for one in done}
    untouched = [work.host for work in works if work.needed and work.host not in finished]
    if error:
        untouched = untouched[1:]
    if wanted.as_json:
        plan = [{**asdict(work), "needed": work.needed} for work in works]
        result = {"plan": plan, "patched": [asdict(one) for one in done], "failed": str(error) if error else None}
        output(json.dumps({**result, "untouched": untouched, **report.as_json()}, indent=1))
    for one in done:
        what = counted(one.packages) + (f", rebooted, kernel {one.kernel}" if one.rebooted else "")
        say(f"{one.host}: {what} ({seconds(one.seconds)})")
        if one.left_waiting:
            say(f"{one.host}: still to do: {one.left_waiting}")
    if error:
        rest = f"Not touched: {', '.join(untouched)}. " if untouched else ""
        raise type(error)(f"{error}\n{rest}Done: {', '.join(finished) or 'none'}")
    if not any(work.needed for work in works):
        say("nothing to do")
    elif wanted.dry_run:
        say("nothing was changed")
