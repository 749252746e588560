"""Run a command on a host and take its output line by line, for as long as the connection lasts.

A command that sshd starts without a terminal goes on when the connection ends. This one does not: beside it the
host waits for the end of what it is sent, which is also the end of the connection, and ends the command then.
"""

import select
import shlex
import threading
import time
from collections.abc import Callable
from typing import Literal

import paramiko

from .errors import HostUnreachable, OperationFailed
from .session import BEGIN, Session

Where = Literal["out", "err"]
MOST_LINE = 64 * 2**10
"""Bytes: a line that is longer is told in pieces, so that nothing piles up here."""
GRACE_SECONDS = 5
"""Time a command has to leave after SIGTERM, when the connection has ended."""
REST_SECONDS = 1.0
"""A command that has ended may have left others, which hold its output open: nobody waits for them longer than this."""
SCRIPT = (
    BEGIN
    + """\
exec 3<&0
setsid sh -c {command} </dev/null 3<&- &
child=$!
(cat <&3; kill -s TERM -- -$child; sleep {grace}; kill -s KILL -- -$child) >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $child
code=$?
kill $watch 2>/dev/null
exit $code
"""
)


class Lines:
    """Bytes as they come, told as lines."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._rest = tell, b""

    def take(self, data: bytes) -> None:
        """Tells the lines that ``data`` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > MOST_LINE:
            lines.append(self._rest[:MOST_LINE])
            self._rest = self._rest[MOST_LINE:]
        for line in lines:
            self._tell(line.decode(errors="replace"))

    def end(self) -> None:
        """Tells a last line that has no end."""
        if self._rest:
            self._tell(self._rest.decode(errors="replace"))
        self._rest = b""


def run_tied(
    session: Session, command: str, line: Callable[[Where, str], None], *, stop: threading.Event | None = None
) -> int:
    """Runs ``command`` as root, tells ``line`` what it writes and where, and returns its exit code.

    The text is visible in the host's process list. ``stop`` ends the command. Raises HostUnreachable when the
    connection breaks, OperationFailed when the host does not run the command.
    """
    channel = session.start(SCRIPT.format(command=shlex.quote(command), grace=GRACE_SECONDS))
    streams = {"out": Lines(lambda text: line("out", text)), "err": Lines(lambda text: line("err", text))}
    try:
        _pump(channel, streams, stop)
        for each in streams.values():
            each.end()
        if stop and stop.is_set():
            return 0
        code = channel.recv_exit_status()
    finally:
        channel.close()
    if code < 0:
        if not session.alive:
            raise HostUnreachable(f"{session.name}: the connection broke")
        raise OperationFailed(f"{session.name}: the command was ended")
    return code


def _pump(channel: paramiko.Channel, streams: dict[str, Lines], stop: threading.Event | None) -> None:
    """Passes on what comes, until the command has ended and there is no more, or ``stop`` is set."""
    quiet = None
    while not (stop and stop.is_set()):
        select.select([channel], [], [], 0.2)
        all_came, ended = channel.eof_received or channel.closed, channel.exit_status_ready()
        got = False
        if channel.recv_ready():
            streams["out"].take(channel.recv(1 << 16))
            got = True
        if channel.recv_stderr_ready():
            streams["err"].take(channel.recv_stderr(1 << 16))
            got = True
        if got or not ended:
            quiet = None
            if not got and all_came:
                time.sleep(0.02)  # select does not wait any more
            continue
        quiet = quiet or time.monotonic()
        if all_came or time.monotonic() - quiet > REST_SECONDS:
            return
