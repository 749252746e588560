"""Stages of a rollout: one piece of work on several hosts at once, reported, and ended by the first failure."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, TypeVar

from roadbed.engine.errors import RoadbedError
from roadbed.engine.session import Session

from .protocols import Run, Status

Answer = TypeVar("Answer")


class Stopped(Exception):
    """The rollout ends here; ``errors`` says why, by host."""

    def __init__(self, errors: dict[str, RoadbedError]) -> None:
        self.errors = errors


class Stages:
    """Runs work on the hosts of a converge and reports it under the step's name.

    No work begins once the run has lost its lock: then Refused is raised, and nothing is undone either.
    """

    def __init__(self, run: Run, step: str) -> None:
        self._fleet, self._report, self._step, self._guard = run.fleet, run.report, step, run.guard

    def stage(self, hosts: Iterable[str], name: str, work: Callable[[Session, str], str | None]) -> None:
        """One operation, which the report shows as changed, with what ``work`` returns as detail.

        Waits for all hosts. Raises Stopped when it failed on any.
        """
        hosts = self._begin(hosts, name)
        started: dict[str, float] = {}

        def timed(session: Session, host: str) -> None:
            started[host] = time.monotonic()
            self._report.progress(host, name)
            detail = work(session, host)
            self.tell([host], name, "changed", time.monotonic() - started[host], detail or "")

        answers = self._fleet.each(hosts, timed)
        errors = {host: answer for host, answer in answers.items() if isinstance(answer, RoadbedError)}
        for host, error in errors.items():
            seconds = time.monotonic() - started[host] if host in started else 0.0
            self.tell([host], name, "failed", seconds, str(error))
        if errors:
            raise Stopped(errors)

    def here(self, host: str, name: str, work: Callable[[], str]) -> None:
        """One operation on this machine, which the report shows under ``host``, with what ``work`` returns as detail.

        It runs in the main thread, so that Ctrl-C ends it. Raises Stopped when it failed.
        """
        self._begin([host], name)
        started = time.monotonic()
        self._report.progress(host, name)
        try:
            detail = work()
        except RoadbedError as error:
            self.tell([host], name, "failed", time.monotonic() - started, str(error))
            raise Stopped({host: error}) from None
        self.tell([host], name, "changed", time.monotonic() - started, detail)

    def ask(self, hosts: Iterable[str], title: str, work: Callable[[Session, str], Answer]) -> dict[str, Answer]:
        """Work that is reported only when it fails, as ``title``; returns each host's answer. Raises Stopped."""
        hosts = self._begin(hosts, title)
        answers = self._fleet.each(hosts, work)
        errors = {host: answer for host, answer in answers.items() if isinstance(answer, RoadbedError)}
        for host, error in errors.items():
            self.tell([host], title, "failed", detail=str(error))
        if errors:
            raise Stopped(errors)
        return {host: answer for host, answer in answers.items() if not isinstance(answer, RoadbedError)}

    def _begin(self, hosts: Iterable[str], title: str) -> list[str]:
        hosts = list(hosts)
        if hosts:
            self._guard(title)
        return hosts

    def check(self, title: str) -> None:
        """Before work that was waited for. Raises Refused when the run has lost its lock."""
        self._guard(title)

    def fail(self, errors: Mapping[str, RoadbedError], title: str) -> NoReturn:
        """Ends the rollout with these errors, reported as ``title``. Raises Stopped."""
        for host, error in errors.items():
            self.tell([host], title, "failed", detail=str(error))
        raise Stopped(dict(errors))

    def tell(self, hosts: Iterable[str], name: str, status: Status, seconds: float = 0.0, detail: str = "") -> None:
        """A line in the report for each host."""
        for host in hosts:
            self._report.operation(host, self._step, name, status, seconds, detail)

    def doing(self, host: str, text: str) -> None:
        """What a host is doing at this moment."""
        self._report.progress(host, text)
