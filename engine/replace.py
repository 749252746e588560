"""Put a restored backup in the place of the live database, with clients waiting instead of failing where they can."""

import contextlib
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from roadbed.deploys.pgbouncer import CONSOLE
from roadbed.deploys.postgres import SWAP

from .backups import Backup, BackupHost, Restored
from .errors import HostUnreachable, OperationFailed, RoadbedError
from .parallel import each
from .session import Session

PAUSE_SECONDS = 10
"""Longest wait for transactions to end; what runs longer is ended."""
SWAP_SECONDS = 12
"""Longest that the swap can take: 5 s for a lock, 5 s for connections to end, and some air."""
PAUSE = """
systemctl is-active --quiet pgbouncer || exit 3
cd /
systemctl stop roadbed-resume.timer 2>/dev/null
systemd-run --quiet --collect --unit=roadbed-resume --on-active=LIMIT --timer-property=AccuracySec=100ms \
  CONSOLE 'RESUME DATABASE' || exit
timeout WAIT CONSOLE 'PAUSE DATABASE'
"""
"""The timer resumes by itself, should the control machine be lost meanwhile. 124: transactions still run."""
RESUME = "cd / && CONSOLE 'RESUME DATABASE' || exit; systemctl stop roadbed-resume.timer 2>/dev/null; true"
"""The timer goes on where that did not work: then it resumes."""


@dataclass(frozen=True)
class Replaced:
    """A live database that was replaced. ``former`` is its name now; ``seconds`` the server kept clients out."""

    fresh: Backup
    restored: Restored
    former: str
    seconds: float
    notes: tuple[str, ...]
    """What the user should know of the pause."""


def replace(
    host: BackupHost,
    poolers: dict[str, Session],
    name: str,
    query_wait: int,
    say: Callable[[str], None],
    guard: Callable[[str], None] = lambda _: None,
) -> Replaced:
    """Makes a backup of what is there, restores ``name`` beside it, compares, and swaps the two by their names.

    ``query_wait`` is the longest that PgBouncer lets a query wait, in seconds. ``guard`` is called before each step,
    with its name, and raises Refused when the lock of this run is lost. Raises what ``BackupHost``
    raises, or OperationFailed when the swap was refused; the live database is as it was then.
    """
    host.find(name)
    guard("Make a backup of the present state")
    host.hold(name)
    fresh = host.make()
    say(f"backup of the present state: {fresh.name}")
    now = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
    scratch, former = f"{host.database}_restored_{now}", f"{host.database}_before_{now}"
    restored = host.restore(name, scratch)
    say(f"restored {restored.tables} tables, {restored.rows} rows in {restored.seconds:.1f} s, as they were")
    try:
        guard("Swap the databases")
        with paused(poolers, host.database, query_wait) as notes:
            seconds = _swap(host, scratch, former)
    except RoadbedError:
        with contextlib.suppress(RoadbedError):
            host.drop(scratch)  # never the live one: that has this name only after the swap, and then no more
        raise
    return Replaced(fresh, restored, former, seconds, tuple(notes))


def _swap(host: BackupHost, scratch: str, former: str) -> float:
    command = f"{SWAP} {shlex.quote(scratch)} {shlex.quote(former)}"
    try:
        done = host.session.run(command, timeout=SWAP_SECONDS + 10, check=False)
    except HostUnreachable as error:
        raise HostUnreachable(f"{error}. Whether it was swapped: there is a database {former} then") from error
    said = re.search(r"swapped in ([0-9.]+) s", done.out)
    if not done.ok or said is None:
        reason = " / ".join((done.err.strip() or done.out.strip()).splitlines()[-4:])
        raise OperationFailed(f"{host.session.name}: not swapped, the live database is as it was: {reason}")
    return float(said[1])


@contextlib.contextmanager
def paused(poolers: dict[str, Session], database: str, query_wait: int) -> Iterator[list[str]]:
    """Clients of every PgBouncer wait while the block runs, for as long as PgBouncer lets them.

    Gives a list of notes that is complete after the block. A PgBouncer that does not run is passed over.
    Raises OperationFailed when one cannot be paused.
    """
    wait = max(1, min(PAUSE_SECONDS, query_wait // 2))
    words = {"CONSOLE": CONSOLE, "DATABASE": database, "WAIT": str(wait), "LIMIT": str(wait + SWAP_SECONDS)}
    notes: list[str] = []
    answers = each(poolers, lambda name: poolers[name].run(_text(PAUSE, words), check=False))
    try:
        for name, answer in answers.items():
            if isinstance(answer, RoadbedError):
                raise answer
            if answer.rc == 124:
                notes.append(f"{name}: transactions that ran for more than {wait} s were ended")
            elif answer.rc not in (0, 3):
                raise OperationFailed(f"{name}: PgBouncer was not paused: {answer.err.strip()}")
        yield notes
    finally:
        held = [name for name, answer in answers.items() if isinstance(answer, RoadbedError) or answer.rc != 3]
        for answer in each(held, lambda name: poolers[name].run(_text(RESUME, words))).values():
            if isinstance(answer, RoadbedError):
                notes.append(f"{answer}. PgBouncer resumes by itself within {words['LIMIT']} s")


def _text(script: str, words: dict[str, str]) -> str:
    return re.sub("|".join(words), lambda match: words[match[0]], script)
