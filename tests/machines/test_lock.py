"""Two people at once: the second is told who works on the host, and the lock goes with the run that held it."""

import os
import signal
import subprocess
import time

import pytest

from roadbed.engine.errors import Refused
from roadbed.engine.fleet import Fleet
from roadbed.engine.load import load
from roadbed.engine.lock import hold

from .conftest import PROVISION, Stack


def test_the_second_run_is_refused_and_told_who_holds_the_first(pair: Stack) -> None:
    stack = load(str(pair.path))
    with Fleet(stack) as first, Fleet(stack) as second:
        first.connect()
        second.connect()
        hold(first, stack.hosts, "phase1")
        hold(first, stack.hosts, "phase1")
        with pytest.raises(
            Refused, match=rf"pair-12: another run works on this host: \S+ \(pid {os.getpid()}\), phase1"
        ):
            hold(second, stack.hosts, "phase1")
        refused = pair.provision("phase1", code=6)
        assert "another run works on this host" in refused.stderr
    with Fleet(stack) as third:
        third.connect()
        hold(third, stack.hosts, "phase1")


def test_the_lock_of_a_killed_run_is_gone(pair: Stack) -> None:
    """SIGKILL leaves nothing to break by hand."""
    code = (
        "import sys, time\nfrom roadbed.engine.fleet import Fleet\nfrom roadbed.engine.load import load\n"
        "from roadbed.engine.lock import hold\nstack = load(sys.argv[1])\nfleet = Fleet(stack)\nfleet.connect()\n"
        "hold(fleet, stack.hosts, 'phase1')\nprint('held', flush=True)\ntime.sleep(600)\n"
    )
    python = PROVISION.replace("provision", "python")
    with subprocess.Popen([python, "-c", code, str(pair.path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        pair.provision("phase1", code=6)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    deadline = time.monotonic() + 10
    while pair.provision("phase1", code=None).returncode == 6:
        assert time.monotonic() < deadline, "the lock is still held 10 s after its owner was killed"
        time.sleep(0.5)
