"""Reach a PostgreSQL server through a host: TLS is spoken from here, with the name and the rules of its sslmode.

A client that is led through a tunnel knows the server as 127.0.0.1, so it could not check a certificate, nor
name the server in the handshake, which hosted databases want. So the client speaks plainly to a port of this
machine, and what leaves it is TLS as far as the server.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator

import paramiko

from roadbed.deploys.database import Endpoint

from .errors import OperationFailed
from .session import Session
from .tunnel import PlainStream, Stream, forward, open_channel

SSL_REQUEST, GSS_REQUEST = struct.pack("!II", 8, 80877103), struct.pack("!II", 8, 80877104)
"""What a client asks first (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL)."""
OPTIONAL = ("allow", "prefer")
VERIFIED = ("verify-ca", "verify-full")


@contextlib.contextmanager
def postgres_tunnel(session: Session, database: Endpoint) -> Iterator[int]:
    """A local port on which ``database``, as the session's host sees it, is spoken to without TLS.

    Raises OperationFailed at once when the server cannot be reached, or does not do the TLS of its sslmode.
    """
    probe = open_channel(session, database.host, database.port)
    try:
        begin_tls(probe, database)
    finally:
        probe.close()

    def meet(client: socket.socket, channel: paramiko.Channel) -> tuple[Stream, Stream]:
        if database.tls == "disable":
            return PlainStream(client), PlainStream(channel)
        far = begin_tls(channel, database)
        far.sendall(_first_words(client))
        return PlainStream(client), far

    with forward(session, database.port, database.host, meet=meet) as port:
        yield port


def begin_tls(channel: socket.socket | paramiko.Channel, database: Endpoint) -> Stream:
    """The connection with TLS as ``database.tls`` wants it. Raises OperationFailed when that cannot be had."""
    if database.tls == "disable":
        return PlainStream(channel)
    where = f"the database {database.host}:{database.port}"
    channel.settimeout(10)
    try:
        channel.sendall(SSL_REQUEST)
        answer = channel.recv(1)
        if answer == b"S":
            stream = TlsStream(channel, _context(database.tls), database.host)
            channel.settimeout(None)
            return stream
    except ssl.SSLCertVerificationError as error:
        raise OperationFailed(
            f"{where}: sslmode {database.tls}: its certificate is not accepted: {error.verify_message}"
        ) from None
    except ssl.SSLError as error:
        raise OperationFailed(f"{where}: TLS failed: {error.reason or error}") from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise OperationFailed(f"{where} does not answer: {error or type(error).__name__}") from None
    if answer != b"N":
        raise OperationFailed(f"{where} does not answer as PostgreSQL does")
    if database.tls not in OPTIONAL:
        raise OperationFailed(f"{where} offers no TLS, and its sslmode is {database.tls}")
    channel.settimeout(None)
    return PlainStream(channel)


def _context(mode: str) -> ssl.SSLContext:
    """libpq's meaning of sslmode: only verify-ca and verify-full look at the certificate, the last at the name too."""
    context = ssl.create_default_context()
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if mode in VERIFIED else ssl.CERT_NONE
    return context


def _first_words(client: socket.socket) -> bytes:
    """The first bytes that are not a wish for encryption: those are declined, TLS begins on the other side."""
    while True:
        words = b""
        while len(words) < len(SSL_REQUEST):
            piece = client.recv(len(SSL_REQUEST) - len(words))
            if not piece:
                raise EOFError("the client left")
            words += piece
        if words not in (SSL_REQUEST, GSS_REQUEST):
            return words
        client.sendall(b"N")


class TlsStream:
    """TLS over a channel. One thread may read while another writes. Raises ssl.SSLError when there is no agreement.

    What is encrypted leaves in the order in which it was made: only who holds ``_sending`` takes it out.
    """

    def __init__(self, under: socket.socket | paramiko.Channel, context: ssl.SSLContext, name: str) -> None:
        self._under, self._lock, self._sending = under, threading.Lock(), threading.Lock()
        self._in, self._out, self._ended = ssl.MemoryBIO(), ssl.MemoryBIO(), False
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return

    def recv(self, size: int) -> bytes:
        """Some bytes, or none at the end."""
        while True:
            try:
                with self._lock:
                    return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._flush(wait=False)
            except ssl.SSLError as error:
                if self._ended or isinstance(error, ssl.SSLZeroReturnError | ssl.SSLEOFError):
                    return b""
                raise
            if not self._fill():
                return b""

    def sendall(self, data: bytes) -> None:
        """Sends all of ``data``."""
        with self._lock:
            self._tls.write(data)
        self._flush()

    def end(self) -> None:
        """Says that no more is sent: below TLS, whose own good-bye would throw away what has not been read yet."""
        self._flush()
        self._ended = True  # an end like this is answered with an alert, after all else
        PlainStream(self._under).end()

    def _flush(self, *, wait: bool = True) -> None:
        """Sends what is encrypted. Without ``wait`` it is left to the one who is sending: a reader must not stop."""
        while self._out.pending:
            if not self._sending.acquire(blocking=wait):
                return
            try:
                with self._lock:
                    waiting = self._out.read()
                self._under.sendall(waiting)
            finally:
                self._sending.release()

    def _fill(self) -> bool:
        piece = self._under.recv(1 << 16)
        if piece:
            self._in.write(piece)
        else:
            self._in.write_eof()
        return bool(piece)
