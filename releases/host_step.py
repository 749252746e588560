"""One step of a build on a host: a command in its unit, its output passed on, its end explained."""

import contextlib
import shlex
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import paramiko

from roadbed.deploys.build import Budget
from roadbed.deploys.environment import environment_file
from roadbed.engine.errors import HostUnreachable, InventoryError

from .build_host import BuildHost
from .command import TAIL, BuildFailed, BuildLog
from .unit import BEAT, RUN, USER, Ended, ended, unit_command


@dataclass(frozen=True)
class Steps:
    """The steps of one build on ``host``, within ``limits``; they may write to ``writable`` alone."""

    host: BuildHost
    limits: Budget
    writable: tuple[str, ...]
    log: BuildLog

    def run(
        self, words: list[str], *, folder: str, env: Mapping[str, str], title: str, npmrc: str | None = None
    ) -> str:
        """Runs ``words`` in ``folder`` and returns its last line. Raises BuildFailed with the end of the log.

        ``env`` and ``npmrc`` go there in files that root alone can read, and that the unit removes when it ends.
        """
        session, minutes = self.host.session, self.host.inventory.build.minutes
        try:
            session.write(f"{RUN}/env", environment_file(dict(env)).encode(), mode="600")
        except ValueError as error:
            raise InventoryError(str(error)) from None
        if npmrc:
            session.write(f"{RUN}/npmrc", npmrc.encode(), mode="600")
        command = unit_command(
            words, folder=folder, writable=self.writable, budget=self.limits, minutes=minutes, npmrc=bool(npmrc)
        )
        end, last = self._follow(command, title)
        if end.code != 0:
            why = f": {end.why}" if end.why else f" with exit code {end.code}"
            raise BuildFailed(
                f"app/source: `{title}` failed on {self.host.name}{why}; nothing was released. "
                f"The end of {self.log.path}:\n{self.log.tail()}"
            )
        return last

    def _follow(self, command: str, title: str) -> tuple[Ended, str]:
        """Passes on what a unit prints, and gives it signs of life. Returns how it ended, and its last line."""
        session, minutes = self.host.session, self.host.inventory.build.minutes
        lines, account = [""], ""
        with session.start(command) as channel, self.log.path.open("a") as output, _signs_of_life(channel):
            output.write(f"$ {title}\n")
            channel.settimeout(minutes * 60 + 120)
            try:
                for raw in channel.makefile("rb"):
                    line = raw.decode(errors="replace")
                    if line.startswith("roadbed-build: "):
                        account = line.strip()
                        continue
                    output.write(line)
                    if text := line.strip():
                        lines = [*lines, text][-TAIL:]
                        self.host.echo(text)
                systemd = channel.makefile_stderr("rb").read().decode(errors="replace")
                code = channel.recv_exit_status()
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise HostUnreachable(f"{session.name}: the connection broke during `{title}`: {error}") from error
        if code < 0 or not session.alive:
            raise HostUnreachable(f"{session.name}: the connection broke during `{title}`")
        return ended(code, account, systemd, "\n".join(lines), self.limits, minutes), lines[-1]


def as_user(text: str) -> str:
    """``text`` as a command for root that runs it as the user of builds: links in their folders may lead anywhere.

    Not in the folder of root, into which that user cannot go back, as find wants to.
    """
    away = shlex.quote(f"cd /\n{text}")
    return f"setpriv --reuid={USER} --regid={USER} --clear-groups --no-new-privs sh -c {away}"


@contextmanager
def _signs_of_life(channel: paramiko.Channel) -> Iterator[None]:
    """A byte every few seconds, so that the unit can tell a quiet build from a control machine that is gone."""
    over = threading.Event()

    def beat() -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while not over.is_set():
                channel.sendall(b".")
                over.wait(BEAT)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()
