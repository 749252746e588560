"""What a rollout needs of the engine: a converge, its connected hosts, and where it tells what happens."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeVar

from roadbed.deploys.context import Context
from roadbed.engine.errors import RoadbedError
from roadbed.engine.inventory import Inventory
from roadbed.engine.session import Session

Answer = TypeVar("Answer")
Status = Literal["changed", "unchanged", "failed", "skipped"]


class Fleet(Protocol):
    """The connected hosts (``engine/fleet.py``)."""

    inventory: Inventory

    def session(self, name: str) -> Session: ...
    def each(
        self, names: Iterable[str], work: Callable[[Session, str], Answer]
    ) -> dict[str, Answer | RoadbedError]: ...


class Report(Protocol):
    """Where a run tells what happens (``engine/report.py``)."""

    def operation(
        self, host: str, component: str, name: str, status: Status, seconds: float = 0.0, detail: str = ""
    ) -> None: ...
    def progress(self, host: str, text: str) -> None: ...


class Target(Protocol):
    """A host of pyinfra. ``connector_data["roadbed_debts"]``: restarts a dry run would owe (``deploys/files.py``)."""

    connector_data: Any


class Run(Protocol):
    """A converge (``engine/converge.py``). ``hosts_in_play`` are those that a limited run is about.

    ``guard`` is called with the name of each stage before it begins; it raises Refused when the lock is lost.
    """

    @property
    def fleet(self) -> Fleet: ...
    @property
    def phase(self) -> str: ...
    @property
    def contexts(self) -> Mapping[str, Context]: ...
    @property
    def report(self) -> Report: ...
    @property
    def guard(self) -> Callable[[str], None]: ...
    @property
    def dry_run(self) -> bool: ...
    @property
    def hosts_in_play(self) -> list[str]: ...
    @property
    def hosts(self) -> Mapping[str, Target]: ...
