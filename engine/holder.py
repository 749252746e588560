"""Who holds the lock of a stack on a host, as the record there says it."""

import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime

from .session import Session


@dataclass(frozen=True)
class Holder:
    """``owner`` is ``user@machine``, ``what`` the command. ``since`` and ``seconds``, how long, by the host's clock.

    ``token`` is that of the shell on the host: some random letters, and the signature of the run (``process.py``).
    """

    owner: str
    what: str
    since: datetime
    seconds: int
    token: str = ""

    def __str__(self) -> str:
        day = f"{self.since:%Y-%m-%d} " if self.seconds >= 12 * 3600 else ""
        return f"{self.owner} since {day}{self.since:%H:%M:%S} UTC ({duration(self.seconds)}): {self.what}"

    def as_json(self) -> dict[str, str | int]:
        """Plain data for ``--json``."""
        return {
            "owner": self.owner,
            "what": self.what,
            "since": self.since.isoformat(),
            "seconds": self.seconds,
        }


def parse(record: str) -> Holder | None:
    """The holder in ``since now pid token owner what``; None when the text has not that form."""
    words = record.strip().split(" ", 5)
    if len(words) < 5 or not (words[0].isdigit() and words[1].isdigit()):
        return None
    since, now = int(words[0]), int(words[1])
    what = words[5] if len(words) > 5 else ""
    return Holder(plain(words[4]), plain(what), datetime.fromtimestamp(since, UTC), max(0, now - since), words[3])


def lock_file(app: str) -> str:
    """The lock of a stack on its hosts. In /run, so that a reboot leaves nothing of it."""
    return f"/run/roadbed/{app}.lock"


ASK = """
file={file}
{{ read -r pid; read -r token; read -r since; read -r owner; read -r what; }} 2>/dev/null < "$file" || exit 0
[ -n "$token" ] && grep -qsF -- "$token" "/proc/$pid/cmdline" || exit 0
echo "$since $(date +%s) $pid $token $owner $what"
"""
"""It does not touch the lock itself: one who takes it at this moment would be refused for nothing."""


def holder_on(session: Session, app: str) -> Holder | None:
    """Who holds the lock of a stack on a host at this moment. Raises HostUnreachable."""
    return parse(session.run(ASK.format(file=shlex.quote(lock_file(app))), check=False).out)


def plain(text: str, length: int = 200) -> str:
    """One line of printable characters, cut to ``length``: what comes from elsewhere must not steer a terminal."""
    line = re.sub(r"\s+", " ", text).strip()
    return "".join(letter for letter in line if letter.isprintable())[:length]


def duration(seconds: float) -> str:
    """``42 s``, ``3 min``, ``2 h 5 min`` or ``4 d 2 h``."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 1:
        return f"{int(seconds)} s"
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
