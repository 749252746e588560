"""What a host is asked for the log of a component: the journal, and the files of those that write their own."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from roadbed.deploys.app import MAX_REPLICAS, SLOTS, AppSettings

from .log_entries import NGINX_ERROR, POSTGRES, Entry, FileLog, access_entry, journal_entry

ROLES = {"app": "app", "nginx": "web", "redis": "cache", "postgres": "database", "pgbouncer": "pooler"}
"""Component -> the role of the hosts that have its log."""
UNITS = {
    "nginx": ("nginx.service",),
    "redis": ("redis-server@cache.service", "redis-server@durable.service", "redis-sentinel.service"),
    "postgres": ("postgresql@*-main.service",),
    "pgbouncer": ("pgbouncer.service",),
}
FIELDS = "MESSAGE,UNIT,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER"
"""Fields of the journal that people see; the rest is sent for programs alone."""
ACCESS, ERROR = "/var/log/nginx/access.log", "/var/log/nginx/error.log"
POSTGRES_FILES = "/var/log/postgresql/postgresql-*-main.log"
NO_SLOT = 66
"""Exit code of a host that has the release in no slot."""


@dataclass(frozen=True)
class Asked:
    """What the user wants to see: at most ``lines`` of each source, from ``since`` on, with ``grep`` in them.

    ``since`` is a shell expression for seconds since 1970, as the host's clock has them. ``whole`` asks for all
    fields of the journal.
    """

    lines: int
    since: str | None = None
    grep: str | None = None
    follow: bool = False
    whole: bool = False
    instance: str | None = None
    release: str | None = None


@dataclass(frozen=True)
class Source:
    """One stream of lines. ``command(cursor, again)`` is what the host runs: from ``cursor`` of the journal on, or
    without what is there already when it is asked ``again``. ``reader()`` makes a function that reads its lines."""

    name: str
    command: Callable[[str | None, bool], str]
    reader: Callable[[], Callable[[str], Entry | None]]


def sources(component: str, app: AppSettings, asked: Asked, unit: str | None = None) -> list[Source]:
    """The sources of a component; ``unit`` is the name of a systemd unit, for the component ``unit``."""
    if component == "app":
        return [_app(app, asked)]
    found = [] if asked.instance or asked.release else [_journal(_units(unit, component), asked)]
    if component == "nginx":
        fields = {"instance": asked.instance, "release": asked.release}
        texts = [f'"{name}":"{value}"' for name, value in fields.items() if value]
        found.append(_file("access", ACCESS, asked, texts, access_entry))
        found += [] if texts else [_file("error", ERROR, asked, [], None)]
    if component == "postgres":
        found.append(_file("postgres", f"$(ls -t {POSTGRES_FILES} 2>/dev/null | head -n 1)", asked, [], None))
    return found


def _units(unit: str | None, component: str) -> str:
    return " ".join(f"--unit={shlex.quote(name)}" for name in ((unit,) if unit else UNITS[component]))


def _app(app: AppSettings, asked: Asked) -> Source:
    """What the instances and systemd say of the app.

    Not by --unit with a pattern: that finds the units the journal has now, and a rollout that is followed
    starts others.
    """
    every = [app.unit(slot, number) for slot in SLOTS for number in range(MAX_REPLICAS)]
    if asked.release:
        before = _slots(app, asked.release)
        own = '$(for s in $slots; do for n in $(seq 0 %d); do echo "%s@$s-$n.service"; done; done)'
        names = own % (MAX_REPLICAS - 1, app.name)
        matches = f"$(for u in {names}; do echo _SYSTEMD_UNIT=$u; done) + $(for u in {names}; do echo UNIT=$u; done)"
        return _journal(f"{matches} _PID=1", asked, app.name, before)
    if asked.instance:
        unit = f"{app.name}@{asked.instance}.service"
        return _journal(f"_SYSTEMD_UNIT={unit} + UNIT={unit} _PID=1", asked, app.name)
    told = " ".join(f"UNIT={unit}" for unit in every)
    return _journal(f"SYSLOG_IDENTIFIER={app.name} + {told} _PID=1", asked, app.name)


def _slots(app: AppSettings, release: str) -> str:
    """Shell that finds the slots which a release is in, and since when: a slot is used again by later ones."""
    return f"""\
slots= begun= there=
for s in {" ".join(SLOTS)}; do
  link={app.root}/slots/$s
  is=$(readlink $link) || continue
  there="$there $s: ${{is##*/}}"
  [ "${{is##*/}}" = {shlex.quote(release)} ] || continue
  slots="$slots $s" at=$(stat -c %Y $link)
  [ "${{begun:-$at}}" -lt "$at" ] || begun=$at
done
[ "$slots" ] || {{ echo "release {release} is in no slot; there are$there" >&2; exit {NO_SLOT}; }}
[ "${{since:-0}}" -gt "$begun" ] || since=$begun
"""


def _journal(matches: str, asked: Asked, app: str = "", before: str = "") -> Source:
    words = ["journalctl --quiet --no-pager --output=json --all"]
    words += [] if asked.whole else [f"--output-fields={FIELDS}"]
    words += [f"--case-sensitive=yes --grep={shlex.quote(_literal(asked.grep))}"] if asked.grep else []

    def command(cursor: str | None, again: bool) -> str:
        if cursor:
            place = [f"--follow --no-tail --after-cursor={shlex.quote(cursor)}"]
        elif asked.follow:
            place = [f"--follow --lines={0 if again else asked.lines}", "${since:+--since=@$since}"]
        else:
            place = [f"--reverse --lines={asked.lines}", "${since:+--since=@$since}"]
        return f"since={asked.since or ''}\n{before}exec {' '.join([*words, *place, matches])}"

    return Source("journal", command, lambda: lambda line: journal_entry(line, app))


def _literal(text: str) -> str:
    """A regular expression (PCRE2) for exactly this text."""
    return re.sub(r"([^\w\s])", r"\\\1", text, flags=re.ASCII)


def _file(name: str, path: str, asked: Asked, texts: list[str], read: Callable[[str], Entry | None] | None) -> Source:
    """A log file and the one before it (logrotate(8) calls that .1)."""
    wanted = [shlex.quote(text) for text in (*texts, *([asked.grep] if asked.grep else []))]

    def command(_: str | None, again: bool) -> str:
        begin = (
            f"since={asked.since or ''}\necho \"$(date '+%s %z') $since\"\n"
            f'f={path}\n[ -e "$f" ] || {{ echo "there is no log ${{f:-file}}" >&2; exit; }}\n'
        )
        if asked.follow:
            lines = 0 if again else asked.lines
            found = "".join(f" | grep --line-buffered -F -e {text}" for text in wanted)
            return f'{begin}tail -q -n {lines} -F "$f" 2>/dev/null{found}'
        if not wanted:
            return f'{begin}tail -q -n {asked.lines} "$f.1" "$f" 2>/dev/null | tail -n {asked.lines}'
        first, *rest = wanted
        found = "".join(f" | grep -F -e {text}" for text in rest)
        return f'{begin}grep -h -F -e {first} "$f.1" "$f" 2>/dev/null{found} | tail -n {asked.lines}'

    def reader() -> Callable[[str], Entry | None]:
        return FileLog(name, POSTGRES if name == "postgres" else NGINX_ERROR, read).take

    return Source(name, command, reader)
