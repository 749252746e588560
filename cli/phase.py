"""`provision phase1` to `phase3`: build what is needed, connect, converge, and say what happened."""

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .options import sudo_password
from .progress import Progress
from .style import console, output, say, seconds

if TYPE_CHECKING:
    from roadbed.engine.converge import Run, Step
    from roadbed.engine.inventory import Inventory
    from roadbed.engine.secrets import Secrets


@dataclass(frozen=True)
class Wanted:
    """What the user asked for on the command line, beside phase and inventory."""

    limit: str | None = None
    dry_run: bool = False
    as_json: bool = False
    verbose: bool = False
    yes: bool = False
    ask_sudo_password: bool = False
    allow_vulnerable: bool = False
    allow_downgrade: bool = False
    break_lock: bool = False
    adopt: bool = False


def converge(phase: str, inventory: str | None, wanted: Wanted) -> None:
    """The whole command. Raises RoadbedError, with the exit code of what went wrong first."""
    from roadbed.engine.start import start

    start()
    from roadbed.engine.load import load

    stack = load(inventory)
    password = sudo_password(wanted.ask_sudo_password)
    with Progress(wanted.verbose) as report:
        run = converge_stack(stack, phase, report, wanted, password)
    if wanted.as_json:
        failed = {host: str(error) for host, error in run.failed.items()}
        output(json.dumps({"phase": phase, "failed": failed, **report.as_json()}, indent=1))
    summarise(run, wanted.dry_run)
    raise_for(run)


def converge_stack(
    stack: "Inventory", phase: str, report: Progress, wanted: Wanted, password: str | None = None
) -> "Run":
    """Builds, connects and converges. A wrong inventory or project ends it before the first SSH packet."""
    from roadbed.deploys.phases import PHASES
    from roadbed.engine.converge import ComponentStep, Step
    from roadbed.engine.roadmap import RecordStep, require
    from roadbed.engine.secrets import Secrets
    from roadbed.releases.release_step import ReleaseStep

    from .build import built
    from .connected import connected, limited

    names = limited(stack, wanted.limit)
    require(stack, phase)
    secrets = Secrets(stack.beside(".secrets.age"))
    _check_own_files(stack)
    prepare_secrets(stack, phase, secrets)
    artefact, builds = built(stack, secrets, report, password, allow_vulnerable=wanted.allow_vulnerable, names=names)
    with connected(
        stack,
        names,
        secrets,
        builds,
        artefact.manifest,
        phase,
        password,
        what=phase,
        report=report,
        lock=not wanted.dry_run,
        break_lock=wanted.break_lock,
        allow_downgrade=wanted.allow_downgrade,
        adopt=wanted.adopt,
    ) as hosts:
        steps: list[Step] = []
        for component in PHASES[phase]:
            steps.append(ComponentStep(component))
            if component.__name__.endswith(".app"):
                steps.append(ReleaseStep(artefact, phase))
        steps.append(RecordStep(phase))
        run = hosts.run(report, names, dry_run=wanted.dry_run)
        if not (wanted.yes or wanted.dry_run) and sys.stdin.isatty() and console.is_terminal:
            confirm(run, steps, report)
        run.execute(steps)
    return run


def confirm(run: "Run", steps: "list[Step]", report: Progress) -> None:
    """Shows what would change and asks, if anything would. Raises Refused on a no."""
    from roadbed.engine.converge import Run
    from roadbed.engine.errors import Refused
    from roadbed.engine.report import Report

    plan = Report()
    planned = Run(run.fleet, run.phase, run.contexts, plan, dry_run=True, only=run.only)
    planned.execute(steps)
    for error in planned.failed.values():
        say(f"  ! {error}")
    for host in run.hosts_in_play:
        mine = [record for record in plan.operations if record.host == host and record.status == "changed"]
        for component in dict.fromkeys(record.component for record in mine):
            names = [record.name for record in mine if record.component == component]
            more = f", and {len(names) - 4} more" if len(names) > 4 else ""
            say(f"  {host}: {component}: {'; '.join(names[:4])}{more}")
    if plan.count("changed"):
        if not report.ask(f"Make these {plan.count('changed')} changes?"):
            raise Refused("Nothing was changed. --dry-run --verbose lists every operation; --yes asks nothing")
        run.fleet.forget()  # who knows how long the answer took


def _check_own_files(stack: "Inventory") -> None:
    """Own certificate files and the own page are read before any host is asked. Raises InventoryError."""
    from roadbed.deploys.certificates import own_files
    from roadbed.deploys.maintenance import own_page
    from roadbed.engine.errors import InventoryError

    try:
        own_page(stack)
        if stack.nginx.tls.mode == "files":
            own_files(stack)
    except ValueError as error:
        raise InventoryError(str(error)) from None


def prepare_secrets(stack: "Inventory", phase: str, secrets: "Secrets") -> None:
    """Makes the passwords that the components of a phase want. Raises InventoryError when those of services
    of the user's own are not stored."""
    from roadbed.deploys.database import parse
    from roadbed.deploys.phases import PHASES
    from roadbed.engine.errors import InventoryError

    if phase == "phase1":
        return
    if stack.postgres.external:
        try:
            parse(secrets.get("database_url"))
        except ValueError as error:
            raise InventoryError(str(error)) from None
    external = {"redis": stack.redis.external, "postgres": stack.postgres.external}
    if stack.redis.external:
        for name in ("redis_cache_url", "redis_durable_url"):
            secrets.get(name)
    for component in PHASES[phase]:
        name = component.__name__.rpartition(".")[2]
        if stack.with_role(*component.ROLES) and not external.get(name, False):
            secrets.create_missing(getattr(component, "SECRETS", ()))


def summarise(run: "Run", dry_run: bool) -> None:
    """The last lines: per host what changed, and where the site is."""
    report = run.report
    total = sum(took for _, took in report.steps)
    for host in run.fleet.inventory.hosts:
        if host not in run.hosts_in_play:
            continue
        changed, same = report.count("changed", host), report.count("unchanged", host)
        verb = "would change" if dry_run else "changed"
        state = f"failed: {str(run.failed[host]).splitlines()[0]}" if host in run.failed else "ok"
        say(f"{host}: {changed} {verb}, {same} unchanged, {state}")
    say(f"{run.phase}: {seconds(total)}" + "".join(f", {name} {seconds(took)}" for name, took in report.steps))
    if not run.failed and not dry_run:
        say(f"https://{run.fleet.inventory.app.domain}/")


def raise_for(run: "Run") -> None:
    """Raises the error whose exit code tells what went wrong first; nothing when all is well."""
    if run.failed:
        worst = min(run.failed.values(), key=lambda error: error.exit_code)
        raise type(worst)("\n".join(str(error) for error in run.failed.values()))
