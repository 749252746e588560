"""The release step of a converge: bring a release to service on the app and web hosts without losing a request.

Order: memory -> upload to all -> migrations -> start in a free slot -> health gate, warm -> ask nginx -> give it the
files -> flag the release of before for its open pages, switch the flags, wait -> ask nginx again -> let go of older
releases -> stop the old instances but one -> prune. The rule behind it: first out of the routing, wait a second, and
only then SIGTERM. nginx is never reloaded, because a reload loses requests of every kind of client (measured: 79 of
8961 against 0 of 65637 with flag files). An instance that fails the gate leaves the old release serving, and so does
one that nginx does not reach.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from roadbed.deploys.environment import instance_addresses
from roadbed.deploys.node import node_path
from roadbed.engine.errors import OperationFailed
from roadbed.engine.owner import owner
from roadbed.engine.session import Session

from . import canary, history, instances
from .artefact import Artefact
from .canary import Canary
from .decide import decide
from .drain import end_leftover
from .gate import wait_for_queue
from .give_up import GiveUp, serving
from .host_state import HostState, inspect
from .migrate import Migrations
from .one_at_a_time import OneAtATime
from .plan import Plan
from .protocols import Run
from .rollout_hooks import RolloutHooks
from .scripts import script
from .share import InSlot, shared, take_back
from .stages import Stages, Stopped
from .start import Start
from .surge import Surge, refused, short, surges
from .switch import Switch, remove_old
from .turns import divide
from .upload import check_room, upload


class Rollout:
    """One rollout. Each method is one stage, on all hosts it concerns at the same time."""

    def __init__(
        self,
        artefact: Artefact,
        run: Run,
        hosts: list[str],
        stages: Stages,
        hooks: RolloutHooks,
        canary: Canary | None = None,
        *,
        keep_old: bool = True,
    ) -> None:
        self.artefact, self.hosts, self.stages, self.hooks = artefact, hosts, stages, hooks
        self.action, self.canary = hooks.action, canary
        self.app, self.contexts, self.fleet = run.fleet.inventory.app, run.contexts, run.fleet
        self.dry_run, self.targets = run.dry_run, run.hosts
        self.skew = keep_old and self.app.skew > 0
        roles = {host: run.fleet.inventory.roles_of(host) for host in hosts}
        self.apps = [host for host in hosts if "app" in roles[host]]
        self.web = tuple(host for host in hosts if "web" in roles[host])
        self.sizes = {host: self.contexts[host].sizing() for host in self.apps}
        self.migrations = Migrations(artefact, run, self.apps, stages)
        self.start = Start(artefact, self.app, run.contexts, stages)
        self.turning: OneAtATime | None = None

    def perform(self) -> None:
        """Does what the plan says, or only tells it in a dry run."""
        states = self.stages.ask(self.hosts, "Look at the releases", self._inspect)
        self.hooks.know(states)
        if not self.dry_run:  # what a killed canary left
            take_back(self.stages, self.app, [host for host in self.web if shared(states[host])])
        plan, migrate = self._plan(states), self.action != "rollback" and self.migrations.due(states)
        if migrate and self.dry_run:
            self.migrations.announce()
        if plan.unchanged:
            if migrate and not self.dry_run:
                self.migrations.perform(states)
            self.stages.tell(self.hosts, f"Run release {plan.release}", "unchanged")
        elif self.dry_run:
            self.stages.tell(self.hosts, f"Run release {plan.release} in slot {plan.slot}", "changed")
        else:
            if self.canary and plan.switch and self._change(plan, states) is None:
                self.stages.tell(self.web, "Divide the visitors", "skipped", detail="nothing serves yet")
            self._roll_out(*self._with_memory(plan, states), migrate=migrate)
        if not self.dry_run:
            end_leftover(self.fleet, self.hosts)

    def _inspect(self, session: Session, host: str) -> HostState:
        owed = self.targets[host].connector_data.get("roadbed_debts", ())
        return inspect(session, self.app, owed=self.app.name in owed)

    def _plan(self, states: Mapping[str, HostState], *, make_room: bool = False) -> Plan:
        replicas = {host: size.replicas for host, size in self.sizes.items()}
        digests = {host: self.artefact.digest(public_only=host not in self.apps) for host in self.hosts}
        named = self.artefact.manifest.deployment_id
        options = {"skew": self.skew, "make_room": make_room}
        try:
            return decide(self.artefact.release, digests, states, replicas, self.web, deployment=named, **options)
        except OperationFailed as error:
            self.stages.fail({self.hosts[0]: error}, "Choose a slot")

    def _with_memory(self, plan: Plan, states: dict[str, HostState]) -> tuple[Plan, dict[str, HostState]]:
        """The plan, if every host has the memory for it; else a plan for which room is made first. Raises Stopped."""
        tight = short(surges(plan, states, self.sizes))
        if not tight:
            return plan, states
        smaller = self._plan(states, make_room=True)
        if smaller.stop_first:
            title = "Stop what may go, to make room for the new instances"
            self.stages.tell(tight, title, "changed", detail="\n".join(map(str, tight.values())))
            self._clear(smaller)
            states = self.stages.ask(self.hosts, "Look at the releases", self._inspect)
            smaller = self._plan(states, make_room=True)
            tight = short(surges(smaller, states, self.sizes))
        if tight:
            smaller = self._take_turns(tight, states)
        return smaller, states

    def _take_turns(self, tight: Mapping[str, Surge], states: dict[str, HostState]) -> Plan:
        """Old and new do not fit side by side: instances take turns. Raises Stopped where they cannot."""
        title, self.skew = f"Start release {self.artefact.release}", False
        pools = {web: tuple(self.contexts[web].app_hosts()) for web in self.web}
        plan = self._plan(states, make_room=True)
        turns = divide(plan, states, tight, pools)
        if turns is None or self.canary:
            self.stages.fail(refused(tight, serving(states), canary=turns is not None), title)
        for host, surge in tight.items():
            self.stages.tell([host], title, "changed", detail=f"{surge}: one instance at a time")
        self.turning = OneAtATime(turns, plan, states, pools, self.fleet, self.start, self._inspect, self._retire)
        self.turning.check()
        return plan

    def _clear(self, plan: Plan) -> None:
        """Empties slots: of what interrupted rollouts left, or of a release that was kept."""
        remove_old(self.app, plan.unflag_first, self.stages)
        title = "Stop leftover instances"
        self.stages.ask(
            plan.unnote_first, title, lambda s, host: instances.forget_kept(s, self.app, plan.unnote_first[host])
        )
        self.stages.stage(plan.stop_first, title, lambda s, host: instances.stop(s, self.app, plan.stop_first[host]))

    def _roll_out(self, plan: Plan, states: Mapping[str, HostState], *, migrate: bool) -> None:
        upload_title = f"Upload release {plan.release}"
        self.stages.ask(plan.upload, upload_title, lambda _, host: check_room(host, states[host], self.artefact))
        self.stages.stage(plan.upload, upload_title, self._upload)
        self._clear(plan)
        if migrate:
            self.migrations.perform(states)
        turning = self.turning
        give_up = GiveUp(self.fleet, self.app, plan, states, self._retire, turning)
        switch = Switch(self.app, plan, states, self.web, self.stages)
        at_once = turning.others if turning else plan
        try:
            self.start.perform(at_once, surges(at_once, states, self.sizes))
            if turning:
                turning.begin()
            switch.rehearse()
            self.hooks.before_switch(plan)
            if turning:
                turning.go_on()
        except Stopped as stopped:
            raise give_up.before_switch(stopped) from None
        self._try_on_some(plan, states)
        self.stages.stage(plan.publish, "Give nginx the files of the release", self._publish)
        self._switch(switch, give_up)
        self._keep(plan)
        self.stages.stage(
            at_once.retire, "Stop the instances of before", lambda s, host: self._retire(s, host, at_once.retire[host])
        )
        late = turning.finish() if turning else {}
        self._finish(plan, states)
        self.hooks.after_switch(plan)
        if late:
            raise Stopped(late)

    def _try_on_some(self, plan: Plan, states: Mapping[str, HostState]) -> None:
        if self.canary and plan.switch and (change := self._change(plan, states)):
            canary.perform(self.canary, self.stages, self.fleet, change, self._retire)

    def _change(self, plan: Plan, states: Mapping[str, HostState]) -> canary.Change | None:
        """What a canary would be about; None for the first release. Raises Stopped where no one release serves."""
        new = InSlot(plan.slot, plan.release, self.artefact.manifest.deployment_id)
        change = canary.between(new, states, self.web, plan.start)
        if change is None and any(states[host].serving() for host in self.web):
            reason = "a canary needs one release that serves on all web hosts. Deploy without --canary first"
            self.stages.fail({host: OperationFailed(f"{host}: {reason}") for host in self.web}, "Divide the visitors")
        return change

    def _upload(self, session: Session, host: str) -> str:
        def progress(sent: int, total: int) -> None:
            self.stages.doing(host, f"Uploading: {sent / 2**20:.1f} of {total / 2**20:.1f} MB")

        node = node_path(self.contexts[host]) if host in self.apps else None
        return str(upload(session, self.app, self.artefact, node=node, progress=progress))

    def _publish(self, session: Session, _: str) -> None:
        session.run(script("publish", root=self.app.root, id=self.artefact.release))

    def _switch(self, switch: Switch, give_up: GiveUp) -> None:
        """Moves the traffic, and back when nginx does not serve the new release."""
        release = self.artefact.release
        self.stages.ask(self.hosts, switch.title, lambda s, _: instances.note_switch(s, self.app, self.action, release))
        switch.perform()
        take_back(self.stages, self.app, switch.plan.switch if self.canary or self.turning else ())
        try:
            switch.verify()
        except Stopped as stopped:
            raise give_up.after_switch(switch, stopped) from None
        switch.let_go()

    def _keep(self, plan: Plan) -> None:
        if keep := plan.keep:
            title = f"Keep {keep.release} for its open pages, for {self.app.skew} s"
            self.stages.stage(plan.note, title, lambda s, _: instances.note_kept(s, self.app, keep.slot))

    def _retire(self, session: Session, host: str, names: tuple[str, ...]) -> None:
        """Stops instances that are out of the routing, once they have taken in all that came before."""
        wait_for_queue(session, self.app, self.artefact.release, instance_addresses(self.contexts[host], host), names)
        instances.stop(session, self.app, names)

    def _finish(self, plan: Plan, states: Mapping[str, HostState]) -> None:
        """What is left once the release serves: links, old releases, and last the debt."""
        switch = history.Switch(datetime.now(UTC), plan.release, self.action, owner())

        def finish(session: Session, host: str) -> None:
            instances.disable(session, self.app, plan.disable.get(host, ()))
            if notes := plan.unnote.get(host):
                instances.forget_kept(session, self.app, notes)
            instances.mark(session, self.app, plan.release, "healthy")
            instances.make_current(session, self.app, plan.release)
            history.record(session, self.app, switch)
            instances.end_switch(session, self.app)
            keep = plan.releases_to_keep(states[host], self.app.keep)
            session.run(script("prune", app=self.app.name, root=self.app.root, keep="\n".join(keep)), timeout=300)
            if host in plan.pay:
                instances.pay(session, self.app)

        self.stages.stage(self.hosts, f"Make {plan.release} the current release", finish)
