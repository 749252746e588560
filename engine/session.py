"""One SSH connection to one host, with one root shell that is kept open.

Why not a channel for each command: a channel costs two round trips and a sudo; the shell costs
one round trip and nothing else. TCP_NODELAY matters as much: without it Nagle and delayed ACK
add 44 ms to every command (paramiko/paramiko#1403 asks for it; measured here). Keepalive and
TCP_USER_TIMEOUT turn a cut link into an error within 7 to 14 s instead of an endless wait.
"""

import contextlib
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko

from .answers import Answers
from .errors import HostUnreachable, OperationFailed
from .result import Result
from .write import write_script

PENDING = "/var/lib/roadbed/pending"
ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UPLOAD_SECONDS = 300
"""Longest silence of a host that takes a file: its disk may be slow, but a disk that hangs is an error."""
BEGIN = f"umask 022; export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH={ROOT_PATH}\n"


class Session:
    """A connected host. ``name`` is the host's name in the inventory.

    Every command runs as root. A session may be used by several threads or greenlets; commands
    wait for one another.
    """

    def __init__(self, name: str, client: paramiko.SSHClient, *, root: bool, sudo_password: str | None = None) -> None:
        self.name = name
        self.client = client
        self._become = (
            "exec sh" if root else ("exec sudo -n -H sh" if sudo_password is None else "exec sudo -k -S -p '' -H sh")
        )
        self._sudo_password = sudo_password
        self._lock = threading.RLock()
        self._channel: paramiko.Channel | None = None
        self._buffer, self._count = b"", 0
        self._secret = secrets.token_hex(8)  # so that nothing a command prints is taken for the end of its output
        self.lost = False
        """Whether the connection broke, and no shell was opened since."""
        self.answers = Answers(lambda questions: self.run_words(questions, timeout=120))

    def opens(self) -> bool:
        """Whether there is a root shell. Raises HostUnreachable when the connection breaks meanwhile."""
        try:
            self.run_words([":"])
        except HostUnreachable:
            if not self.alive:
                raise
            return False
        return True

    def run(self, command: str, *, timeout: float | None = 60, check: bool = True) -> Result:
        """Runs a shell command as root in a fresh ``sh``.

        ``timeout`` is in seconds without any output. The text is visible in the host's process
        list, so it must hold no secret. Raises OperationFailed when the command fails and ``check``
        is set, HostUnreachable when the connection breaks.
        """
        result = self.run_many([command], timeout=timeout)[0]
        return result.required(self.name) if check else result

    def read(self, command: str, *, check: bool = True) -> Result:
        """``run`` for a command that changes nothing: its result is valid until something changes on the host."""
        result = self.answers.of(_in_own_shell(command))
        return result.required(self.name) if check else result

    def run_many(self, commands: list[str], *, timeout: float | None = 60) -> list[Result]:
        """Runs several commands in one round trip, each in a shell of its own, one after the other."""
        self.answers.forget()
        return self.run_words([_in_own_shell(command) for command in commands], timeout=timeout)

    def run_words(self, texts: list[str], *, timeout: float | None = 60) -> list[Result]:
        """Feeds complete shell commands to the root shell itself, in one round trip.

        A text must not read standard input, exit, or have a syntax error: it is not wrapped.
        """
        with self._lock, self._broken_is_unreachable():
            channel = self._shell()
            channel.settimeout(timeout)
            marks, script = [], []
            for text in texts:
                self._count += 1
                mark = f"@@{self._secret}{self._count}@@"
                marks.append(mark.encode())
                script.append(
                    f"{{ {text}\n}} 2>$e; r=$?; printf '\\n{mark}%s\\n' $r; "
                    f"[ -s $e ] && cat $e; printf '\\n{mark}\\n'\n"
                )
            channel.sendall("".join(script).encode())
            return [self._collect(channel, mark) for mark in marks]

    def write(
        self,
        path: str,
        data: bytes,
        *,
        mode: str = "644",
        user: str = "root",
        group: str = "root",
        validate: str | None = None,
        debts: tuple[str, ...] = (),
    ) -> None:
        """Puts ``data`` at ``path`` atomically.

        The bytes travel on the shell's standard input, never in an argv. The new content is made beside the old, given
        its owner and mode, checked with ``validate`` (``{file}`` is its path), then the restart debts are recorded,
        what was there is kept (``keep``), and last it is renamed. Raises OperationFailed, with what ``validate``
        said, and leaves the old file alone.
        """
        script = write_script(path, data, mode, f"{user}:{group}", validate, debts)
        self.answers.forget()
        result = self.run_words([script])[0]
        if not result.ok:
            said = " / ".join((result.err.strip() or result.out.strip()).splitlines()[-5:])
            raise OperationFailed(f"{self.name}: {path} was not written: {said}")

    def upload(self, local: Path, remote: str, *, progress: Callable[[int], None] | None = None) -> None:
        """Streams a file to ``remote`` (root, mode 600). ``progress`` is called with the bytes of each piece.

        Raises OperationFailed, with what the host said, and leaves no part of the file behind.
        """
        place = shlex.quote(remote)
        channel = self.start(f"umask 077; cat > {place} || {{ rm -f {place}; exit 1; }}")
        with self._broken_is_unreachable(), local.open("rb") as file:
            try:
                while piece := file.read(1 << 18):
                    channel.sendall(piece)
                    if progress:
                        progress(len(piece))
                channel.shutdown_write()
            except OSError:
                if not self.alive:
                    raise  # else the host has closed this channel alone: it says why
            said = channel.makefile_stderr("rb").read()
            if channel.recv_exit_status() != 0:
                raise OperationFailed(f"{self.name}: {remote} was not written: {said.decode(errors='replace').strip()}")
        channel.close()

    def start(self, command: str, *, forget: bool = True) -> paramiko.Channel:
        """A channel of its own on which ``command`` runs as root, for a stream. Not ``forget``: it changes nothing."""
        if forget:
            self.answers.forget()
        channel = self._open_channel()
        channel.settimeout(UPLOAD_SECONDS)
        with self._broken_is_unreachable():
            self._exec(channel, f"{self._become.removeprefix('exec ')} -c ", command)
        return channel

    def _exec(self, channel: paramiko.Channel, become: str, command: str) -> None:
        """Runs ``command`` by ``become``. What follows on standard input is for the command alone: sudo-rs reads on
        after the password (0.2.5), so nothing is sent before the command says that it runs."""
        if self._sudo_password is None:
            channel.exec_command(f"{become}{shlex.quote(command)}")
            return
        mark = f"{self._secret} runs\n".encode()
        channel.exec_command(f"{become}{shlex.quote(f'echo {self._secret} runs; {command}')}")
        channel.sendall(self._sudo_password.encode() + b"\n")
        said = b""
        while len(said) < len(mark) and (piece := channel.recv(len(mark) - len(said))):
            said += piece

    def close(self) -> None:
        """Ends the shell and the connection."""
        self.client.close()

    @property
    def alive(self) -> bool:
        """Whether the connection is up."""
        transport = self.client.get_transport()
        return transport is not None and transport.is_active()

    def _open_channel(self) -> paramiko.Channel:
        with self._broken_is_unreachable():
            transport = self.client.get_transport()
            if transport is None:
                raise EOFError("not connected")
            return transport.open_session(timeout=15)

    def _shell(self) -> paramiko.Channel:
        if self._channel is None or self._channel.closed:
            channel = self._open_channel()
            if self._sudo_password is None:
                channel.exec_command(self._become)
            else:
                channel.settimeout(UPLOAD_SECONDS)
                self._exec(channel, f"{self._become} -c ", "exec sh")
            # The shell's own stderr goes to a private file in memory, so that one stream has both.
            channel.sendall(
                (BEGIN + "e=$(mktemp /run/roadbed-err.XXXXXXXX) || exit; trap 'rm -f $e' EXIT HUP TERM\n").encode()
            )
            self._channel, self._buffer, self.lost = channel, b"", False
        return self._channel

    def _collect(self, channel: paramiko.Channel, mark: bytes) -> Result:
        out = self._until(channel, b"\n" + mark)
        rc = self._until(channel, b"\n")
        err = self._until(channel, b"\n" + mark + b"\n")
        return Result(int(rc), out.decode(errors="replace"), err.decode(errors="replace"), time.time())

    def _until(self, channel: paramiko.Channel, mark: bytes) -> bytes:
        searched = 0
        while (at := self._buffer.find(mark, searched)) < 0:
            searched = max(0, len(self._buffer) - len(mark))
            piece = channel.recv(1 << 18)
            if not piece:
                said = channel.makefile_stderr("rb").read().decode(errors="replace").strip()
                raise EOFError(said or "the shell ended")
            self._buffer += piece
        found, self._buffer = self._buffer[:at], self._buffer[at + len(mark) :]
        return found

    @contextlib.contextmanager
    def _broken_is_unreachable(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            self._drop()
            raise OperationFailed(f"{self.name}: a command gave no answer in time and was left") from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._drop()
            self.lost = True
            if "password is required" in str(error):
                raise HostUnreachable(
                    f"{self.name}: sudo wants a password. Allow sudo without one, or give it with --ask-sudo-password"
                ) from error
            raise HostUnreachable(f"{self.name}: the connection broke: {error or type(error).__name__}") from error

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None


def _in_own_shell(command: str) -> str:
    return f"sh -c {shlex.quote(command)} </dev/null"
