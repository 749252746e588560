"""Fixtures of the checks that `provision verify` runs: one collection of a module per host it applies to.

A module ``test_<component>.py`` runs on the hosts with the component's ROLES; a module may say
``ROLES`` itself, and may define ``applies(ctx) -> bool``. ``DISRUPTIVE = True``: only when the user
asks for it. What does not apply is not collected, so that nothing is ever skipped.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import testinfra.backend.base
import testinfra.host

from roadbed.checks.replicas import Replica, replicas_of
from roadbed.deploys.context import Context
from roadbed.engine.session import Session
from roadbed.engine.tunnel import forward

if TYPE_CHECKING:
    from roadbed.cli.verification import Verification


class SessionBackend(testinfra.backend.base.BaseBackend):  # type: ignore[misc]
    """testinfra over the pooled root session: a command costs one round trip."""

    NAME = "roadbed"

    def __init__(self, session: Session) -> None:
        super().__init__(session.name)
        self._session = session

    def run(self, command: str, *args: str, **kwargs: Any) -> testinfra.backend.base.CommandResult:
        """Runs a command as root."""
        text = self.get_command(command, *args)
        result = self._session.run(text, check=False)
        return self.result(result.rc, text.encode(), result.out, result.err)


def _verification(config: pytest.Config) -> "Verification":
    found: Verification = config.stash[config.roadbed_key]  # type: ignore[attr-defined]
    return found


def _roles(module: Any) -> tuple[str, ...]:
    if hasattr(module, "ROLES"):
        return tuple(module.ROLES)
    component = module.__name__.rpartition(".test_")[2] or module.__name__.removeprefix("test_")
    return tuple(importlib.import_module(f"roadbed.deploys.{component}").ROLES)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every check runs once for each host it applies to."""
    verification = _verification(metafunc.config)
    names = verification.hosts_for(_roles(metafunc.module), getattr(metafunc.module, "applies", None))
    if getattr(metafunc.module, "DISRUPTIVE", False) and not verification.disruptive:
        names = []
    metafunc.parametrize("node_name", names, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What applies to no host is not a check of this stack."""
    known = _verification(config).contexts
    items[:] = [item for item in items if getattr(item, "callspec", None) and _node_of(item) in known]


def _node_of(item: Any) -> Any:
    return item.callspec.params["node_name"]


@pytest.fixture(scope="session", autouse=True)
def node_name(request: pytest.FixtureRequest) -> str:
    """Name of the host this check runs on."""
    return str(request.param)


@pytest.fixture
def ctx(node_name: str, request: pytest.FixtureRequest) -> Context:
    """What the deploys knew about this host."""
    return _verification(request.config).contexts[node_name]


@pytest.fixture
def session(node_name: str, request: pytest.FixtureRequest) -> Session:
    """The root session of this host."""
    return _verification(request.config).fleet.session(node_name)


@pytest.fixture
def host(session: Session) -> testinfra.host.Host:
    """testinfra's host, as root."""
    return testinfra.host.Host(SessionBackend(session))


@pytest.fixture
def tunnel(session: Session) -> Iterator[Callable[[int], str]]:
    """``tunnel(5000)`` gives a URL here that leads to port 5000 of the host's loopback interface."""
    with ExitStack() as stack:
        yield lambda port: f"http://127.0.0.1:{stack.enter_context(forward(session, port))}"


@pytest.fixture(scope="session")
def hosts(request: pytest.FixtureRequest) -> dict[str, testinfra.host.Host]:
    """testinfra's host of every host that answered, as root: for checks that need several."""
    sessions = _verification(request.config).fleet.sessions
    return {name: testinfra.host.Host(SessionBackend(session)) for name, session in sessions.items()}


@pytest.fixture(scope="session")
def contexts(request: pytest.FixtureRequest) -> dict[str, Context]:
    """What the deploys knew about every host that answered."""
    return dict(_verification(request.config).contexts)


@pytest.fixture(scope="session")
def replicas(request: pytest.FixtureRequest, hosts: dict[str, testinfra.host.Host]) -> Iterator[list[Replica]]:
    """Every running instance of the app on all hosts, each with a client that asks it and nobody else."""
    verification = _verification(request.config)
    with ExitStack() as stack:
        found: list[Replica] = []
        for name in verification.fleet.inventory.with_role("app"):
            if ctx := verification.contexts.get(name):
                found += replicas_of(ctx, hosts[name], verification.fleet.session(name), stack)
        yield found


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``measure("first chunk", 12.3, "ms", 500)`` keeps the value for the report and asserts it is within the limit."""

    def record(name: str, value: float, unit: str, limit: float, *, at_least: bool = False) -> None:
        sign = ">=" if at_least else "<="
        request.node.user_properties.append((name, f"{value:.4g} {unit} ({sign} {limit:g} {unit})"))
        within = value >= limit if at_least else value <= limit
        assert within, f"{name}: {value:.4g} {unit}, must be {sign} {limit:g} {unit}"

    return record
