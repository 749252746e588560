"""git(1) for repositories of others: with the user's own credentials, without a question, and never without end."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from roadbed.engine.errors import InventoryError, OperationFailed

SECONDS = 600
"""Longest time of one git command: a first fetch of a large repository over a slow line."""
SLOW = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30")
"""Less than 1000 bytes/s for 30 s ends a transfer over HTTP (git-config(1)); ssh has the options below."""
SSH = "-o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=5 -o ServerAliveCountMax=6"
"""No question, and an end for a line that is dead (ssh_config(5))."""
PLAIN = ("-c", "core.autocrlf=false", "-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false")
"""Files as they are in the repository, whatever the user's settings; nothing goes on when the command has ended."""
HERE = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"}
    | {"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"}
)
"""Set while a hook of git runs: they would turn every command to the repository of the hook."""
HINTS = (
    (r"host key verification failed", "Connect once by hand, and accept the host's key when it is the right one"),
    (r"permission denied \(publickey|could not read username|authentication failed|access denied|invalid username",
     "It wants a login: add the key to the SSH agent, or set up a credential helper (git help gitcredentials)"),
    (r"could not resolve host", "Check the name, and the DNS of this machine"),
    (r"repository not found|does not appear to be a git repository|not found", "Check the URL, and who may read it"),
)  # fmt: skip
"""What git says (LC_ALL=C), in small letters -> the way out."""


class GitError(OperationFailed):
    """A git command failed; ``said`` is what it printed."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


def installed() -> None:
    """Raises InventoryError when there is no git on this machine."""
    if shutil.which("git") is None:
        raise InventoryError("app/source: is a git repository, and git is not installed here. Install the package git")


def git(folder: Path, *words: str, index: Path | None = None, seconds: float = SECONDS) -> str:
    """Runs ``git WORDS`` on the bare repository in ``folder`` and returns its output. Raises GitError.

    ``index`` is the index file to use. ``seconds`` is its longest time.
    """
    command = ["git", *SLOW, *PLAIN, f"--git-dir={folder}", *words]
    process = subprocess.Popen(
        command,
        env=_environment(index),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        raise GitError(f"no end after {seconds:.0f} s") from None
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        raise GitError(_shown(os.fsdecode(err)) or f"exit code {process.returncode}")
    return os.fsdecode(out)


def hint(said: str, url: str) -> str:
    """What the user can do about what git said."""
    way = next((way for pattern, way in HINTS if re.search(pattern, said.lower())), "Check the network and the URL")
    return f"{way}. By hand: git ls-remote {url}"


def outside_hooks() -> dict[str, str]:
    """The environment, without what git sets for its hooks."""
    return {name: value for name, value in os.environ.items() if name not in HERE}


def _environment(index: Path | None) -> dict[str, str]:
    env = outside_hooks()
    env |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never"}
    env |= {"GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh", "GIT_OPTIONAL_LOCKS": "0"}
    if "GIT_SSH" not in env:  # a program of the user's own, which may not know these options
        env["GIT_SSH_COMMAND"] = f"{env.get('GIT_SSH_COMMAND') or _configured_ssh()} {SSH}"
    if index:
        env["GIT_INDEX_FILE"] = str(index)
    return env


def _configured_ssh() -> str:
    done = subprocess.run(["git", "config", "--get", "core.sshCommand"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "ssh"


def _shown(err: str) -> str:
    """The lines in which git says what is wrong, without its general advice."""
    lines = [line.strip() for line in err.splitlines() if line.strip() and not line.startswith("hint:")]
    own = [line for line in lines if not line.startswith(("warning:", "Please make sure", "and the repository exists"))]
    return " / ".join(line.removeprefix("fatal: ").removeprefix("error: ") for line in (own or lines)[-3:])


def _end(process: "subprocess.Popen[bytes]") -> None:
    """git starts helpers for the network, which would go on without it."""
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):  # on SIGTERM it removes its lock files
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
            return
