"""The lock on one host, and the sign of life that keeps it.

At the other end of a channel of its own a shell holds an flock(2) (host/lock.sh). It ends, and the kernel frees the
lock with it, when the connection ends, when no sign of life comes for ``PATIENCE``, or when the host reboots. So
there is no lock without a run that lives.
"""

import secrets
import shlex
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import paramiko

from .errors import HostUnreachable, OperationFailed, Refused
from .holder import Holder, lock_file, parse, plain
from .process import signature
from .session import Session

SCRIPT = Path(__file__).resolve().parent / "host/lock.sh"
ANSWER_SECONDS = 10.0
"""Longest wait for a line of the shell; a dead connection is known to be one by then (``connect.py``)."""
END_SECONDS = 3.0
"""Longest wait at the end of a run for a host that does not answer; it frees the lock by itself."""


@dataclass(frozen=True)
class Claim:
    """What a run says of itself to take the lock of ``app``. ``patience`` is in seconds.

    ``take``: from nobody (no), from whoever has it (yes), or from the holder with this token.
    """

    app: str
    owner: str
    what: str
    patience: float
    take: str = "no"


class Held(Refused):
    """Another run has the lock."""

    def __init__(self, host: str, holder: Holder) -> None:
        super().__init__(f"{host}: locked by {holder}. Wait, or, if that run hangs, take the lock with --break-lock")
        self.holder = holder


class Hold:
    """The lock on one host, from ``take`` on. ``taken_from`` is the run that lost it to this one, if any.

    It may be used by several threads.
    """

    def __init__(self, session: Session, claim: Claim) -> None:
        """Gets everything ready. Raises HostUnreachable."""
        self.taken_from: Holder | None = None
        self.session, self.claim, self.token = session, claim, f"{secrets.token_hex(8)}.{signature()}"
        self._lock, self._buffer, self._count, self._ended = threading.RLock(), b"", 0, False
        self.sent_at = 0.0
        self._channel = self._begin()

    def take(self) -> "Hold":
        """Takes the lock. Raises Held when another run has it, OperationFailed, or HostUnreachable."""
        self.sent_at = time.time()
        word, _, record = self._first_line().partition(" ")
        if word != "holds":
            raise self._refusal(word, record)
        self.taken_from = parse(record)
        return self

    def leave(self) -> None:
        """Takes nothing after all."""
        self._channel.close()

    @property
    def ended(self) -> bool:
        """Whether the shell at the other end is known to have ended, and the lock with it."""
        return self._ended or bool(self._channel.closed or self._channel.eof_received)

    @property
    def age(self) -> float:
        """Seconds since the last sign of life that was answered. The clock goes on while this machine sleeps."""
        return abs(time.time() - self.sent_at)

    def beat(self) -> None:
        """Gives a sign of life and waits until it comes back. Never raises: see ``ended`` and ``age``."""
        with self._lock:
            if self._ended:
                return
            self._count += 1
            now, mark = time.time(), str(self._count)
            try:
                self._channel.sendall(f"{mark}\n".encode())
                while (line := self._line()) != mark:
                    if line is None or line == "bye":
                        self._ended = True
                        return
                self.sent_at = now
            except TimeoutError:
                return
            except (OSError, EOFError):
                self._ended = True

    def end(self, result: str) -> None:
        """Gives the lock back, with a last line for the journal of the host. Never raises."""
        with self._lock:
            try:
                self._channel.settimeout(END_SECONDS)
                if not self._ended:
                    self._channel.sendall(f"end {plain(result)}\n".encode())
                while self._line() not in (None, "bye"):
                    continue
            except (OSError, EOFError):
                pass
            self._ended = True
            self._channel.close()

    def _begin(self) -> paramiko.Channel:
        words = [lock_file(self.claim.app), self.token, f"{self.claim.patience:g}", self.claim.take]
        # The script comes on standard input: sudo(8) writes every command line to the journal.
        channel = self.session.start(f"exec bash -s -- roadbed-lock {shlex.join(words)}", forget=False)
        channel.settimeout(ANSWER_SECONDS)
        return channel

    def _first_line(self) -> str:
        """Empty when the shell ended without one. Raises HostUnreachable or OperationFailed."""
        given = f"{plain(self.claim.owner)}\n{plain(self.claim.what)}\n"
        try:
            self._channel.sendall(SCRIPT.read_bytes() + given.encode())
            return self._line() or ""
        except TimeoutError:
            self._channel.close()
            raise OperationFailed(f"{self.session.name}: the lock was not taken: no answer in time") from None
        except (OSError, EOFError) as error:
            if self.session.alive:
                return ""  # the shell, or sudo, has ended before it read all: what it said tells why
            raise HostUnreachable(f"{self.session.name}: the connection broke: {error}") from error

    def _refusal(self, word: str, record: str) -> Held | OperationFailed:
        name, holder = self.session.name, parse(record) if word == "held" else None
        if holder:
            self._channel.close()
            return Held(name, holder)
        try:
            said = self._channel.makefile_stderr("rb").read().decode(errors="replace")
        except (OSError, EOFError):
            said = ""
        self._channel.close()
        return OperationFailed(f"{name}: the lock was not taken: {plain(said) or 'bash ended without a word'}")

    def _line(self) -> str | None:
        """The next line; None at the end. Raises TimeoutError, and OSError when the connection breaks."""
        while b"\n" not in self._buffer:
            piece = self._channel.recv(4096)
            if not piece:
                return None
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")
