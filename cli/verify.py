"""`provision verify`: the shipped checks, run by pytest on the hosts of any inventory."""

import contextlib
import difflib
import io
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import sudo_password
from .style import output, say, seconds

if TYPE_CHECKING:
    from roadbed.engine.fleet import Fleet

    from .verification import Verification


def run(
    phase: str | None,
    inventory: str | None,
    *,
    junit: Path | None = None,
    html: Path | None = None,
    as_json: bool = False,
    verbose: bool = False,
    ask_sudo_password: bool = False,
    only: str | None = None,
    disruptive: bool = False,
) -> None:
    """Runs the checks. Raises HostUnreachable (3) or VerificationFailed (5)."""
    import pytest

    from roadbed import checks
    from roadbed.deploys.context import Context
    from roadbed.deploys.urls import chosen_driver
    from roadbed.engine.errors import InventoryError, Refused, VerificationFailed
    from roadbed.engine.fleet import Fleet
    from roadbed.engine.load import load
    from roadbed.engine.roadmap import named, recorded, require
    from roadbed.engine.secrets import Secrets
    from roadbed.releases.node_builds import resolve_all

    from .verification import Verification

    stack = load(inventory)
    require(stack, named(phase or "phase1"))
    folder = Path(next(iter(checks.__path__)))
    modules = _modules(folder, only)
    secret = Secrets(stack.beside(".secrets.age")).get
    started = time.monotonic()
    with Fleet(stack, sudo_password=sudo_password(ask_sudo_password)) as fleet:
        fleet.connect()
        for error in fleet.failures.values():
            say(f"  ! {error}")
        if fleet.facts and not (phase := phase or recorded(fleet.facts.values())):
            raise Refused(
                f"{stack.name}: no phase was brought to these hosts yet. Run provision phase1 -i {stack.name}, or "
                f"name the phase to hold them against: provision verify phase1 -i {stack.name}"
            )
        if not fleet.facts:
            raise next(iter(fleet.failures.values()))
        phase, builds = phase or "phase1", resolve_all(stack.node)
        manifest = live_manifest(fleet)
        driver = chosen_driver(stack.app.database.driver, manifest.get("database_driver"))
        contexts = {
            name: Context(stack, phase, name, fleet.facts, secret, builds, driver, manifest) for name in fleet.facts
        }
        verification = Verification(fleet, contexts, verbose, disruptive)
        code, chatter = perform(verification, modules, [f"--junitxml={junit.resolve()}"] if junit else [])
    took = time.monotonic() - started
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        if fleet.failures:
            raise next(iter(fleet.failures.values()))
        way = "" if disruptive else ". Some checks run with --disruptive alone"
        raise InventoryError(f"--only: nothing of {only} applies to this stack at {phase}{way}")
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise VerificationFailed(f"the checks could not run:\n{chatter}")
    _summarise(verification, took)
    if as_json:
        failures = {name: str(error) for name, error in fleet.failures.items()}
        output(json.dumps({"phase": phase, "unreachable": failures, "checks": verification.as_json()}, indent=1))
    if html:
        from .html import write_html

        write_html(html, stack, phase, checks=verification.as_json(), timings=[("verify", took)])
        say(f"report: {html}")
    if fleet.failures:
        raise next(iter(fleet.failures.values()))
    if bad := [result for result in verification.results if not result.passed]:
        raise VerificationFailed(f"{len(bad)} of {len(verification.results)} checks do not hold")


def perform(verification: "Verification", modules: list[str], options: Iterable[str] = ()) -> tuple[int, str]:
    """Runs the checks in some files; returns pytest's exit code and what it printed."""
    import pytest

    folder = Path(modules[0]) if Path(modules[0]).is_dir() else Path(modules[0]).parent
    words = [*modules, "-q", "-c", "/dev/null", f"--rootdir={folder}", "-p", "no:cacheprovider"]
    words += ["--import-mode=importlib", "--tb=short", "--no-header", *options]
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):  # meant for the caller's own tests
        os.environ.pop(name, None)
    chatter = io.StringIO()
    with contextlib.redirect_stdout(chatter):
        code = pytest.main(words, plugins=[verification])
    return code, chatter.getvalue()


def _modules(folder: Path, only: str | None) -> list[str]:
    """The files of checks to run. Raises InventoryError for a name that has none."""
    from roadbed.engine.errors import InventoryError

    if only is None:
        return [str(folder)]
    there = sorted(path.stem.removeprefix("test_") for path in folder.glob("test_*.py"))
    names = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := [name for name in names if name not in there] or ([] if names else [only]):
        close = difflib.get_close_matches(unknown[0], there, n=1)
        guess = f"Did you mean {close[0]}? " if close else ""
        raise InventoryError(f"--only: there are no checks of '{unknown[0]}'. {guess}There are: {', '.join(there)}")
    return [str(folder / f"test_{name}.py") for name in names]


def live_manifest(fleet: "Fleet") -> dict[str, Any]:
    """The manifest of the release that the first app host serves; empty where there is none yet."""
    app = fleet.inventory.app
    for name in fleet.inventory.with_role("app"):
        if name in fleet.sessions:
            said = fleet.session(name).run(f"cat {app.root}/current/.roadbed/manifest.json", check=False).out
            found: dict[str, Any] = json.loads(said) if said else {}
            return found
    return {}


def _summarise(verification: "Verification", took: float) -> None:
    verification.tell_component()
    bad = sum(not result.passed for result in verification.results)
    total = len(verification.results)
    verdict = f"{bad} of {total} checks do not hold" if bad else f"all {total} checks hold"
    say(f"{verdict} ({seconds(took)})")
