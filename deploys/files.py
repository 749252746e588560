"""Files and services with restart debts: what changed is restarted, even if the first run died in between.

A file that needs a restart leaves a marker on the host, ``/var/lib/roadbed/pending/<unit>``,
before the new content is put in place. Only a restart that ends healthy removes it, so a run
that was killed anywhere is finished by the next one. (Handlers that live in the memory of the
control process are lost with it: ansible/ansible#10498, #40315.)
"""

from collections.abc import Generator
from hashlib import sha256
from typing import Any, Protocol, cast

from pyinfra import context
from pyinfra.api.command import FunctionCommand, QuoteString, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import OperationMeta, operation

from .context import Context
from .render import render

PENDING = "/var/lib/roadbed/pending"
DAEMON_RELOAD = "daemon-reload"
"""Debt of a changed unit file: systemd has to read its units again."""


class Writer(Protocol):
    """What ``write_file`` needs of the connection: see ``roadbed.engine.session.Session.write``."""

    def write(
        self,
        path: str,
        data: bytes,
        *,
        mode: str,
        user: str,
        group: str,
        validate: str | None,
        debts: tuple[str, ...],
    ) -> None: ...


class FileState(FactBase[tuple[str, str, str, str] | None]):
    """(mode, user, group, sha256) of a regular file, or None."""

    def command(self, path: str) -> StringCommand:
        quoted = QuoteString(path)
        return StringCommand(
            "if [ -f",
            quoted,
            "] && [ ! -L",
            quoted,
            "]; then stat -c '%a %U %G'",
            quoted,
            "&& sha256sum <",
            quoted,
            "; fi",
        )

    def process(self, output: list[str]) -> tuple[str, str, str, str] | None:
        if len(output) < 2:
            return None
        mode, user, group = output[0].split()
        return mode, user, group, output[1].split()[0]


class Debts(FactBase[list[str]]):
    """Names of the restarts this host still owes."""

    def command(self) -> str:
        return f"if [ -d {PENDING} ]; then ls -1 {PENDING}; fi"

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: list[str]) -> list[str]:
        return [line for line in output if line]


def _owed() -> set[str]:
    """Debts that a plan predicts: nothing was written, so no marker exists yet."""
    owed: set[str] = context.host.connector_data.setdefault("roadbed_debts", set())
    return owed


def _put(dest: str, data: bytes, options: dict[str, Any]) -> None:
    writer = cast(Writer, context.host.connector)
    writer.write(dest, data, **options)


@operation()
def write_file(
    dest: str,
    content: str | bytes,
    mode: str = "644",
    user: str = "root",
    group: str = "root",
    validate: str | None = None,
    debts: tuple[str, ...] = (),
) -> Generator[FunctionCommand, None, None]:
    """Puts ``content`` at ``dest``, atomically, and only if something differs.

    ``validate`` is a shell command that must succeed on the new content before it replaces the
    old one; ``{file}`` in it stands for the path of the new content. ``debts`` are the units to
    restart (see ``settle``), or ``DAEMON_RELOAD``. The content never appears in a command, a log or an argv.
    """
    data = content.encode() if isinstance(content, str) else content
    if context.host.get_fact(FileState, path=dest) == (
        mode.lstrip("0"),
        user,
        group,
        sha256(data).hexdigest(),
    ):
        context.host.noop(f"{dest} is up to date")
        return
    _owed().update(debts)
    options = {"mode": mode, "user": user, "group": group, "validate": validate, "debts": debts}
    yield FunctionCommand(_put, (dest, data, options), {})


def write_template(
    component: str,
    dest: str,
    ctx: Context,
    *,
    name: str | None = None,
    values: dict[str, Any] | None = None,
    **options: Any,
) -> OperationMeta:
    """``write_file`` with the rendered template of ``component`` for ``dest``; it takes the same ``options``."""
    text = render(component, dest, ctx, **(values or {}))
    meta: OperationMeta = write_file(name=name or f"Write {dest}", dest=dest, content=text, **options)
    return meta


@operation()
def settle(debt: str, command: str | None = None, healthy: str | None = None) -> Generator[str, None, None]:
    """Pays a debt: runs ``command`` (default: ``systemctl restart <debt>``) if the host owes ``debt``.

    ``healthy`` is a shell command that must succeed within 30 s afterwards (default for a unit:
    ``systemctl is-active``). Only then is the marker removed; until then every run tries again.
    """
    if debt not in context.host.get_fact(Debts) and debt not in _owed():
        return
    if debt == DAEMON_RELOAD:
        command, healthy = "systemctl daemon-reload", "true"
    yield command or f"systemctl restart {debt}"
    check = healthy or f"systemctl is-active --quiet {debt}"
    yield f"for i in $(seq 60); do if {check}; then rm -f {PENDING}/{debt}; exit 0; fi; sleep 0.5; done; {check}"
    _owed().discard(debt)
