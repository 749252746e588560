"""A small client of Redis' protocol (https://redis.io/docs/latest/develop/reference/protocol-spec/), for a tunnel."""

import socket
from typing import Any, Self


class RedisError(Exception):
    """What the server refused; the text begins with its kind: NOAUTH, NOPERM, WRONGPASS, OOM."""


class RedisClient:
    """One connection to a port on 127.0.0.1, logged in when a user is given."""

    def __init__(self, port: int, user: str = "", password: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._file = self._socket.makefile("rb")
        if user:
            try:
                self.call("AUTH", user, password)
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

    def call(self, *words: str) -> Any:
        """The answer to one command. Raises RedisError."""
        return self.calls([words])[0]

    def calls(self, commands: list[tuple[str, ...]]) -> list[Any]:
        """The answers to several commands, sent at once. Raises RedisError for the first that was refused."""
        self._socket.sendall(b"".join(_packed(words) for words in commands))
        answers = [self._answer() for _ in commands]
        if refused := [answer for answer in answers if isinstance(answer, RedisError)]:
            raise refused[0]
        return answers

    def _answer(self) -> Any:
        line = self._file.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:].decode()
        if kind == b"-":
            return RedisError(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == "-1" else self._file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == "-1" else [self._answer() for _ in range(int(rest))]
        assert kind == b"+", f"not an answer of Redis: {line!r}"
        return rest


def _packed(words: tuple[str, ...]) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
