"""TLS to a database through a tunnel: what each sslmode accepts, and that the bytes arrive."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from roadbed.deploys.database import Endpoint
from roadbed.engine import postgres_tunnel
from roadbed.engine.errors import OperationFailed
from roadbed.engine.postgres_tunnel import GSS_REQUEST, SSL_REQUEST, TlsStream, begin_tls

Serve = Callable[[str, bool], "socket.socket"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for db.example.com and its key in one file, signed by itself."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=db.example.com"
    more = ["-addext", "subjectAltName=DNS:db.example.com", "-keyout", str(file), "-out", f"{file}.crt"]
    subprocess.run([*words.split(), *more], check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@contextmanager
def server(certificate: Path, answer: bytes = b"S") -> Iterator[socket.socket]:
    """A connection to a server that answers a wish for TLS with ``answer`` and then returns what it is sent."""
    here, there = socket.socketpair()

    def serve() -> None:
        speaker: socket.socket = there
        try:
            assert there.recv(8) == SSL_REQUEST
            there.sendall(answer)
            if answer == b"S":
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate)
                speaker = context.wrap_socket(there, server_side=True)
            while piece := speaker.recv(1 << 16):
                speaker.sendall(piece)
        except OSError:
            pass
        finally:
            speaker.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with closing(here):
        yield here
    thread.join(5)
    assert not thread.is_alive()


def database(mode: str, host: str = "db.example.com") -> Endpoint:
    return Endpoint(host, 5432, "shop", "me", "secret", mode)


@pytest.mark.parametrize("mode", ["require", "prefer", "allow"])
def test_bytes_come_back_as_they_were_sent(certificate: Path, mode: str) -> None:
    """More than one TLS record and more than a socket's buffer, while the other direction is being read."""
    data = bytes(range(256)) * 8192
    with server(certificate) as here:
        stream = begin_tls(here, database(mode))
        assert isinstance(stream, TlsStream)
        sender = threading.Thread(target=lambda: (stream.sendall(data), stream.end()), daemon=True)
        sender.start()
        found = b""
        while piece := stream.recv(1 << 16):
            found += piece
        sender.join(5)
    assert found == data


@pytest.mark.parametrize(
    ("mode", "host", "problem"),
    [
        ("verify-full", "db.example.com", ""),
        ("verify-full", "other.example.com", "Hostname mismatch"),
        ("verify-ca", "other.example.com", ""),
    ],
)
def test_names_are_those_of_the_database(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, mode: str, host: str, problem: str
) -> None:
    """The authority is known here; the name counts with verify-full alone, and it is not 127.0.0.1."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    with server(certificate) as here:
        if not problem:
            assert isinstance(begin_tls(here, database(mode, host)), TlsStream)
            return
        with pytest.raises(OperationFailed, match=rf"{host}:5432: .* is not accepted: {problem}"):
            begin_tls(here, database(mode, host))


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_an_unknown_authority_is_refused(certificate: Path, mode: str) -> None:
    with server(certificate) as here, pytest.raises(OperationFailed, match="self-signed certificate"):
        begin_tls(here, database(mode))


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_without_tls_is_refused_where_it_is_wanted(certificate: Path, mode: str) -> None:
    with server(certificate, b"N") as here, pytest.raises(OperationFailed, match=f"no TLS, and its sslmode is {mode}"):
        begin_tls(here, database(mode))


def test_what_is_no_postgresql_is_said_to_be_none(certificate: Path) -> None:
    with server(certificate, b"H") as here, pytest.raises(OperationFailed, match="does not answer as PostgreSQL does"):
        begin_tls(here, database("require"))
    here, there = socket.socketpair()
    there.close()
    with pytest.raises(OperationFailed, match="does not answer"):
        begin_tls(here, database("require"))


def test_a_server_without_tls_will_do_where_it_is_not_wanted(certificate: Path) -> None:
    for mode in ("prefer", "allow"):
        with server(certificate, b"N") as here:
            stream = begin_tls(here, database(mode))
            stream.sendall(b"hello")
            assert stream.recv(5) == b"hello"
            stream.end()


def test_a_clients_own_wish_for_encryption_is_declined() -> None:
    """libpq asks for GSS and for TLS by default, and goes on without when both are declined."""
    here, there = socket.socketpair()
    with closing(here), closing(there):
        there.sendall(GSS_REQUEST + SSL_REQUEST + b"startup-message")
        assert postgres_tunnel._first_words(here) == b"startup-"
        assert there.recv(10) == b"NN"
