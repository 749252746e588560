"""Operations on the operating system that pyinfra lacks: time zone, locale, kernel settings, time synchronisation.

Each has one fact that decides, so that a second run changes nothing.
"""

from collections.abc import Generator

from pyinfra import context
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation

from .files import PENDING, Debts


class LocalZone(FactBase[bool]):
    """Whether /etc/localtime is the zone ``zone``; two names of one zone (UTC, Etc/UTC) count as the same."""

    def command(self, zone: str) -> StringCommand:
        path = QuoteString(f"/usr/share/zoneinfo/{zone}")
        return StringCommand(
            'if [ "$(readlink -f /etc/localtime)" = "$(readlink -f', path, ')" ] && [ -f', path, "]; then echo yes; fi"
        )

    default = bool

    def process(self, output: list[str]) -> bool:
        return "yes" in output


@operation()
def set_timezone(zone: str) -> Generator[StringCommand, None, None]:
    """Links /etc/localtime to a zone of the tz database, as localtime(5) wants it, without timedated."""
    if context.host.get_fact(LocalZone, zone=zone):
        return
    path = QuoteString(f"/usr/share/zoneinfo/{zone}")
    yield StringCommand("test -f", path, "|| { echo 'base/timezone: this host does not know the zone' >&2; exit 1; }")
    yield StringCommand("ln -sfn", path, "/etc/.roadbed-localtime && mv -fT /etc/.roadbed-localtime /etc/localtime")
    yield StringCommand("if [ -f /etc/timezone ]; then echo", QuoteString(zone), "> /etc/timezone; fi")


class Locale(FactBase[str]):
    """The locale that services and logins get: LANG in /etc/default/locale."""

    def command(self) -> str:
        return "sed -n 's/^LANG=//p' /etc/default/locale 2>/dev/null; true"

    default = str

    def process(self, output: list[str]) -> str:
        return output[-1].strip('"')


@operation()
def set_locale(locale: str) -> Generator[StringCommand, None, None]:
    """Sets LANG. Debian 13 keeps /etc/default/locale as a link to /etc/locale.conf, which stays one."""
    if context.host.get_fact(Locale) == locale:
        return
    yield StringCommand(
        "f=$(readlink -m /etc/default/locale); { grep -s -v '^LANG=' $f; echo",
        QuoteString(f"LANG={locale}"),
        "; } > $f.roadbed && chmod 644 $f.roadbed && mv -f $f.roadbed $f",
    )


class KernelSettings(FactBase[dict[str, str]]):
    """Values of those kernel settings that exist."""

    def command(self, names: list[str]) -> StringCommand:
        return StringCommand("sysctl -e", *(QuoteString(name) for name in names), "2>/dev/null || true")

    default = dict

    def process(self, output: list[str]) -> dict[str, str]:
        pairs = (line.partition("=") for line in output if "=" in line)
        return {key.strip(): " ".join(value.split()) for key, _, value in pairs}


@operation()
def apply_kernel_settings(settings: dict[str, str], file: str) -> Generator[str, None, None]:
    """Loads ``file`` when it has changed, or when the kernel has other network settings than ``settings``.

    The others are not compared: in a container they are the machine's and cannot be set.
    """
    wanted = {name: value for name, value in settings.items() if name.startswith("net.")}
    found = context.host.get_fact(KernelSettings, names=list(wanted))
    if "sysctl" not in context.host.get_fact(Debts) and found and found.items() <= wanted.items():
        return
    yield f"sysctl -q -p {file} && rm -f {PENDING}/sysctl"


class UnitState(FactBase[tuple[str, str]]):
    """(ActiveState, UnitFileState) of a unit. pyinfra's own fact takes an active target for stopped."""

    def requires_command(self, unit: str) -> str:
        return "systemctl"

    def command(self, unit: str) -> str:
        return f"systemctl show --all --property Id --property ActiveState --property UnitFileState {unit}"

    @staticmethod
    def default() -> tuple[str, str]:
        return "unknown", "unknown"

    def process(self, output: list[str]) -> tuple[str, str]:
        said = {key: value for key, _, value in (line.partition("=") for line in output)}
        return said.get("ActiveState", "unknown"), said.get("UnitFileState", "unknown")


class InContainer(FactBase[bool]):
    """Whether the host is a container: clock, swap and most kernel settings are those of its machine."""

    def command(self) -> str:
        return "if systemd-detect-virt -q --container; then echo yes; fi"

    default = bool

    def process(self, output: list[str]) -> bool:
        return "yes" in output


class TimeDaemon(FactBase[str]):
    """The installed time daemon, or nothing. Debian's all provide ``time-daemon`` and name their unit like the
    package."""

    def command(self) -> str:
        return (
            "dpkg-query -W -f '${db:Status-Abbrev}|${Package}|${Provides}\\n' 2>/dev/null"
            r" | sed -n '/^ii[^|]*|\([^|]*\)|.*time-daemon.*/{s//\1/p;q}'"
        )

    default = str

    def process(self, output: list[str]) -> str:
        return output[0]


STARTS = ("enabled", "enabled-runtime", "static", "indirect", "generated", "alias")
"""States in which systemctl(1) calls a unit enabled."""


@operation()
def ensure_time_sync() -> Generator[str, None, None]:
    """Enables the time daemon that is there, be it chrony, ntpsec or openntpd; without one systemd-timesyncd.

    In a container the daemons refuse to start (ConditionVirtualization or ConditionCapability in their units):
    enabled is all that can be asked.
    """
    daemon = context.host.get_fact(TimeDaemon)
    if daemon:
        active, starts = context.host.get_fact(UnitState, unit=f"{daemon}.service")
        if starts in STARTS and (active == "active" or context.host.get_fact(InContainer)):
            context.host.noop(f"{daemon} keeps the clock")
            return
    else:
        yield "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install systemd-timesyncd"
    yield f"systemctl enable --now {daemon or 'systemd-timesyncd'}"
