"""The release step of a converge: bring a release to service on the app and web hosts without losing a request.

Order: upload to all -> migrations -> start in a free slot -> health gate -> give nginx the files -> switch the flags ->
wait -> stop the old instances -> prune. The rule behind it: first out of the routing, wait a second, and
only then SIGTERM. nginx is never reloaded, because a reload loses requests of every kind of client
(measured: 79 of 8961 against 0 of 65637 with flag files). An instance that fails the gate leaves the
old release serving.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from roadbed.deploys.context import ROADMAP
from roadbed.deploys.environment import instance_addresses
from roadbed.deploys.node import node_path
from roadbed.engine.errors import OperationFailed, RoadbedError
from roadbed.engine.owner import owner
from roadbed.engine.session import Session

from . import canary, history, instances
from .artefact import Artefact
from .canary import Canary
from .decide import Plan, decide
from .drain import end_leftover
from .gate import gate, wait_for_queue
from .host_state import HostState, inspect
from .migrate import Migrations
from .protocols import Run
from .rollout_hooks import RolloutHooks
from .scope import incomplete
from .scripts import script
from .share import InSlot, shared, take_back
from .stages import Stages, Stopped
from .upload import check_room, upload

SETTLE = 1.0
"""Seconds between two steps of a switch: every nginx worker has seen the flags, routed requests have arrived."""


@dataclass(frozen=True)
class ReleaseStep:
    """The step between the components app and nginx."""

    artefact: Artefact
    action: str = "deploy"
    """What hooks and the history are told: deploy, rollback, or the phase that a converge brings the hosts to."""
    canary: Canary | None = None
    name: str = "release"
    roles: tuple[str, ...] = ("app", "web")
    needs: tuple[str, ...] = ("node", "app")

    def run(self, run: Run, hosts: list[str]) -> dict[str, RoadbedError]:
        """Brings the release to service; returns the errors of the hosts on which it is not."""
        together = ROADMAP.index(run.phase) >= ROADMAP.index("phase3")
        if reason := incomplete(run.fleet.inventory, self.roles, hosts, run.hosts_in_play, together=together):
            return {host: OperationFailed(f"{host}: {reason}") for host in hosts}
        stages = Stages(run, self.name)
        hooks = RolloutHooks(self.artefact, run, hosts, stages, self.action)
        try:
            _Rollout(self.artefact, run, hosts, stages, hooks, self.action, self.canary).perform()
        except Stopped as stopped:
            hooks.failed(stopped.errors)
            because = f"the rollout of {self.artefact.release} stopped because of {next(iter(stopped.errors))}"
            return {host: OperationFailed(f"{host}: {because}") for host in hosts} | stopped.errors
        return {}


class _Rollout:
    """One rollout. Each method is one stage, on all hosts it concerns at the same time."""

    def __init__(
        self,
        artefact: Artefact,
        run: Run,
        hosts: list[str],
        stages: Stages,
        hooks: RolloutHooks,
        action: str,
        canary: Canary | None = None,
    ) -> None:
        self.artefact, self.hosts, self.stages, self.hooks = artefact, hosts, stages, hooks
        self.action, self.canary = action, canary
        self.app, self.contexts, self.fleet = run.fleet.inventory.app, run.contexts, run.fleet
        self.dry_run, self.targets = run.dry_run, run.hosts
        roles = {host: run.fleet.inventory.roles_of(host) for host in hosts}
        self.apps = [host for host in hosts if "app" in roles[host]]
        self.web = tuple(host for host in hosts if "web" in roles[host])
        self.migrations = Migrations(artefact, run, self.apps, stages)

    def perform(self) -> None:
        """Does what the plan says, or only tells it in a dry run."""
        states = self.stages.ask(self.hosts, "Look at the releases", self._inspect)
        self.hooks.know(states)
        if not self.dry_run:  # what a killed canary left
            take_back(self.stages, self.app, [host for host in self.web if shared(states[host])])
        plan, migrate = self._plan(states), self.migrations.due(states)
        if migrate and self.dry_run:
            self.migrations.announce()
        if plan.unchanged:
            if migrate and not self.dry_run:
                self.migrations.perform(states)
            self.stages.tell(self.hosts, f"Run release {plan.release}", "unchanged")
        elif self.dry_run:
            self.stages.tell(self.hosts, f"Run release {plan.release} in slot {plan.slot}", "changed")
        else:
            self._roll_out(plan, states, migrate=migrate)
        if not self.dry_run:
            end_leftover(self.fleet, self.hosts)

    def _inspect(self, session: Session, host: str) -> HostState:
        owed = self.targets[host].connector_data.get("roadbed_debts", ())
        return inspect(session, self.app, owed=self.app.name in owed)

    def _plan(self, states: Mapping[str, HostState]) -> Plan:
        replicas = {host: self.contexts[host].sizing().replicas for host in self.apps}
        digests = {host: self.artefact.digest(public_only=host not in self.apps) for host in self.hosts}
        return decide(self.artefact.release, digests, states, replicas, self.web)

    def _roll_out(self, plan: Plan, states: Mapping[str, HostState], *, migrate: bool) -> None:
        upload_title = f"Upload release {plan.release}"
        self.stages.ask(plan.upload, upload_title, lambda _, host: check_room(host, states[host], self.artefact))
        self.stages.stage(plan.upload, upload_title, self._upload)
        self.stages.stage(
            plan.stop_first,
            "Stop leftover instances",
            lambda session, host: instances.stop(session, self.app, plan.stop_first[host]),
        )
        if migrate:
            self.migrations.perform(states)
        self._start(plan, states)
        self._try_on_some(plan, states)
        self.stages.stage(plan.publish, "Give nginx the files of the release", self._publish)
        self._switch(plan)
        take_back(self.stages, self.app, plan.switch if self.canary else ())
        self.stages.stage(plan.retire, "Stop the instances of before", lambda s, host: self._retire(s, host, plan))
        self._finish(plan, states)
        self.hooks.after_switch(plan)

    def _upload(self, session: Session, host: str) -> str:
        def progress(sent: int, total: int) -> None:
            self.stages.doing(host, f"Uploading: {sent / 2**20:.1f} of {total / 2**20:.1f} MB")

        node = node_path(self.contexts[host]) if host in self.apps else None
        sent = upload(session, self.app, self.artefact, node=node, progress=progress)
        return f"sent {sent / 2**20:.1f} MB for a release of {self.artefact.manifest.size / 2**20:.1f} MB"

    def _start(self, plan: Plan, states: Mapping[str, HostState]) -> None:
        """Starts the missing instances, holds them at the gate, and has the healthy ones start at boot."""
        title = f"Start release {plan.release} in slot {plan.slot}"
        self.stages.ask(plan.link, title, lambda s, _: instances.link(s, self.app, plan.slot, plan.release))

        def begin(session: Session, host: str) -> str:
            names = plan.start[host]
            self.stages.doing(host, f"Starting {', '.join(names)} and waiting until {self.app.health} is healthy")
            instances.start(session, self.app, names)
            addresses = instance_addresses(self.contexts[host], host)
            verdict = gate(session, self.app, plan.release, addresses, names)
            if verdict.unhealthy:
                raise OperationFailed(f"{host}: " + "\n".join(map(str, verdict.unhealthy)))
            return "\n".join(f"warning: {text}" for text in verdict.warnings)

        try:
            self.stages.stage(plan.start, title, begin)
            self.hooks.before_switch(plan)
        except Stopped as stopped:
            raise self._give_up(plan, states, stopped) from None
        self.stages.ask(plan.enable, title, lambda s, host: instances.enable(s, self.app, plan.enable[host]))

    def _give_up(self, plan: Plan, states: Mapping[str, HostState], stopped: Stopped) -> Stopped:
        """Stops what was started; what served before was not touched, and the release stays for inspection."""

        def undo(session: Session, host: str) -> None:
            instances.stop(session, self.app, plan.start[host])
            if plan.switch:
                instances.mark(session, self.app, plan.release, "failed")

        self.fleet.each(plan.start, undo)
        before = next((state.current for state in states.values() if state.current), None)
        serving = "the other instances go on serving" if not plan.switch else "nothing was switched to it"
        if plan.switch and before:
            serving = f"{before} goes on serving"
        kept_at = f"{self.app.root}/releases/{plan.release}"
        return Stopped(
            {
                host: OperationFailed(f"{error}\n{host}: {serving}. The release is kept in {kept_at}")
                for host, error in stopped.errors.items()
            }
        )

    def _try_on_some(self, plan: Plan, states: Mapping[str, HostState]) -> None:
        new = InSlot(plan.slot, plan.release, self.artefact.manifest.deployment_id)
        if self.canary and plan.switch and (change := canary.between(new, states, self.web, plan.start)):
            canary.perform(self.canary, self.stages, self.fleet, change)

    def _publish(self, session: Session, _: str) -> None:
        session.run(script("publish", root=self.app.root, id=self.artefact.release))

    def _switch(self, plan: Plan) -> None:
        """Adds the new flag everywhere, waits, removes the others: at no moment is there none."""
        if not plan.switch:
            return
        title, started = f"Switch traffic to slot {plan.slot}", time.monotonic()
        self.stages.ask(plan.switch, title, lambda session, _: instances.add_flag(session, self.app, plan.slot))
        time.sleep(SETTLE)
        self.stages.ask(plan.switch, title, lambda session, _: instances.remove_flags(session, self.app, plan.slot))
        time.sleep(SETTLE)
        self.stages.tell(plan.switch, title, "changed", time.monotonic() - started)

    def _retire(self, session: Session, host: str, plan: Plan) -> None:
        addresses = instance_addresses(self.contexts[host], host)
        wait_for_queue(session, self.app, plan.release, addresses, plan.retire[host])
        instances.stop(session, self.app, plan.retire[host])

    def _finish(self, plan: Plan, states: Mapping[str, HostState]) -> None:
        """What is left once the release serves: links, old releases, and last the debt."""

        switch = history.Switch(datetime.now(UTC), plan.release, self.action, owner())

        def finish(session: Session, host: str) -> None:
            instances.disable(session, self.app, plan.disable.get(host, ()))
            instances.mark(session, self.app, plan.release, "healthy")
            instances.make_current(session, self.app, plan.release)
            history.record(session, self.app, switch)
            keep = kept(plan.release, states[host], self.app.keep)
            session.run(script("prune", app=self.app.name, root=self.app.root, keep="\n".join(keep)), timeout=300)
            if host in plan.pay:
                instances.pay(session, self.app)

        self.stages.stage(self.hosts, f"Make {plan.release} the current release", finish)


def kept(release: str, state: HostState, keep: int) -> list[str]:
    """Releases that stay on a host: ``release``, the one it replaces, and the newest others, ``keep`` in all."""
    first = [release, *([state.current] if state.current and state.current != release else [])]
    others = sorted((name for name in state.releases if name not in first), reverse=True)
    return [*first, *others[: max(0, keep - len(first))]]
