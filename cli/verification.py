"""The pytest plugin behind `provision verify`: gives the checks their hosts and keeps what they found."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from roadbed.deploys.context import Context
from roadbed.engine.fleet import Fleet

from .style import say


@dataclass(frozen=True)
class CheckResult:
    """One check on one host. ``measured``: (name, value with unit and threshold); ``problem``: empty if it holds."""

    host: str
    component: str
    claim: str
    passed: bool
    seconds: float
    measured: list[tuple[str, str]]
    problem: str = ""


@dataclass
class Verification:
    """The hosts of one `provision verify` and the results so far."""

    fleet: Fleet
    contexts: dict[str, Context]
    verbose: bool = False
    disruptive: bool = False
    results: list[CheckResult] = field(default_factory=list)
    told: int = 0

    def hosts_for(self, roles: tuple[str, ...], applies: Callable[[Context], bool] | None) -> list[str]:
        """The hosts a module of checks is for."""
        names = self.fleet.inventory.with_role(*roles)
        return [name for name in names if name in self.contexts and (applies is None or applies(self.contexts[name]))]

    def pytest_configure(self, config: pytest.Config) -> None:
        """Lets the fixtures find this object."""
        key: pytest.StashKey[Verification] = pytest.StashKey()
        config.roadbed_key = key  # type: ignore[attr-defined]
        config.stash[key] = self

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Keeps the result of a check; an error in its preparation counts as a failure."""
        outcome = yield
        report: pytest.TestReport = outcome.get_result()
        if report.when == "call" or (report.failed and report.when == "setup"):
            self._keep(item, report, call)

    def _keep(self, item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
        function: Any = item
        claim = (function.function.__doc__ or function.originalname).strip().splitlines()[0].rstrip(".")
        own = {key: value for key, value in function.callspec.params.items() if key != "node_name"}
        if own:
            claim += f" [{', '.join(str(value) for value in own.values())}]"
        result = CheckResult(
            host=function.callspec.params["node_name"],
            component=function.module.__name__.rpartition("test_")[2],
            claim=claim,
            passed=report.passed,
            seconds=round(report.duration, 4),
            measured=[(str(name), str(value)) for name, value in report.user_properties],
            problem="" if report.passed or call.excinfo is None else _problem(call.excinfo),
        )
        if self.results[self.told :] and self._group(self.results[-1]) != self._group(result):
            self.tell_component()
        self.results.append(result)
        if not result.passed:
            say(f"  ! {result.host}: {result.component}: {result.claim}")
            for line in result.problem.splitlines():
                say(f"      {line}")

    def tell_component(self) -> None:
        """A line for the component whose checks have just ended, and its measured values if they are wanted."""
        done, self.told = self.results[self.told :], len(self.results)
        if not done:
            return
        good = sum(result.passed for result in done)
        say(f"{done[0].host:<14} {done[0].component:<12} {good}/{len(done)} checks hold")
        for result in done if self.verbose else []:
            for what, value in result.measured:
                say(f"    {result.claim}: {what} {value}")

    @staticmethod
    def _group(result: CheckResult) -> tuple[str, str]:
        return result.host, result.component

    def as_json(self) -> list[dict[str, Any]]:
        """Plain data."""
        return [asdict(result) for result in self.results]


def _problem(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value).strip() or error.typename
    return "\n".join(text.splitlines()[:12])
