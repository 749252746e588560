"""Commands of a build: their exit code and output, and that nothing they have started outlives them or Roadbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from roadbed.releases.command import BuildFailed, BuildLog, call, run

ENV = {"PATH": os.environ["PATH"]}
STARTS = (
    "setsid sh -c 'echo $$ > far; exec sleep 300' & "  # leaves the session
    "(sh -c 'echo $$ > orphan; exec sleep 300' &) ; "  # loses its parent
    "sh -c 'trap \"\" TERM; echo $$ > deaf; sleep 300; sleep 300' & "
)
"""Starts three processes that a SIGTERM for the command's own group would not end."""
NAMES = ("far", "orphan", "deaf")


def shell(folder: Path, script: str) -> int:
    return call(["sh", "-c", script], folder=folder, env=ENV, log=BuildLog(folder / "log"), title="script")


def processes(folder: Path) -> list[int]:
    """The processes of ``STARTS``, once all of them run."""
    deadline = time.monotonic() + 20
    while not all((folder / name).exists() and (folder / name).read_text().strip() for name in NAMES):
        assert time.monotonic() < deadline, "they did not start"
        time.sleep(0.02)
    return [int((folder / name).read_text()) for name in NAMES]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_end(found: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := [process for process in found if alive(process)]:
        assert time.monotonic() < deadline, f"{left} still run"
        time.sleep(0.05)


def test_exit_code_and_output(tmp_path: Path) -> None:
    assert shell(tmp_path, "echo out; echo err >&2; exit 7") == 7
    assert (tmp_path / "log").read_text() == "$ script\nout\nerr\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert shell(tmp_path, "kill -KILL $$") == 137


def test_a_program_that_is_not_there_fails_like_one_that_ends_badly(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "log")
    with pytest.raises(BuildFailed, match=r"`tool` failed with exit code 127; no host was touched[\s\S]*no-such-tool"):
        run(["no-such-tool"], folder=tmp_path, env=ENV, log=log, title="tool")


def test_it_runs_at_low_priority(tmp_path: Path) -> None:
    shell(tmp_path, "nice; ionice")
    assert (tmp_path / "log").read_text().split("\n")[1:3] == [str(min(19, os.nice(0) + 10)), "best-effort: prio 7"]


def test_the_command_holds_no_file_of_ours(tmp_path: Path) -> None:
    shell(tmp_path, "ls /proc/self/fd")
    assert (tmp_path / "log").read_text().split() == ["$", "script", "0", "1", "2", "3"]  # 3: the folder that ls reads


def test_what_a_command_leaves_running_ends_with_it(tmp_path: Path) -> None:
    waits = " ".join(f"while [ ! -s {name} ]; do sleep 0.02; done;" for name in NAMES)
    assert shell(tmp_path, STARTS + waits + "exit 0") == 0
    wait_for_end(processes(tmp_path), 1)


@pytest.mark.parametrize(("how", "seconds"), [(signal.SIGKILL, 10), (signal.SIGINT, 10)], ids=["kill", "ctrl-c"])
def test_nothing_outlives_roadbed(tmp_path: Path, how: signal.Signals, seconds: float) -> None:
    """Killed or interrupted while a command runs: within seconds nothing of the command is left."""
    code = (
        "import signal, sys; from pathlib import Path; from roadbed.releases.command import BuildLog, call\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background ignores Ctrl-C
        "folder = Path(sys.argv[1])\n"
        "call(['sh', '-c', sys.argv[2]], folder=folder, env={'PATH': sys.argv[3]}, log=BuildLog(folder / 'log'),"
        " title='x')\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path), STARTS + "sleep 300", ENV["PATH"]]
    starter = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    found = processes(tmp_path)
    assert all(map(alive, found))
    starter.send_signal(how)
    starter.wait()
    wait_for_end(found, seconds)
