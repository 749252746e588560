"""Run a command of a build: low priority, output to a private log, its end shown on failure."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from roadbed.engine.errors import OperationFailed

TAIL = 20
"""Lines of the log that an error shows."""
SUPERVISOR = Path(__file__).with_name("supervisor.py")
ENDING = 30
"""Seconds within which a command that was told to end has ended: it gets SIGKILL after 5."""


class BuildFailed(OperationFailed):
    """The build of the app, or what a later command of the project needs of it, failed."""


class BuildLog:
    """The log of one build: mode 0600, because an app may print what it likes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))

    def tail(self) -> str:
        """The last lines; from where npm begins to say what is wrong, when its help text comes after that."""
        lines = self.path.read_text(errors="replace").splitlines()
        start = max(0, len(lines) - TAIL)
        causes = [number for number, line in enumerate(lines) if line.startswith("npm error code")]
        if causes and causes[-1] < start:
            return "\n".join([*lines[causes[-1] :][:TAIL], "..."])
        return "\n".join(lines[start:])


def run(
    command: list[str],
    *,
    folder: Path,
    env: dict[str, str],
    log: BuildLog,
    title: str,
    outcome: str = "no host was touched",
) -> None:
    """Runs a command of a build, see ``call``. Raises BuildFailed with ``outcome`` and the end of the log."""
    code = call(command, folder=folder, env=env, log=log, title=title)
    if code != 0:
        raise BuildFailed(
            f"app/source: `{title}` failed with exit code {code}; {outcome}. The end of {log.path}:\n{log.tail()}"
        )


def call(command: list[str], *, folder: Path, env: dict[str, str], log: BuildLog, title: str) -> int:
    """Runs ``command`` in ``folder`` with exactly ``env``, at low priority, to its end; returns its exit code.

    ``title`` is how the user knows the command. All it has started ends with it, and with this process,
    also when that is killed (``supervisor.py``).
    """
    with log.path.open("ab") as output:
        output.write(f"$ {title}\n".encode())
        output.flush()
        watched, held = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISOR), str(watched), *_modest(), *command],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(watched,),
            )
        except BaseException:
            os.close(held)
            raise
        finally:
            os.close(watched)
        try:
            return process.wait()
        finally:
            os.close(held)  # ends what still runs
            process.wait(timeout=ENDING)


def _modest() -> list[str]:
    """Words before a command: the desktop, or the site on a serving machine, has the CPU and the disk first."""
    ionice = shutil.which("ionice") if sys.platform == "linux" else None
    return ["nice", "-n", "10", *([ionice, "-c", "best-effort", "-n", "7"] if ionice else [])]
