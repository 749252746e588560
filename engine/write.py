"""The shell script that puts a file in place: see ``Session.write``."""

import base64
import shlex

from roadbed.deploys.before import keep
from roadbed.deploys.files import PENDING


def write_script(path: str, data: bytes, mode: str, owner: str, validate: str | None, debts: tuple[str, ...]) -> str:
    """One command that writes ``data`` beside ``path``, checks it, keeps what is there, and renames it.

    ``owner``: ``user:group``. It leaves nothing behind when it fails.
    """
    folder, _, base = path.rpartition("/")
    fresh = shlex.quote(f"{folder}/.roadbed-{base}.new")
    before = [
        f"mkdir -p -- {shlex.quote(folder or '/')}",
        f"rm -f -- {fresh}",
        f"(umask 077; : > {fresh})",
        f"chown {shlex.quote(owner)} {fresh}",
    ]
    after = [f"chmod {shlex.quote(mode)} {fresh}"]
    after += [validate.replace("{file}", fresh)] if validate else []
    after += [f"mkdir -p {PENDING}"] if debts else []
    after += [f": > {PENDING}/{shlex.quote(debt)}" for debt in debts]
    after += [keep(path), f"mv -fT -- {fresh} {shlex.quote(path)}"]
    script = (
        " &&\n".join(before)
        + f" &&\nbase64 -d > {fresh} <<'ROADBED_END' &&\n{base64.encodebytes(data).decode()}ROADBED_END\n"
        + " &&\n".join(after)
    )
    return f"(\n{script}\n) </dev/null || {{ rm -f -- {fresh}; false; }}"
