"""Reach a port from here through the SSH connection of a host: one of its own, or one that it reaches."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import paramiko

from .session import Session


@contextlib.contextmanager
def forward(session: Session, port: int, address: str = "127.0.0.1") -> Iterator[int]:
    """A local port that leads to ``<address>:<port>`` as the host sees it, as long as the block runs.

    Bytes are passed on as they come, so that it can be used to time a stream. The host's sshd must
    allow local forwarding (``AllowTcpForwarding local``).
    """
    transport = session.client.get_transport()
    if transport is None:
        raise OSError(f"{session.name} is not connected")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    channel = transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=10)
                except (OSError, EOFError, paramiko.SSHException):
                    client.close()
                    continue
                for source, sink in ((client, channel), (channel, client)):
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket | paramiko.Channel, sink: socket.socket | paramiko.Channel) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        sink.shutdown(socket.SHUT_WR) if isinstance(sink, socket.socket) else sink.shutdown_write()
