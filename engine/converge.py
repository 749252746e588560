"""Run the components of a phase on the hosts: the one module that drives pyinfra.

One pyinfra State a run. Every host works through a component in a greenlet of its own, and its
operations run at once, in order (``state.is_executing``): pyinfra's own runner waits for all
hosts at every operation, pairs operations of different hosts by position, and its change table
is wrong with per-host data (pyinfra#1370). A component is a barrier: the next one begins when
every host has ended it. A host that fails drops out; what needs it is skipped.

Hosts have no data of pyinfra's: for every operation and fact it looks for 32 arguments in five
places of it, by exceptions (pyinfra/api/arguments.py, host.py), which was a third of its time.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Protocol

from pyinfra.api.config import Config
from pyinfra.api.inventory import Inventory as PyinfraInventory
from pyinfra.api.state import State, StateStage
from pyinfra.context import ctx_host, ctx_state

from roadbed.deploys.context import Context
from roadbed.deploys.phases import component_name

from .answers import list_path
from .connector import install
from .errors import HostUnreachable, OperationFailed, RoadbedError
from .fleet import Fleet
from .operations import OperationCallbacks, OperationWatch
from .parallel import each
from .report import Report

logging.getLogger("pyinfra").propagate = False
logging.getLogger("pyinfra").addHandler(logging.NullHandler())


class Step(Protocol):
    """One barrier of a run: a component, or something that spans hosts such as a release."""

    @property
    def name(self) -> str: ...
    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def needs(self) -> tuple[str, ...]: ...

    def run(self, run: "Run", hosts: list[str]) -> dict[str, RoadbedError]:
        """Does the work on ``hosts`` and returns the errors of those that failed."""
        ...


@dataclass
class Run:
    """One converge. ``failed`` maps a host to the error for which it dropped out."""

    fleet: Fleet
    phase: str
    contexts: Mapping[str, Context]
    report: Report
    dry_run: bool = False
    only: frozenset[str] = frozenset()
    """Hosts to work on (``--limit``); empty: all."""
    failed: dict[str, RoadbedError] = field(default_factory=dict)
    lost: dict[str, set[str]] = field(default_factory=dict)
    """Component -> hosts on which it is not in place after this run."""
    guard: Callable[[str], None] = lambda _: None
    """Called with the name of each step and stage before it begins; raises Refused when the lock is lost."""

    def execute(self, steps: list[Step]) -> None:
        """Runs the steps in order; never raises for a failed host: see ``failed``. Raises what ``guard`` raises."""
        inventory = self.fleet.inventory
        self.failed.update(self.fleet.failures)
        for name, error in self.fleet.failures.items():
            self.report.operation(name, "connect", "Connect", "failed", detail=str(error))
        self._start_pyinfra()
        for step in steps:
            self.guard(step.name)
            members = [host for host in inventory.with_role(*step.roles) if host in self.hosts_in_play]
            blocked = {host: reason for host in members if (reason := self._blocked(step, host))}
            ready = [host for host in members if host not in blocked]
            for host, reason in blocked.items():
                self.report.operation(host, step.name, step.name.capitalize(), "skipped", detail=reason)
                self.failed.setdefault(host, OperationFailed(f"{host}: {step.name}: {reason}"))
            self.report.step(step.name, ready)
            before = self.report.count("changed")
            errors = step.run(self, ready) if ready else {}
            if not isinstance(step, ComponentStep) and self.report.count("changed") > before:
                self.fleet.forget()  # what changes hosts behind pyinfra's back ends the validity of its facts
            self.failed.update(errors)
            self.lost[step.name] = set(blocked) | set(errors)
            self.report.step_ended(step.name)
        for name, session in self.fleet.sessions.items():
            session.answers.save(list_path(inventory.path, name))

    def _blocked(self, step: Step, host: str) -> str:
        """Why a step cannot run on a host, or an empty string."""
        if host in self.failed:
            unreachable = isinstance(self.failed[host], HostUnreachable)
            return "the host is unreachable" if unreachable else "an earlier step failed on this host"
        context = self.contexts[host]
        for need in step.needs:
            lost = self.lost.get(need, set())
            others = [other for other in context.hosts_for(need) if other != host]
            unknown = [other for other in others if other not in self.fleet.facts]
            if unknown and (need == "app" or set(others) <= {*unknown, *lost}):  # nginx is sized by all app hosts
                return f"needs {need} on {', '.join(unknown)}, which is unreachable"
            if others and set(others) <= lost:
                return f"needs {need}, which failed on {', '.join(others)}"
        return ""

    @property
    def hosts_in_play(self) -> list[str]:
        """The hosts this run is about, in the order of the inventory."""
        return [host for host in self.fleet.inventory.hosts if not self.only or host in self.only]

    def _start_pyinfra(self) -> None:
        install()
        each(self.fleet.sessions, lambda name: self.fleet.session(name).answers.renew())
        data = {
            f"@roadbed/{name}": {
                "roadbed_session": session,
                "roadbed_login": partial(self.fleet.fresh_login, name),
            }
            for name, session in self.fleet.sessions.items()
        }
        if not data:
            self.hosts = {}
            return  # pyinfra does not set up a State without hosts
        hosts = PyinfraInventory((list(data.items()), {}))  # type: ignore[no-untyped-call]
        self.state = State(hosts, Config(), check_for_changes=self.dry_run)  # type: ignore[no-untyped-call]
        self.state.add_callback_handler(OperationCallbacks())  # type: ignore[no-untyped-call]
        self.state.set_stage(StateStage.Prepare if self.dry_run else StateStage.Execute)
        self.state.is_executing = not self.dry_run
        for host in hosts:
            host.connected = True
            host.data = SimpleNamespace()  # type: ignore[assignment]
        self.hosts = {host.name: host for host in hosts}


@dataclass(frozen=True)
class ComponentStep:
    """A component of ``deploys/`` as a step."""

    component: ModuleType

    @property
    def name(self) -> str:
        """The component's name."""
        return component_name(self.component)

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of the hosts that get it."""
        return tuple(self.component.ROLES)

    @property
    def needs(self) -> tuple[str, ...]:
        """Components that must be in place before."""
        return tuple(self.component.NEEDS)

    def run(self, run: Run, hosts: list[str]) -> dict[str, RoadbedError]:
        """Runs ``deploy()`` for every host at the same time."""

        def one(name: str) -> None:
            watch = OperationWatch(run.state, run.hosts[name], self.name, run.report)
            with ctx_host.use(run.hosts[name]), watch.watching():
                self.component.deploy(run.contexts[name])

        with ctx_state.use(run.state):  # once for all hosts: pyinfra's state context is global to the process
            answers = each(hosts, one)
        return {name: answer for name, answer in answers.items() if isinstance(answer, RoadbedError)}
