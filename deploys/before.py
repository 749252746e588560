"""What was on a host before Roadbed came: `provision remove` puts it back and takes nothing else away.

/var/lib/roadbed/before/
  files/<path>    the file, link or folder that Roadbed's first write to <path> replaced
  absent/<path>   an empty file: there was nothing at <path>
  packages, accounts, groups, units, active, folders, sysctl    as they were before the first run
/var/log/roadbed-left/
  packages, folders    what `provision remove` left here of Roadbed's, until it is told to take that too
"""

import shlex
from collections.abc import Generator, Mapping

from pyinfra import context
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation

BEFORE = "/var/lib/roadbed/before"
LEFT = "/var/log/roadbed-left"
WATCHED = ("/etc/", "/usr/")
"""Where files of Roadbed lie among those of others; its own folders go as a whole."""
SYSTEM_FILES = (
    "/etc/localtime",
    "/etc/timezone",
    "/etc/default/locale",
    "/etc/locale.conf",
    "/etc/locale.gen",
    "/etc/systemd/system/redis-server.service",
    "/etc/systemd/system/redis-sentinel.service",
)
"""What other programs write for Roadbed: timedatectl, locale-gen, update-locale, and masks of units."""
FOLDERS = "/etc /opt /srv /usr/local/lib /usr/local/share /usr/local/bin /var/cache /var/lib /var/backups"
"""Where folders of Roadbed and of packages appear."""


def keep(path: str) -> str:
    """A shell command that keeps what is at ``path``, if it was not kept yet; nothing for paths not watched."""
    if not path.startswith(WATCHED):
        return "true"
    place, file, absent = (shlex.quote(f"{prefix}{path}") for prefix in ("", f"{BEFORE}/files", f"{BEFORE}/absent"))
    return (
        f"if [ ! -e {file} ] && [ ! -L {file} ] && [ ! -e {absent} ]; then "
        f"if [ -e {place} ] || [ -L {place} ]; then {_folder(file)} && cp -a -- {place} {file}; "
        f"else {_folder(absent)} && : > {absent}; fi; fi"
    )


def _folder(quoted: str) -> str:
    return f'(umask 077; mkdir -p -- "$(dirname -- {quoted})")'


class Remembered(FactBase[bool]):
    """Whether this host was looked at before the first change."""

    def command(self) -> str:
        return f"[ -e {BEFORE}/packages ] && echo yes; true"

    def process(self, output: list[str]) -> bool:
        return "yes" in output


@operation()
def remember(settings: Mapping[str, str]) -> Generator[str, None, None]:
    """Writes down what the host has, once, before anything is changed. ``settings``: the sysctl keys to come."""
    if context.host.get_fact(Remembered):
        context.host.noop("what was there before is written down")
        return
    values = "\n".join(f"sysctl -e {shlex.quote(key)} 2>/dev/null" for key in settings)
    yield "\n".join(
        [
            f"(set -e; umask 077; mkdir -p {BEFORE}; chmod 755 /var/lib/roadbed; cd {BEFORE}",
            *(keep(path) for path in SYSTEM_FILES),
            "getent passwd | cut -d: -f1 > accounts; getent group | cut -d: -f1 > groups",
            "systemctl list-unit-files --state=enabled --no-legend | awk '{print $1}' | sort > units",
            "systemctl list-units --type=service,timer --state=active --plain --no-legend "
            "| awk '{print $1}' | sort > active",
            f"theirs() {{ if [ -e {LEFT}/$1 ]; then grep -vxFf {LEFT}/$1 || true; else cat; fi; }}",
            f"{{ find {FOLDERS} -mindepth 1 -maxdepth 1 2>/dev/null || true; }} | theirs folders | sort > folders",
            f"{{ {values}\ntrue; }} > sysctl",
            "dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | sed -n 's/^ii *//p' | theirs packages "
            "| sort -u > .packages",
            f"mv .packages packages; rm -rf {LEFT})",  # last: only then all is written down
        ]
    )
