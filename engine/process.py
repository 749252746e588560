"""Processes of this machine, told apart for good: a process id alone may be another's tomorrow."""

import os
from hashlib import sha256
from pathlib import Path

PROC = Path("/proc")


def process_mark(pid: int) -> str | None:
    """Boot and start time of a process; None: it is gone. Empty without /proc, where the id alone must do.

    Field 22 of /proc/PID/stat (proc_pid_stat(5)).
    """
    if not (PROC / "self/stat").exists():
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return ""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{_boot()}/{fields[19]}"


def signature() -> str:
    """This process, in a word that tells ``died_here`` later whether it still lives."""
    return f"{_machine()}.{os.getpid()}.{_hash(process_mark(os.getpid()) or '')}"


def died_here(word: str) -> bool:
    """Whether ``word`` is the signature of a process of this machine that is no more. In doubt it is not."""
    machine, _, rest = word.partition(".")
    pid, _, mark = rest.partition(".")
    if machine != _machine() or not machine or not pid.isdigit() or not mark:
        return False
    found = process_mark(int(pid))
    return _gone(int(pid)) if found is None else _hash(found) != mark


def _gone(pid: int) -> bool:
    """Whether there is no such process: that of another user may be hidden (hidepid of proc(5))."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return (PROC / str(pid) / "stat").exists()  # a zombie


def _machine() -> str:
    """This boot, and the process ids that can be seen: those of another container are not ours to judge."""
    try:
        return _hash(_boot() + str((PROC / "self/ns/pid").readlink()))
    except OSError:
        return ""


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
