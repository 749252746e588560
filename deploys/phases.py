"""The roadmap: which components a phase has, in the order they are installed. A phase contains the one before it."""

from types import ModuleType

from . import app, base, edge, firewall, health, nginx, node, pgbouncer, postgres, redis

PHASES: dict[str, tuple[ModuleType, ...]] = {
    "phase1": (base, firewall, node, app, nginx),
    "phase2": (base, firewall, redis, postgres, pgbouncer, node, app, nginx, health, edge),
    "phase3": (base, firewall, redis, postgres, pgbouncer, node, app, nginx, health, edge),
}
"""phase3 has the components of phase2. What differs is who sends to whom: from there on every web host uses the
instances of all app hosts (``Context.app_hosts``)."""

PURPOSES = {
    "phase1": "one well-tuned machine",
    "phase2": "infrastructure that instances share",
    "phase3": "many instances on many hosts",
}
"""What each phase is for, in a few words."""


def component_name(component: ModuleType) -> str:
    """``roadbed.deploys.nginx`` -> ``nginx``: the one name a component has everywhere."""
    return component.__name__.rpartition(".")[2]
