"""Reach a port from here through the SSH connection of a host: one of its own, or one that it reaches."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import paramiko

from .errors import OperationFailed
from .session import Session


class Stream(Protocol):
    """Two directions of bytes: a socket, an SSH channel, or one of them with TLS on top."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def end(self) -> None:
        """Says that no more is sent."""


Meet = Callable[[socket.socket, paramiko.Channel], tuple[Stream, Stream]]
"""What is said before the bytes are passed on: from both ends to the streams that are joined."""


class PlainStream:
    """A socket or a channel as it is."""

    def __init__(self, under: socket.socket | paramiko.Channel) -> None:
        self._under = under
        self.recv, self.sendall = under.recv, under.sendall

    def end(self) -> None:
        """Says that no more is sent."""
        if isinstance(self._under, socket.socket):
            self._under.shutdown(socket.SHUT_WR)
        else:
            self._under.shutdown_write()


def _as_they_are(client: socket.socket, channel: paramiko.Channel) -> tuple[Stream, Stream]:
    return PlainStream(client), PlainStream(channel)


def open_channel(session: Session, host: str, port: int) -> paramiko.Channel:
    """A connection to ``host:port`` as the session's host sees it. Raises OperationFailed with its reason."""
    transport = session.client.get_transport()
    if transport is None:
        raise OSError(f"{session.name} is not connected")
    try:
        return transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=10)
    except paramiko.ChannelException as error:
        raise OperationFailed(f"{session.name}: {host}:{port} cannot be reached from there: {error.text}") from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise OperationFailed(f"{session.name}: {host}:{port} cannot be reached from there: {error}") from None


@contextlib.contextmanager
def forward(session: Session, port: int, address: str = "127.0.0.1", *, meet: Meet = _as_they_are) -> Iterator[int]:
    """A local port that leads to ``<address>:<port>`` as the host sees it, as long as the block runs.

    Bytes are passed on as they come, so that it can be used to time a stream. The host's sshd must
    allow local forwarding (``AllowTcpForwarding local``).
    """
    if session.client.get_transport() is None:
        raise OSError(f"{session.name} is not connected")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve(client: socket.socket) -> None:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                near, far = meet(client, open_channel(session, address, port))
            except (OSError, EOFError, OperationFailed, paramiko.SSHException):
                client.close()
                return
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

        def accept() -> None:
            while not ended.is_set():
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)


def _pump(source: Stream, sink: Stream) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        sink.end()
