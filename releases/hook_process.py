"""Run one hook: a command of the user's own that may fail, hang, or write without end."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .command import TAIL, BuildLog

LOOK = 0.5
"""Seconds between two looks at what a hook has written."""
MOST_BYTES = 20 * 2**20
"""A hook that writes more than this is ended: the log must not fill the disk of the control machine."""
SHOWN_BYTES = 64 * 2**10
"""Of the log, what is read to show its last lines."""
END_SECONDS = 5.0
"""Time that a hook has to leave after SIGTERM."""


class HookFailed(Exception):
    """A hook could not be run, failed, took too long or wrote too much."""

    def __init__(self, what: str, end: str = "") -> None:
        super().__init__(what + end)
        self._what, self._end = what, end

    def with_outcome(self, outcome: str) -> str:
        """What went wrong, what that means for the release, and the end of the log."""
        return f"{self._what}; {outcome}{self._end}"


def perform(
    command: str, *, folder: Path, env: dict[str, str], log: Path, seconds: float, line: Callable[[str], None]
) -> str:
    """Runs a command line by ``sh`` in ``folder`` with exactly ``env``; returns the last lines that it wrote.

    All it writes goes to ``log``, a file for this user alone, and ``line`` is told the last line from time to time.
    It has ``seconds`` in all. When it takes longer, or this run is interrupted, it ends with all it has started.
    Raises HookFailed, with the last lines, and OSError when it cannot be started.
    """
    BuildLog(log)
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["sh", "-c", command],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wrong = _watch(process, log, seconds, line)
    finally:
        if process.poll() is None:
            _end(process)
    said = "\n".join(last_lines(log))
    if wrong:
        raise HookFailed(wrong, f". The end of {log}:\n{said}" if said else "")
    return said


def last_lines(log: Path, number: int = TAIL) -> list[str]:
    """The last lines of a log, however long it is."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - SHOWN_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return [text for text in lines if text.strip()][-number:]


def _watch(process: "subprocess.Popen[bytes]", log: Path, seconds: float, line: Callable[[str], None]) -> str:
    """Waits for the end; what went wrong, or an empty string."""
    ends, shown = time.monotonic() + seconds, list[str]()
    while True:
        try:
            code = process.wait(timeout=max(0.01, min(LOOK, ends - time.monotonic())))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= ends:
                return f"did not end within {seconds:g} s and was stopped"
            if log.stat().st_size > MOST_BYTES:
                return f"wrote more than {MOST_BYTES >> 20} MB and was stopped"
            if (last := last_lines(log, 1)) and last != shown:
                line(last[0])
                shown = last
        else:
            return "" if code == 0 else f"failed with exit code {code}" if code > 0 else f"was ended by signal {-code}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to the process and all it has started; SIGKILL to what is left of them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=END_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
