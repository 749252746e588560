"""`provision deploy` and `provision rollback`: another release on hosts that a phase was brought to."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .canary import parse_canary
from .chosen_release import built_before, deployed_before, look, refuse_another_key, with_source
from .connected import Hosts, connected, limited
from .options import sudo_password
from .phase import raise_for
from .progress import Progress
from .style import output, say, seconds

if TYPE_CHECKING:
    from roadbed.deploys.node import NodeBuild
    from roadbed.engine.converge import Run, Step
    from roadbed.engine.inventory import Inventory
    from roadbed.engine.secrets import Secrets
    from roadbed.releases.artefact import Artefact
    from roadbed.releases.canary import Canary
    from roadbed.releases.on_hosts import Known


@dataclass(frozen=True)
class Wanted:
    """What the user asked for on the command line, beside the inventory. ``release`` is an id, ``source`` as in
    ``app.source``, a path relative to the working folder."""

    source: str | None = None
    release: str | None = None
    limit: str | None = None
    dry_run: bool = False
    as_json: bool = False
    verbose: bool = False
    ask_sudo_password: bool = False
    allow_vulnerable: bool = False
    break_lock: bool = False
    canary: str | None = None
    watch: str | None = None


def deploy(inventory: str | None, wanted: Wanted) -> None:
    """Builds a release, or takes one that is there, and brings it to service. Raises RoadbedError."""
    from roadbed.engine.errors import InventoryError
    from roadbed.engine.load import load
    from roadbed.engine.secrets import Secrets
    from roadbed.engine.start import start

    from .build import built

    if wanted.source and wanted.release:
        raise InventoryError("--source and --release: a release that exists has a source already. Give one of them")
    canary = parse_canary(wanted.canary, wanted.watch)
    start()
    stack = load(inventory)
    if wanted.source:
        stack = with_source(stack, wanted.source)
    names, secrets = limited(stack, wanted.limit), Secrets(stack.beside(".secrets.age"))
    password = sudo_password(wanted.ask_sudo_password)
    with Progress(wanted.verbose) as report:
        if wanted.release is None:
            artefact, builds = built(
                stack, secrets, report, password, allow_vulnerable=wanted.allow_vulnerable, names=names
            )
            what = f"deploy {artefact.release}"
            with _hosts(stack, names, secrets, builds, artefact, password, what, report, wanted) as hosts:
                run = roll(hosts, artefact, "deploy", names, report, wanted.dry_run, converge=True, canary=canary)
        else:
            secrets.names()  # a wrong identity is told before a host is asked
            builds = _builds(stack)
            found, what = built_before(stack, wanted.release), f"deploy {wanted.release}"
            with _hosts(stack, names, secrets, builds, found, password, what, report, wanted) as hosts:
                artefact = found or deployed_before(hosts, wanted.release)
                hosts = hosts.with_driver(artefact.manifest.database_driver)
                refuse_another_key(artefact, secrets)
                run = roll(hosts, artefact, "deploy", names, report, wanted.dry_run, converge=True, canary=canary)
    _tell(run, artefact, wanted)


def rollback(inventory: str | None, wanted: Wanted) -> None:
    """Brings back the release that served before the live one, or ``wanted.release``. Raises RoadbedError."""
    from roadbed.engine.load import load
    from roadbed.engine.secrets import Secrets
    from roadbed.engine.start import start
    from roadbed.releases.host_state import serves
    from roadbed.releases.on_hosts import fetch, interrupted, to_roll_back_to

    start()
    stack = load(inventory)
    names, secrets = limited(stack, wanted.limit), Secrets(stack.beside(".secrets.age"))
    password = sudo_password(wanted.ask_sudo_password)
    builds = _builds_if_known(stack)
    what = f"rollback {wanted.release or ''}".rstrip()
    with (
        Progress(wanted.verbose) as report,
        _hosts(stack, names, secrets, builds, None, password, what, report, wanted, preflight=False) as hosts,
    ):
        apps = [name for name in stack.with_role("app") if name in hosts.fleet.sessions]
        releases, states = look(hosts)
        back = to_roll_back_to(releases, apps, wanted.release, amid := interrupted(states))
        if amid:
            say("an earlier run ended amid its switch")
        say(f"{serves(states) or 'no one release'} is live. Rolling back to {back.release}{_born(back)}")
        artefact = fetch(hosts.fleet.session(apps[0]), stack.app, back.release)
        run = roll(hosts, artefact, "rollback", names, report, wanted.dry_run, converge=False)
    _tell(run, artefact, wanted)


def roll(
    hosts: Hosts,
    artefact: "Artefact",
    action: str,
    names: list[str],
    report: Progress,
    dry_run: bool,
    *,
    converge: bool,
    canary: "Canary | None" = None,
) -> "Run":
    """Runs the release step on connected hosts; with ``converge`` the components it needs first: Node.js and the app's
    environment and units, which change with the inventory."""
    from roadbed.deploys import app, node
    from roadbed.engine.converge import ComponentStep
    from roadbed.releases.release_step import ReleaseStep

    steps: list[Step] = [ComponentStep(node), ComponentStep(app)] if converge else []
    steps.append(ReleaseStep(artefact, action, canary))
    run = hosts.run(report, names, dry_run=dry_run)
    run.execute(steps)
    return run


def _hosts(
    stack: "Inventory",
    names: list[str],
    secrets: "Secrets",
    builds: "Mapping[str, NodeBuild]",
    artefact: "Artefact | None",
    password: str | None,
    what: str,
    report: Progress,
    wanted: Wanted,
    *,
    preflight: bool = True,
) -> AbstractContextManager[Hosts]:
    manifest = artefact.manifest if artefact else None
    lock, break_lock = not wanted.dry_run, wanted.break_lock
    given = (stack, names, secrets, builds, manifest, None, password)
    return connected(*given, what=what, report=report, lock=lock, break_lock=break_lock, preflight=preflight)


def _builds(stack: "Inventory") -> "Mapping[str, NodeBuild]":
    from roadbed.releases.node_builds import resolve_all

    return resolve_all(stack.node)


def _builds_if_known(stack: "Inventory") -> "Mapping[str, NodeBuild]":
    """A rollback does not wait for a registry that is away: what it brings back has its Node.js on the hosts."""
    from roadbed.engine.errors import OperationFailed

    try:
        return _builds(stack)
    except OperationFailed:
        return {}


def _born(release: "Known") -> str:
    if release.deployed is None:
        return f", built {release.created:%Y-%m-%d %H:%M} UTC"
    return f", which served from {release.deployed:%Y-%m-%d %H:%M} UTC, deployed by {release.owner}"


def _tell(run: "Run", artefact: "Artefact", wanted: Wanted) -> None:
    """The last lines and the JSON; raises the error of a run that failed."""
    report, took = run.report, sum(seconds for _, seconds in run.report.steps)
    changed = report.count("changed")
    if wanted.as_json:
        failed = {host: str(error) for host, error in run.failed.items()}
        result = {"release": artefact.release, "changed": changed, "seconds": round(took, 3), "failed": failed}
        output(json.dumps({**result, **report.as_json()}, indent=1))
    raise_for(run)
    if not changed:
        say(f"{artefact.release} is live already; nothing was changed")
    elif wanted.dry_run:
        say(f"{artefact.release} would be brought to service: {changed} changes")
    else:
        say(f"{artefact.release} is live ({seconds(took)})")
        say(f"https://{run.fleet.inventory.app.domain}/")
