"""What a component, its templates and its checks may know about the host they work on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .sizing import Sizing, size

if TYPE_CHECKING:
    from roadbed.engine.inventory import Host, Inventory

    from .node import NodeBuild

ROADMAP = ("phase1", "phase2", "phase3")
"""The phases in their order; each contains the one before it. What they hold: phases.py."""


@dataclass(frozen=True)
class HostFacts:
    """Facts of one host that do not change while Roadbed works on it.

    ``memory_mb`` is the memory a process may use: the smaller of MemTotal and the limit of
    the host's own cgroup. ``os_id``, ``os_version`` and ``codename`` come from os-release(5).
    """

    hostname: str
    os_id: str
    os_version: str
    codename: str
    arch: str
    cpus: int
    memory_mb: int
    systemd: int


@dataclass(frozen=True)
class Context:
    """One host in one phase: the argument of every ``deploy()``, template and check.

    ``facts`` holds every host that answered, because a web host needs the replica counts of
    the app hosts. ``node`` is the exact Node.js build for each architecture. ``secret`` returns
    the value of a named secret; it raises KeyError for an unknown name.
    """

    inventory: "Inventory"
    phase: str
    name: str
    facts: Mapping[str, HostFacts]
    secret: Callable[[str], str] = field(repr=False, compare=False)
    node: Mapping[str, "NodeBuild"] = field(default_factory=dict)

    @property
    def host(self) -> "Host":
        """The host's block of the inventory."""
        return self.inventory.hosts[self.name]

    @property
    def me(self) -> HostFacts:
        """The facts of this host."""
        return self.facts[self.name]

    def reached(self, phase: str) -> bool:
        """Whether this run's phase is ``phase`` or a later one. Raises ValueError for a name that is no phase."""
        return ROADMAP.index(self.phase) >= ROADMAP.index(phase)

    def sizing(self, host: str | None = None) -> Sizing:
        """Replicas, heap and memory limit of the app on ``host`` (default: this host)."""
        facts = self.facts[host or self.name]
        return size(self.inventory.app, facts.cpus, facts.memory_mb)

    def app_hosts(self) -> list[str]:
        """The app hosts this host sends requests to.

        A host that runs the app itself serves what comes in with its own instances; a host
        that only has the role web sends to every app host.
        """
        if "app" in self.host.roles:
            return [self.name]
        return self.inventory.with_role("app")

    def hosts_for(self, component: str) -> list[str]:
        """The hosts whose ``component`` this host depends on: for the app those it sends requests to, else itself."""
        return self.app_hosts() if component == "app" else [self.name]
