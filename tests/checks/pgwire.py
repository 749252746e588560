"""A small client of PostgreSQL's protocol: logs in with SCRAM, asks, prepares. Checks use it through a tunnel.

https://www.postgresql.org/docs/current/protocol-message-formats.html, RFC 5802 and RFC 7677 for SCRAM-SHA-256.
"""

import base64
import hashlib
import hmac
import secrets
import socket
import struct
from typing import Self

Rows = list[list[str | None]]


class PgError(Exception):
    """What the server refused: ``code`` is the SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class PgClient:
    """One connection to ``database`` on 127.0.0.1. Raises PgError when the login is refused."""

    def __init__(self, port: int, user: str, password: str, database: str, *, timeout: float = 20) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._file = self._socket.makefile("rb")
        self.columns: list[str] = []
        words = f"user\0{user}\0database\0{database}\0\0".encode()
        self._socket.sendall(struct.pack("!II", len(words) + 8, 196608) + words)
        try:
            self._login(password)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._file.close()
        self._socket.close()

    def query(self, sql: str) -> Rows:
        """The rows of a statement, as text."""
        self.send(sql)
        return self.answer()

    def table(self, sql: str) -> list[dict[str, str]]:
        """The rows of a statement, with the names of their columns; NULL is an empty text."""
        rows = self.query(sql)
        return [dict(zip(self.columns, (value or "" for value in row), strict=True)) for row in rows]

    def send(self, sql: str) -> None:
        """Asks without waiting for the answer."""
        self._message(b"Q", sql.encode() + b"\0")

    def prepare(self, name: str, sql: str) -> None:
        """Prepares a statement under a name, in a transaction of its own."""
        self._message(b"P", f"{name}\0{sql}\0".encode() + struct.pack("!H", 0))
        self._message(b"S")
        self.answer()

    def execute(self, name: str) -> Rows:
        """The rows of a prepared statement without parameters, in a transaction of its own."""
        self._message(b"B", f"\0{name}\0".encode() + struct.pack("!HHH", 0, 0, 0))
        self._message(b"E", b"\0" + struct.pack("!I", 0))
        self._message(b"S")
        return self.answer()

    def answer(self) -> Rows:
        """Reads until the server is ready for the next question. Raises PgError for an error."""
        rows: Rows = []
        error: PgError | None = None
        while True:
            kind, body = self._read()
            if kind == b"T":
                self.columns = _columns(body)
            elif kind == b"D":
                rows.append(_row(body))
            elif kind == b"E":
                error = _error(body)
                if error.code.startswith(("28", "08")) or error.code in ("3D000", "57P01"):
                    raise error  # the connection ends with it
            elif kind == b"Z":
                if error:
                    raise error
                return rows

    def _message(self, kind: bytes, body: bytes = b"") -> None:
        self._socket.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def _read(self) -> tuple[bytes, bytes]:
        head = self._file.read(5)
        if len(head) < 5:
            raise PgError("08006", "the server closed the connection")
        return head[:1], self._file.read(struct.unpack("!I", head[1:])[0] - 4)

    def _challenge(self, wanted: int) -> bytes:
        kind, body = self._read()
        if kind == b"E":
            raise _error(body)
        code = struct.unpack("!I", body[:4])[0]
        assert (kind, code) == (b"R", wanted), f"the server asks for login method {code}, not {wanted}"
        return body[4:]

    def _login(self, password: str) -> None:
        assert b"SCRAM-SHA-256\0" in self._challenge(10), "the server does not offer SCRAM-SHA-256"
        first = f"n=,r={base64.b64encode(secrets.token_bytes(18)).decode()}"
        begin = f"n,,{first}".encode()
        self._message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(begin)) + begin)
        challenge = self._challenge(11).decode()
        given = dict(part.split("=", 1) for part in challenge.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(given["s"]), int(given["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={given['r']}"
        signature = hmac.digest(hashlib.sha256(key).digest(), f"{first},{challenge},{final}".encode(), "sha256")
        proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
        self._message(b"p", f"{final},p={base64.b64encode(proof).decode()}".encode())
        self._challenge(12)
        self._challenge(0)
        self.answer()


def _row(body: bytes) -> list[str | None]:
    count, at = struct.unpack("!H", body[:2])[0], 2
    row: list[str | None] = []
    for _ in range(count):
        length = struct.unpack("!i", body[at : at + 4])[0]
        at += 4
        row.append(None if length < 0 else body[at : at + length].decode())
        at += max(0, length)
    return row


def _columns(body: bytes) -> list[str]:
    names, at = [], 2
    for _ in range(struct.unpack("!H", body[:2])[0]):
        end = body.index(b"\0", at)
        names.append(body[at:end].decode())
        at = end + 19  # the zero, and 18 bytes on its table, type and format
    return names


def _error(body: bytes) -> PgError:
    fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
    return PgError(fields.get(b"C", "XX000"), fields.get(b"M", "no message"))
