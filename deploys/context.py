"""What a component, its templates and its checks may know about the host they work on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .memory import planned
from .peers import external
from .sizing import Sizing, size

if TYPE_CHECKING:
    from roadbed.engine.inventory import Host, Inventory

    from .node import NodeBuild
    from .urls import Driver

ROADMAP = ("phase1", "phase2", "phase3")
"""The phases in their order; each contains the one before it. What they hold: phases.py."""
ROLE_OF = {"redis": "cache", "postgres": "database", "pgbouncer": "pooler"}
"""Component -> the role of the hosts that have it, where others depend on them."""


@dataclass(frozen=True)
class HostFacts:
    """Facts of one host that do not change while Roadbed works on it.

    ``memory_mb`` is the memory a process may use: the smaller of MemTotal and the limit of
    the host's own cgroup. ``os_id``, ``os_version`` and ``codename`` come from os-release(5).
    ``phase`` is the one that the host was last brought to; empty before the first.
    """

    hostname: str
    os_id: str
    os_version: str
    codename: str
    arch: str
    cpus: int
    memory_mb: int
    systemd: int
    phase: str = ""


@dataclass(frozen=True)
class Context:
    """One host in one phase: the argument of every ``deploy()``, template and check.

    ``facts`` holds every host that answered, because a web host needs the replica counts of
    the app hosts. ``node`` is the exact Node.js build for each architecture. ``secret`` returns
    the value of a named secret; it raises KeyError for an unknown name. ``driver`` is the npm package
    by which the app speaks to PostgreSQL, as its release tells. ``manifest`` is that of the release which
    runs, for checks alone.
    """

    inventory: "Inventory"
    phase: str
    name: str
    facts: Mapping[str, HostFacts]
    secret: Callable[[str], str] = field(repr=False, compare=False)
    node: Mapping[str, "NodeBuild"] = field(default_factory=dict)
    driver: "Driver | None" = None
    manifest: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

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
        name = host or self.name
        facts = self.facts[name]
        return size(self.inventory.app, facts.cpus, facts.memory_mb, planned(self, "app", name))

    def app_hosts(self) -> list[str]:
        """The app hosts this host sends requests to.

        From phase3 on every one. Before, a host that runs the app itself serves what comes in with its own
        instances, and only a host without the role app sends to others.
        """
        if "app" in self.host.roles and not self.reached("phase3"):
            return [self.name]
        return self.inventory.with_role("app")

    def hosts_for(self, component: str) -> list[str]:
        """The hosts whose ``component`` this host depends on.

        For the app those it sends requests to; of the data tier the hosts that have it; else itself.
        """
        if component == "app":
            return self.app_hosts()
        role = ROLE_OF.get(component)
        if role is None or external(self, role):
            return [self.name]
        hosts = self.inventory.with_role(role)
        if self.name in hosts:
            return [self.name]
        return hosts[:1] if role == "pooler" else hosts  # of several poolers the first, as peers.serving has it
