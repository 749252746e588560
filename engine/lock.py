"""One run at a time on a host: an advisory lock that ends with the connection which holds it.

The root shell of the session holds flock(2) on a file in /run. When the run ends, is killed or loses
its connection, the shell ends, with its last command, and the kernel lifts the lock: there is no stale lock to break
(Deployer #899, #3154, Dokku #3167: locks that outlive a dead run).
"""

import getpass
import os
import shlex
import socket
from collections.abc import Iterable
from datetime import UTC, datetime

from .errors import Refused, RoadbedError
from .fleet import Fleet
from .session import Session

LOCK = "/run/roadbed.lock"


def hold(fleet: Fleet, names: Iterable[str], what: str) -> None:
    """Takes the lock of every host for the rest of the run. Raises Refused, naming who has it, on any host."""
    owner = f"{getpass.getuser()}@{socket.gethostname()} (pid {os.getpid()}), {what}, since {_now()}"
    answers = fleet.each(names, lambda session, _: _take(session, owner))
    taken = [str(answer) for answer in answers.values() if isinstance(answer, Refused)]
    if taken:
        raise Refused("\n".join(taken))
    for answer in answers.values():
        if isinstance(answer, RoadbedError):
            raise answer


def _take(session: Session, owner: str) -> None:
    """The file descriptor belongs to the session's shell itself, not to a child of it."""
    result = session.run_words([f"exec 9>>{LOCK} && flock -n 9 && echo {shlex.quote(owner)} > {LOCK}"])[0]
    if not result.ok:
        who = session.run(f"tail -n 1 {LOCK}", check=False).out.strip() or "somebody"
        raise Refused(
            f"{session.name}: another run works on this host: {who}. Wait until it has ended; "
            "one that was killed holds the host until its last command there, such as apt, has ended"
        )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
