"""The lock of a stack: two people do not change the same hosts at once.

It lives on the hosts of the run, because two people sit at two control machines. On each a shell holds it for as
long as this process gives signs of life (``hold.py``), so no lock is ever stale: a run that was killed, cut off or
powered off has lost it after ``PATIENCE`` at the latest, mostly at once.

Two runs that begin together: both ask the first host of their list first, and one of them gets it. With different
first hosts (``--limit``) it can happen that both are refused.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .errors import Refused, RoadbedError
from .hold import Claim, Held, Hold
from .holder import holder_on
from .owner import owner
from .parallel import each
from .process import died_here
from .session import Session

PATIENCE = 60.0
"""Seconds without a sign of life after which a run loses its lock. One is given every quarter of that."""
CERTAIN = 2.0
"""Seconds for which an answered sign of life is proof enough; after that ``check`` asks again."""


class Lock:
    """The lock of ``app`` for one run on ``names``. ``what`` is what others are told: ``deploy 20261126T1015...``.

    With ``break_lock`` it is taken from whoever has it.
    """

    def __init__(self, app: str, names: Iterable[str], what: str, *, break_lock: bool = False) -> None:
        self._claim = Claim(app, owner(), what, PATIENCE, "yes" if break_lock else "no")
        self._names = list(names)
        self._holds: dict[str, Hold] = {}
        self._errors: dict[str, RoadbedError] = {}
        self._defects: list[Exception] = []
        self._takers: dict[str, threading.Thread] = {}
        self._first, self._ended = threading.Event(), threading.Event()

    def opened(self, session: Session, name: str) -> None:
        """A host is connected: its lock is taken from now on, while the host is asked other things."""
        if name in self._names:
            taker = threading.Thread(target=self._take, args=(session, name), daemon=True)
            self._takers[name] = taker
            taker.start()

    def take(self, sessions: Mapping[str, Session]) -> dict[str, RoadbedError]:
        """Waits until this run has the lock on every host of ``sessions``.

        Returns the errors of hosts on which it cannot be had at all. Raises Refused when another run has it, after
        giving back what was taken.
        """
        for name, session in sessions.items():
            if name not in self._takers:
                self.opened(session, name)
        if self._names[0] not in self._takers:
            self._first.set()
        for taker in self._takers.values():
            taker.join()
        for defect in self._defects:
            raise defect
        if refused := [error for error in self._errors.values() if isinstance(error, Refused)]:
            self.end("refused: locked by another run")
            raise Refused("\n".join(map(str, refused)))
        threading.Thread(target=self._give_signs, daemon=True).start()
        return dict(self._errors)

    def taken_from(self) -> dict[str, str]:
        """Host -> the run that lost the lock to this one (``--break-lock``)."""
        return {name: str(hold.taken_from) for name, hold in self._holds.items() if hold.taken_from}

    def drop(self, results: Mapping[str, str]) -> None:
        """Gives the lock back on some hosts, without which the run goes on. Host -> last line for its journal."""
        dropped = {name: hold for name, hold in self._holds.items() if name in results}
        self._holds = {name: hold for name, hold in self._holds.items() if name not in results}
        each(dropped, lambda name: dropped[name].end(results[name]))

    def retake(self, session: Session, name: str) -> None:
        """Takes the lock of a host again over a new connection, after a reboot. Raises Refused when another has it."""
        try:
            self._holds[name] = Hold(session, replace(self._claim, take=self._holds[name].token)).take()
        except Held as error:
            raise Refused(str(error)) from None

    def check(self) -> None:
        """Raises Refused when this run has lost the lock of a host. To be asked before each step: what is under way
        when the lock is lost goes on to its end. A host that is away has no lock, and nothing happens there."""
        holds = self._holds
        each([name for name, hold in holds.items() if hold.age > CERTAIN], lambda name: holds[name].beat())
        ended = [name for name, hold in holds.items() if hold.ended and hold.session.alive]
        answers = each(ended, lambda name: self._why(holds[name].session))
        if lost := [answer for answer in answers.values() if isinstance(answer, str)]:
            raise Refused("\n".join(lost))

    def end(self, result: str) -> None:
        """Gives the lock back on all hosts, with a last line for their journals. Never raises."""
        self._ended.set()
        self._first.set()
        holds, self._holds = self._holds, {}
        each(holds, lambda name: holds[name].end(result))

    def _take(self, session: Session, name: str) -> None:
        first = name == self._names[0]
        try:
            ready = Hold(session, self._claim)
            if not first:
                self._first.wait()
            if self._ended.is_set() or any(isinstance(error, Refused) for error in self._errors.values()):
                ready.leave()
            else:
                self._holds[name] = self._hold(session, ready)
        except RoadbedError as error:
            self._errors[name] = error
        except Exception as error:  # raised where it is seen: without a lock nothing may go on
            self._defects.append(error)
        finally:
            if first:
                self._first.set()

    def _hold(self, session: Session, ready: Hold) -> Hold:
        """A dead run of this machine is in nobody's way, even if its host has not noticed yet, as after a cut link."""
        try:
            return ready.take()
        except Held as error:
            if not died_here(error.holder.token.partition(".")[2]):
                raise
            return Hold(session, replace(self._claim, take=error.holder.token)).take()

    def _give_signs(self) -> None:
        while not self._ended.wait(self._claim.patience / 4):
            holds = dict(self._holds)
            each(holds, lambda name: holds[name].beat())  # noqa: B023  (waits for all of them)

    def _why(self, session: Session) -> str:
        """Raises HostUnreachable when the whole connection is what has ended."""
        holder = holder_on(session, self._claim.app)
        taken = f"was taken by {holder}" if holder else "ended, because another run took it, or this machine was"
        silence = "" if holder else f" silent for {self._claim.patience:g} s"
        return f"{session.name}: the lock of this run {taken}{silence}. The same command finishes what was begun"
