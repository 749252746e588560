"""The start of a release: instances come up in batches of hosts, are held at the gate, and are warmed."""

from collections.abc import Mapping
from dataclasses import dataclass

from roadbed.deploys.app import AppSettings
from roadbed.deploys.context import Context
from roadbed.deploys.environment import instance_addresses
from roadbed.engine.errors import OperationFailed
from roadbed.engine.session import Session

from . import instances
from .artefact import Artefact
from .gate import gate, port_of
from .plan import Plan
from .stages import Stages
from .surge import Surge
from .warm import hot_paths, warm


@dataclass(frozen=True)
class Start:
    """Brings up the missing instances of a release. The first unhealthy one ends it, and nothing is switched."""

    artefact: Artefact
    app: AppSettings
    contexts: Mapping[str, Context]
    stages: Stages

    def perform(self, plan: Plan, sums: Mapping[str, Surge]) -> None:
        """Starts, gates and warms, and has the instances start at boot. Raises Stopped; ``sums`` are told."""
        title, hosts = f"Start release {plan.release} in slot {plan.slot}", list(plan.start)
        self.stages.ask(plan.link, title, lambda s, _: instances.link(s, self.app, plan.slot, plan.release))
        batch = self.app.rollout.batch
        size = max(1, len(hosts)) if batch == "all" else batch
        for first in range(0, len(hosts), size):
            self.stages.stage(
                hosts[first : first + size],
                title,
                lambda session, host: f"{sums[host]}\n{self.begin(session, host, plan.start[host])}".strip(),
            )
        self.stages.ask(plan.enable, title, lambda s, host: instances.enable(s, self.app, plan.enable[host]))

    def begin(self, session: Session, host: str, names: tuple[str, ...]) -> str:
        """Starts ``names`` on one host; returns what there is to say of them. Raises OperationFailed."""
        self.stages.doing(host, f"Starting {', '.join(names)} and waiting until {self.app.health} is healthy")
        instances.start(session, self.app, names)
        addresses = instance_addresses(self.contexts[host], host)
        verdict = gate(session, self.app, self.artefact.release, addresses, names)
        if verdict.unhealthy:
            raise OperationFailed(f"{host}: " + "\n".join(map(str, verdict.unhealthy)))
        self.stages.doing(host, f"Warming {', '.join(names)}")
        ports = [port_of(self.app, name) for name in names]
        warmed = warm(session, self.app, addresses[0], ports, hot_paths(self.artefact.manifest))
        warnings = [f"warning: {text}" for text in verdict.warnings]
        return "\n".join(filter(None, [warmed, *warnings]))
