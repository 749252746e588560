"""Fixtures of the hostless ring."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

SYSTEMS = {
    "bookworm": ("debian", "12"),
    "trixie": ("debian", "13"),
    "jammy": ("ubuntu", "22.04"),
    "noble": ("ubuntu", "24.04"),
    "resolute": ("ubuntu", "26.04"),
}
"""Codename -> ID and VERSION_ID of os-release(5)."""
LONGEST = ("test_runtime.py", "test_package.py", "test_health.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The modules that wait for other programs come first: the other workers do the rest in the meantime."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def make_context() -> Callable[..., Any]:
    """A Context of one host: ``make_context(nginx={...}, app={...}, hosts={...}, name="web-1", cpus=2)``."""

    def make(
        name: str = "web-1",
        phase: str = "phase1",
        cpus: int = 2,
        memory_mb: int = 4096,
        codename: str = "trixie",
        arch: str = "x86_64",
        **blocks: Any,
    ) -> Any:
        from roadbed.deploys.context import Context, HostFacts
        from roadbed.engine.inventory import Inventory

        app = {"name": "shop", "source": ".", "domain": "shop.example.com", **blocks.pop("app", {})}
        hosts = blocks.pop("hosts", {"web-1": {"address": "192.0.2.10", "roles": ["web", "app"]}})
        inventory = Inventory.model_validate({"app": app, "hosts": hosts, **blocks})
        system, version = SYSTEMS[codename]
        facts = {
            host: HostFacts(host, system, version, codename, arch, cpus, memory_mb, 252) for host in inventory.hosts
        }
        secrets = {"DATABASE_URL": "postgres://secret"}
        return Context(inventory=inventory, phase=phase, name=name, facts=facts, secret=secrets.__getitem__)

    return make
