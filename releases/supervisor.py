"""A program of its own: ``supervisor.py FD COMMAND...`` runs the command, and ends all it has started, at the latest
when nobody holds the other end of the pipe FD any more.

The starter holds that end and nothing else: a SIGKILL closes it as surely as an orderly exit does. Processes that
leave their session or lose their parent are found too, because they become children of this one
(PR_SET_CHILD_SUBREAPER, prctl(2)). PR_SET_PDEATHSIG alone would not do: it is bound to the thread that forked, and
goes no further than to the first child.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""linux/prctl.h"""
GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""
ROUNDS = 200
"""How often processes are looked for that were started while others were killed."""
LINUX = sys.platform == "linux"


def main(words: list[str]) -> int:
    """Runs the command; returns its exit code, 128 and the signal for one that was killed."""
    pipe, command = int(words[0]), words[1:]
    libc = ctypes.CDLL(None) if LINUX else None
    if libc:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)

    def tie() -> None:
        if libc:  # so that the command ends even if this process is killed
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=tie)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    threading.Thread(target=_until_closed, args=(pipe, child.pid), daemon=True).start()
    while (ended := os.waitpid(-1, 0))[0] != child.pid:
        pass  # a process that had lost its parent
    _kill(child.pid)
    code = os.waitstatus_to_exitcode(ended[1])
    return code if code >= 0 else 128 - code


def _until_closed(pipe: int, child: int) -> None:
    """Waits for the starter to go, then ends everything, and this process."""
    while os.read(pipe, 1):
        pass
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while _descendants() and time.monotonic() < deadline:
        time.sleep(0.05)
    _kill(child)
    os._exit(128 + signal.SIGTERM)


def _kill(child: int) -> None:
    """SIGKILL for whatever is left of the command."""
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    for _ in range(ROUNDS):
        found = _descendants()
        if not found:
            return
        for process in found:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def _descendants() -> set[int]:
    """Living processes below this one."""
    parents = dict(_linux_processes() if LINUX else _other_processes())
    below = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in below} - below:
        below |= more
    return below - {os.getpid()}


def _linux_processes() -> list[tuple[int, int]]:
    """(process, parent) from /proc, without zombies; the name in proc_pid_stat(5) may hold anything but ends with )."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                state, parent, *_ = file.read().rpartition(b")")[2].split()
                found += [(int(name), int(parent))] if state != b"Z" else []
    return found


def _other_processes() -> list[tuple[int, int]]:
    """(process, parent) from ps(1), without zombies and without ps itself."""
    listed = subprocess.Popen(["ps", "-axo", "pid=,ppid=,stat="], stdout=subprocess.PIPE, text=True)
    rows = [line.split() for line in listed.communicate()[0].splitlines()]
    return [
        (int(process), int(parent))
        for process, parent, state, *_ in rows
        if not state.startswith("Z") and int(process) != listed.pid
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
