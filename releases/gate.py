"""The health gate: an instance gets traffic only after it has answered as a visitor would ask it."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from roadbed.deploys.app import AppSettings
from roadbed.engine.errors import OperationFailed
from roadbed.engine.session import Session

SECONDS = 60
"""How long the instances of a host may take to become healthy. Measured: 0.5 s; a cold database takes longer."""
JOURNAL_LINES = 15


@dataclass(frozen=True)
class Unhealthy:
    """Why an instance got no traffic: what it answered, what it says of cache and database, and what it logged."""

    instance: str
    reason: str
    status: int | None
    body: str
    degraded: tuple[str, ...]
    journal: str

    def __str__(self) -> str:
        answer = f"HTTP {self.status}" if self.status else "no answer"
        parts = [f"{self.instance} {self.reason} ({answer})"]
        parts += [_indented("It said:", self.body)] if self.body else []
        parts += [_indented("It complains about:", "\n".join(self.degraded))] if self.degraded else []
        parts += [_indented("Its journal:", self.journal)] if self.journal else []
        return "\n".join(parts)


@dataclass(frozen=True)
class Verdict:
    """What the gate found. ``warnings`` are complaints of healthy instances, each told once: ``cache: ...``."""

    unhealthy: list[Unhealthy]
    warnings: list[str]


def gate(
    session: Session, app: AppSettings, release: str, addresses: Iterable[str], instances: Iterable[str]
) -> Verdict:
    """Waits until ``instances`` (``a-0`` ...) are healthy on all ``addresses``; tells which did not get there.

    Raises OperationFailed when the host lacks the Node.js of the release.
    """
    answers = _look(session, app, release, addresses, instances, health=app.health, seconds=SECONDS)
    unhealthy = [
        Unhealthy(
            instance=f"{app.name}@{answer['instance']}",
            reason=answer["reason"],
            status=answer.get("status"),
            body=answer.get("body") or answer.get("error") or "",
            degraded=tuple(answer.get("degraded", ())),
            journal=journal(session, f"{app.name}@{answer['instance']}.service"),
        )
        for answer in answers
        if not answer["good"]
    ]
    warnings = dict.fromkeys(text for answer in answers if answer["good"] for text in answer.get("degraded", ()))
    return Verdict(unhealthy, list(warnings))


def wait_for_queue(
    session: Session, app: AppSettings, release: str, addresses: Iterable[str], instances: Iterable[str]
) -> None:
    """Waits until ``instances``, which nginx has just left, have accepted every connection made before.

    A server that stops resets the connections still in the queues of its sockets: on a host short of
    CPU these were up to 11 s old (measured: 60 answers 502 in 1587). Gives up after ``app.drain`` seconds.
    ``release`` is the one whose runtime does the waiting.
    """
    _look(session, app, release, addresses, instances, health=None, seconds=app.drain)


def _look(
    session: Session,
    app: AppSettings,
    release: str,
    addresses: Iterable[str],
    instances: Iterable[str],
    *,
    health: str | None,
    seconds: int,
) -> list[dict[str, Any]]:
    """Runs ``runtime/gate.cjs`` of ``release`` on the host; an answer for each instance."""
    meta = f"{app.root}/releases/{release}/.roadbed"
    ports = {name: port_of(app, name) for name in instances}
    wanted = {
        "app": app.name,
        "release": release,
        "addresses": list(addresses),
        "domain": app.domain,
        "health": health,
        "seconds": seconds,
        "instances": ports,
    }
    node = f'node=$(readlink {meta}/node); [ -x "$node" ] || {{ echo "$node is missing" >&2; exit 69; }}'
    command = f'{node}; "$node" {meta}/runtime/gate.cjs {shlex.quote(json.dumps(wanted))}'
    result = session.run(command, timeout=seconds + 60, check=False)
    answers = [json.loads(line) for line in result.out.splitlines() if line.startswith("{")]
    if len(answers) != len(ports):
        said = result.err.strip() or result.out.strip()
        raise OperationFailed(f"{session.name}: the health gate did not run: {said}")
    return answers


def port_of(app: AppSettings, instance: str) -> int:
    """The port of an instance such as ``a-0``."""
    slot, _, number = instance.partition("-")
    return app.ports(slot, int(number) + 1)[-1]


def journal(session: Session, unit: str) -> str:
    """The last lines of a unit in the journal."""
    command = f"journalctl --unit {shlex.quote(unit)} --lines {JOURNAL_LINES} --no-pager --output cat"
    return session.run(command, check=False).out.strip()


def _indented(title: str, text: str) -> str:
    return "\n".join([f"  {title}", *(f"    {line}" for line in text.splitlines())])
