"""A command at a terminal: what appears on it is read, and what is typed is sent."""

import os
import pty
import re
import signal
import threading
import time

from .conftest import PROVISION, Stack

SHORT = (
    "import sys; from roadbed.engine.start import start; start(); from roadbed.engine import lock; "
    "lock.PATIENCE = float(sys.argv.pop(1)); from roadbed.cli.main import main; main()"
)
"""`provision` with another patience of its lock, in seconds."""


class Typed:
    """`provision WORDS -i stack` at a terminal of its own, by ``owner``; it is over at the end of a ``with`` block."""

    def __init__(self, stack: Stack, *words: str, owner: str = "anna@laptop", patience: float | None = None) -> None:
        python = str(os.path.join(os.path.dirname(PROVISION), "python"))  # noqa: PTH118, PTH120
        program = [PROVISION] if patience is None else [python, "-c", SHORT, str(patience)]
        command = [*program, *words, "-i", str(stack.path)]
        environment = {**stack.environment, "COLUMNS": "200", "ROADBED_OWNER": owner, "TERM": "xterm"}
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(stack.folder)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(command[0], command, environment)  # noqa: S606
        self._seen, self._code = b"", None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def seen(self) -> str:
        """All that has appeared so far."""
        return self._seen.decode(errors="replace")

    def wait_for(self, pattern: str, seconds: float = 120) -> str:
        """Waits until a pattern appears; returns what matched."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            assert self._reader.is_alive(), self.seen
            assert time.monotonic() < end, self.seen
            time.sleep(0.02)
        return found[0]

    def type(self, text: str) -> None:
        """Types a text, with the enter key if it ends in a line break."""
        os.write(self._terminal, text.encode())

    def kill(self, number: signal.Signals) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def ends(self, seconds: float = 60) -> int:
        """Waits for the end; returns the exit code, negative for a signal."""
        if self._code is None:
            end = time.monotonic() + seconds
            while (done := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
                assert time.monotonic() < end, self.seen
                time.sleep(0.02)
            self._code = os.waitstatus_to_exitcode(done[1])
            self._reader.join(timeout=5)
        return self._code

    def __enter__(self) -> "Typed":
        return self

    def __exit__(self, *_: object) -> None:
        if self._code is None:
            self.kill(signal.SIGKILL)
            self.ends()
        os.close(self._terminal)

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._terminal, 4096)
            except OSError:  # EIO: the other end is closed
                return
            self._seen += piece
