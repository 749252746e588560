"""The roadmap: which components a phase has, in the order they are installed. A phase contains the one before it."""

from types import ModuleType

from . import app, base, firewall, nginx, node

PHASES: dict[str, tuple[ModuleType, ...]] = {
    "phase1": (base, firewall, node, app, nginx),
}


def component_name(component: ModuleType) -> str:
    """``roadbed.deploys.nginx`` -> ``nginx``: the one name a component has everywhere."""
    return component.__name__.rpartition(".")[2]
