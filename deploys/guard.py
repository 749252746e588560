"""Changes that can lock everybody out (firewall, sshd): armed with a timed revert before they take effect.

What happens, in this order:

1. the new file is put beside the old one and validated; the old one and a script that restores it
   are kept in ``/var/lib/roadbed/revert/<guard>/``;
2. a systemd timer is started that runs this script after 120 s;
3. the new file replaces the old one and is applied;
4. a second, new SSH session logs in;
5. only then is the timer stopped, and what was kept is removed.

If the run dies between 2 and 5, or the new session fails, the host restores itself: by the timer, or
by ``roadbed-revert.service`` when it is rebooted before, because a transient timer does not survive
that. The restart debt ``/var/lib/roadbed/pending/<guard>`` exists from 3 to 5, so that the next run
does not take the new file for a change that is done. A run that begins within the 120 s keeps what
the first one saved.
"""

import time
from collections.abc import Generator
from hashlib import sha256
from shlex import quote
from typing import Any, Protocol, cast

from pyinfra import context
from pyinfra.api.command import FunctionCommand, QuoteString, StringCommand
from pyinfra.api.exceptions import OperationError
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation

from .before import keep
from .files import PENDING, Debts, FileState

REVERT = "/var/lib/roadbed/revert"
REVERT_SECONDS = 120
LOGIN_TRIES = 3
"""sshd closes its port for a moment while it reloads (SIGHUP makes it execute itself, sshd(8))."""


class Connector(Protocol):
    """What a guarded change needs of the connection: see ``roadbed.engine.connector.RoadbedConnector``."""

    error: str
    facts: Any
    session: Any

    def write(self, path: str, data: bytes, **options: Any) -> None: ...
    def fresh_login(self) -> None: ...


class Holds(FactBase[bool]):
    """Whether a shell command succeeds on the host."""

    def command(self, check: str) -> StringCommand:
        return StringCommand("if sh -c", QuoteString(check), ">/dev/null 2>&1; then echo yes; fi")

    default = bool

    def process(self, output: list[str]) -> bool:
        return "yes" in output


@operation()
def guarded_file(
    guard: str,
    dest: str,
    content: str,
    apply: str,
    validate: str,
    prove: str = "true",
    in_force: str | None = None,
) -> Generator[FunctionCommand, None, None]:
    """Puts ``content`` at ``dest`` (root, 644) and applies it, with a timed revert until a new session has logged in.

    ``guard`` names the change: its timer is ``roadbed-revert-<guard>.timer``. All others are shell
    commands: ``validate`` must succeed on ``{file}`` before anything is replaced; ``apply`` makes
    ``dest`` take effect, also when it does not exist (the first revert); ``prove`` must succeed after
    that; ``in_force``, where there is one, tells whether the host still runs what ``dest`` says. Nothing is done
    when the file is the same, is in force, and no earlier change is unfinished.
    """
    wanted = ("644", "root", "root", sha256(content.encode()).hexdigest())
    same = context.host.get_fact(FileState, path=dest) == wanted
    if same and guard not in context.host.get_fact(Debts) and _holds(in_force):
        context.host.noop(f"{dest} is in force")
        return
    yield FunctionCommand(_change, (guard, dest, content, validate, apply, prove), {})


def _holds(check: str | None) -> bool:
    return check is None or bool(context.host.get_fact(Holds, check=check))


def _change(guard: str, dest: str, content: str, validate: str, apply: str, prove: str) -> None:
    connector: Connector = cast(Any, context.host.connector)
    fresh, kept = f"{dest}.candidate", f"{REVERT}/{guard}"
    connector.write(fresh, content.encode(), mode="644", user="root", group="root", validate=validate, debts=())
    connector.facts.forget()
    _run(connector, keep(dest))
    _run(connector, _keep(guard, dest))
    connector.write(
        f"{kept}/restore", _restore(guard, dest, apply).encode(), mode="700", user="root", group="root",
        validate="sh -n {file}", debts=(),
    )  # fmt: skip
    _run(connector, _arm(guard))
    try:
        _run(
            connector,
            f"mkdir -p {PENDING} && : > {PENDING}/{guard} && mv -fT {quote(fresh)} {quote(dest)}\n"
            f"({apply}) && ({prove})",
        )
        _log_in_anew(connector)
    except Exception as error:
        connector.error = f"{dest}: {error}. {_give_up(connector, kept)}"
        raise OperationError(connector.error) from error
    _run(connector, _commit(guard))


def _run(connector: Connector, script: str) -> None:
    """Runs a script as root; raises OperationError with what it said."""
    result = connector.session.run(script, timeout=60, check=False)
    if not result.ok:
        connector.error = (result.err.strip() or result.out.strip() or f"exit code {result.rc}")[-800:]
        raise OperationError(connector.error)


def _log_in_anew(connector: Connector) -> None:
    for attempt in range(LOGIN_TRIES):
        try:
            connector.fresh_login()
            return
        except Exception as error:
            if attempt == LOGIN_TRIES - 1:
                raise OperationError(f"a new SSH session could not log in ({error})") from error
            time.sleep(1)


def _give_up(connector: Connector, kept: str) -> str:
    try:
        if connector.session.run(f"sh {kept}/restore", timeout=15, check=False).ok:
            return "What was there before is back in force"
    except Exception:  # noqa: S110  (the connection itself may be cut: then the timer does it)
        pass
    return f"The host restores what was there before within {REVERT_SECONDS} s"


LOCK = "exec 9>/run/roadbed-guard.lock && flock 9"


def _stop(guard: str) -> str:
    unit = f"roadbed-revert-{guard}"
    return f"systemctl stop {unit}.timer 2>/dev/null; systemctl reset-failed {unit}.service {unit}.timer 2>/dev/null"


def _keep(guard: str, dest: str) -> str:
    """Keeps the file as it is now; what an unfinished change kept stays, its revert is put off."""
    kept, old = f"{REVERT}/{guard}", quote(dest)
    return (
        f"{LOCK}; {_stop(guard)}; systemctl stop roadbed-revert-{guard}.service 2>/dev/null\n"
        f"[ ! -e {kept}/restore ] || exit 0\n"
        f"rm -rf {kept} && mkdir -p -m 700 {REVERT} {kept} || exit 1\n"
        f"if [ -e {old} ]; then cp -p {old} {kept}/previous; fi"
    )


def _arm(guard: str) -> str:
    return (
        f"systemd-run --quiet --unit=roadbed-revert-{guard} --on-active={REVERT_SECONDS} "
        f"--timer-property=AccuracySec=1s --description='Undo an unconfirmed change: {guard}' "
        f"/bin/sh {REVERT}/{guard}/restore"
    )


def _restore(guard: str, dest: str, apply: str) -> str:
    """The script that undoes a change. The shell reads it whole (a function) before it removes its own folder."""
    kept, old = f"{REVERT}/{guard}", quote(dest)
    return f"""#!/bin/sh
# Written by Roadbed: undoes a change of {dest} that no new SSH session has confirmed.
main() {{
  {LOCK}
  [ -e {kept}/restore ] || exit 0
  if [ -e {kept}/previous ]
  then cp -p {kept}/previous {old}.previous && mv -fT {old}.previous {old}
  else rm -f {old}
  fi
  ({apply})
  rm -rf {kept} {PENDING}/{guard} {old}.candidate
  {_stop(guard)}
  exit 0
}}
main
"""


def _commit(guard: str) -> str:
    kept = f"{REVERT}/{guard}"
    return (
        f"{LOCK}; if [ ! -e {kept}/restore ]; then echo 'the new session took longer than {REVERT_SECONDS} s "
        "to log in: the change was undone' >&2; exit 1; fi\n"
        f"{_stop(guard)}; rm -rf {kept} && rm -f {PENDING}/{guard}"
    )
