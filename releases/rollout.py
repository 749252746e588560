"""The release step of a converge: bring a release to service on the app and web hosts without losing a request.

Order: upload to all -> start in a free slot -> health gate -> give nginx the files -> switch the flags ->
wait -> stop the old instances -> prune. The rule behind it: first out of the routing, wait a second, and
only then SIGTERM. nginx is never reloaded, because a reload loses requests of every kind of client
(measured: 79 of 8961 against 0 of 65637 with flag files). An instance that fails the gate leaves the
old release serving.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from roadbed.deploys.app import AppSettings
from roadbed.deploys.environment import app_address
from roadbed.deploys.node import node_path
from roadbed.engine.errors import OperationFailed, RoadbedError
from roadbed.engine.session import Session

from . import instances
from .artefact import Artefact
from .decide import Plan, Units, decide
from .gate import gate
from .host_state import HostState, inspect
from .protocols import Answer, Run, Status
from .scope import incomplete
from .scripts import script
from .upload import check_room, upload

SETTLE = 1.0
"""Seconds between two steps of a switch: every nginx worker has seen the flags, routed requests have arrived."""


class _Stopped(Exception):
    """The rollout ends here; ``errors`` says why, by host."""

    def __init__(self, errors: dict[str, RoadbedError]) -> None:
        self.errors = errors


@dataclass(frozen=True)
class ReleaseStep:
    """The step between the components app and nginx."""

    artefact: Artefact
    name: str = "release"
    roles: tuple[str, ...] = ("app", "web")
    needs: tuple[str, ...] = ("node", "app")

    def run(self, run: Run, hosts: list[str]) -> dict[str, RoadbedError]:
        """Brings the release to service; returns the errors of the hosts on which it is not."""
        if reason := incomplete(run.fleet.inventory, self.roles, hosts, run.hosts_in_play):
            return {host: OperationFailed(f"{host}: {reason}") for host in hosts}
        rollout = _Rollout(self.artefact, run, hosts)
        try:
            rollout.perform()
        except _Stopped as stopped:
            first = next(iter(stopped.errors))
            others = {
                host: OperationFailed(f"{host}: the rollout of {self.artefact.release} stopped because of {first}")
                for host in hosts
            }
            return {**others, **stopped.errors}
        return {}


class _Rollout:
    """One rollout. Each method is one stage, on all hosts it concerns at the same time."""

    def __init__(self, artefact: Artefact, run: Run, hosts: list[str]) -> None:
        self.artefact, self.run_, self.report = artefact, run, run.report
        self.app: AppSettings = run.fleet.inventory.app
        inventory = run.fleet.inventory
        self.apps = [host for host in hosts if "app" in inventory.roles_of(host)]
        self.web = tuple(host for host in hosts if "web" in inventory.roles_of(host))
        self.hosts = hosts

    def perform(self) -> None:
        """Does what the plan says, or only tells it in a dry run."""
        states, plan = self._plan()
        if plan.unchanged:
            self._say(self.hosts, f"Run release {plan.release}", "unchanged")
            return
        if self.run_.dry_run:
            self._say(self.hosts, f"Run release {plan.release} in slot {plan.slot}", "changed")
            return
        for host in plan.upload:
            self._on([host], lambda _, name: check_room(name, states[name], self.artefact))
        self._stage(plan.upload, f"Upload release {plan.release}", self._upload)
        self._start(plan)
        self._stage(plan.publish, "Give nginx the files of the release", self._publish)
        self._switch(plan)
        self._stage(tuple(plan.retire), "Stop the instances of before", lambda s, h: self._stop(s, plan.retire[h]))
        self._finish(plan, states)

    def _plan(self) -> tuple[dict[str, HostState], Plan]:
        states = self._on(self.hosts, lambda session, _: inspect(session, self.app))
        replicas = {host: self.run_.contexts[host].sizing().replicas for host in self.apps}
        digests = {host: self.artefact.digest(public_only=host not in self.apps) for host in self.hosts}
        return states, decide(self.artefact.release, digests, states, replicas, self.web)

    def _upload(self, session: Session, host: str) -> None:
        def progress(sent: int, total: int) -> None:
            self.report.progress(host, f"Uploading: {sent / 2**20:.1f} of {total / 2**20:.1f} MB")

        node = node_path(self.run_.contexts[host]) if host in self.apps else None
        upload(session, self.app, self.artefact, node=node, progress=progress)

    def _start(self, plan: Plan) -> None:
        """Starts the missing instances and holds them at the gate; a failure stops them again."""
        self._stage(tuple(plan.stop_first), "Stop leftover instances", lambda s, h: self._stop(s, plan.stop_first[h]))
        self._on(list(plan.link), lambda session, _: instances.link(session, self.app, plan.slot, plan.release))

        def begin(session: Session, host: str) -> None:
            names = plan.start[host]
            self.report.progress(host, f"Starting {', '.join(names)} and waiting until {self.app.health} is healthy")
            instances.start(session, self.app, names)
            address = app_address(self.run_.contexts[host], host)
            unhealthy = gate(session, self.app, plan.release, address, names)
            if unhealthy:
                raise OperationFailed(f"{host}: " + "\n".join(map(str, unhealthy)))

        try:
            self._stage(tuple(plan.start), f"Start release {plan.release} in slot {plan.slot}", begin)
        except _Stopped as stopped:
            self._give_up(plan, stopped)
        enable = lambda session, host: instances.enable(session, self.app, plan.enable[host])  # noqa: E731
        self._on(list(plan.enable), enable)

    def _give_up(self, plan: Plan, stopped: _Stopped) -> None:
        """Leaves the old release as it was, and the new one for inspection."""

        def undo(session: Session, host: str) -> None:
            self._stop(session, plan.start[host])
            instances.mark(session, self.app, plan.release, "failed")

        self.run_.fleet.each(list(plan.start), undo)
        raise _Stopped(
            {
                host: OperationFailed(f"{error}\nThe release before goes on serving; this one is kept for inspection")
                for host, error in stopped.errors.items()
            }
        )

    def _publish(self, session: Session, _: str) -> None:
        session.run(script("publish", root=self.app.root, id=self.artefact.release))

    def _switch(self, plan: Plan) -> None:
        """Adds the new flag everywhere, waits, removes the others: at no moment is there none."""
        if not plan.switch:
            return
        with self._told(plan.switch, f"Switch traffic to slot {plan.slot}"):
            self._on(list(plan.switch), lambda session, _: instances.add_flag(session, self.app, plan.slot))
            time.sleep(SETTLE)
            self._on(list(plan.switch), lambda session, _: instances.remove_flags(session, self.app, plan.slot))
            time.sleep(SETTLE)

    def _stop(self, session: Session, names: tuple[str, ...]) -> None:
        instances.stop(session, self.app, names)

    def _finish(self, plan: Plan, states: Mapping[str, HostState]) -> None:
        """What is left once the new release serves: starts at boot, links, old releases, the debt."""

        def finish(session: Session, host: str) -> None:
            instances.disable(session, self.app, plan.disable.get(host, ()))
            instances.mark(session, self.app, plan.release, "healthy")
            instances.make_current(session, self.app, plan.release)
            keep = kept(plan.release, states[host], self.app.keep)
            session.run(script("prune", app=self.app.name, root=self.app.root, keep="\n".join(keep)), timeout=300)
            if host in plan.pay:
                instances.pay(session, self.app)

        self._stage(tuple(self.hosts), f"Make {plan.release} the current release", finish)

    def _say(self, hosts: "list[str] | tuple[str, ...]", name: str, status: Status, seconds: float = 0.0) -> None:
        for host in hosts:
            self.report.operation(host, "release", name, status, seconds)

    @contextmanager
    def _told(self, hosts: tuple[str, ...], name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._say(hosts, name, "changed", time.monotonic() - started)

    def _stage(self, hosts: tuple[str, ...], name: str, work: Callable[[Session, str], object]) -> None:
        """One reported operation on ``hosts``. Raises _Stopped when it fails on any."""
        started: dict[str, float] = {}

        def timed(session: Session, host: str) -> None:
            started[host] = time.monotonic()
            self.report.progress(host, name)
            work(session, host)
            self.report.operation(host, "release", name, "changed", time.monotonic() - started[host])

        answers = self.run_.fleet.each(list(hosts), timed)
        errors = {host: answer for host, answer in answers.items() if isinstance(answer, RoadbedError)}
        for host, error in errors.items():
            seconds = time.monotonic() - started.get(host, time.monotonic())
            self.report.operation(host, "release", name, "failed", seconds, str(error))
        if errors:
            raise _Stopped(errors)

    def _on(self, hosts: list[str], work: Callable[[Session, str], Answer]) -> dict[str, Answer]:
        """Work that is not worth a line in the report. Raises _Stopped when it fails on any host."""
        answers = self.run_.fleet.each(hosts, work)
        errors = {host: answer for host, answer in answers.items() if isinstance(answer, RoadbedError)}
        for host, error in errors.items():
            self.report.operation(host, "release", f"Roll out {self.artefact.release}", "failed", detail=str(error))
        if errors:
            raise _Stopped(errors)
        return {host: answer for host, answer in answers.items() if not isinstance(answer, RoadbedError)}


def kept(release: str, state: HostState, keep: int) -> list[str]:
    """Releases that stay on a host: ``release``, the one it replaces, and the newest others, ``keep`` in all."""
    first = [release, *([state.current] if state.current and state.current != release else [])]
    others = sorted((name for name in state.releases if name not in first), reverse=True)
    return [*first, *others[: max(0, keep - len(first))]]


__all__ = ["ReleaseStep", "Units"]
