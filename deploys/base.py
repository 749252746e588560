"""Base: the operating system under every role, from its packages to its clock, kernel settings, swap and journal."""

import re
from typing import TYPE_CHECKING, Literal
from zoneinfo import available_timezones

from pydantic import Field, field_validator
from pyinfra.operations import apt, files, systemd

from .accounts import system_group, system_user
from .app import MAX_REPLICAS, SLOTS
from .before import remember
from .files import DAEMON_RELOAD, settle, write_template
from .model import Settings
from .packages import refresh_package_lists, repair_packages
from .swap import SWAP_UNIT, ensure_swap, swap_mb
from .system import apply_kernel_settings, ensure_time_sync, set_locale, set_timezone

if TYPE_CHECKING:
    from .context import Context

ROLES = ("*",)
NEEDS: tuple[str, ...] = ()
STATE = "/var/lib/roadbed"
"""What Roadbed keeps on a host: restart debts, changes that may still be reverted, uploads."""
PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "gzip",
    "iproute2",
    "procps",
    "tar",
    "tzdata",
    "unattended-upgrades",
    "xz-utils",
)
"""Same names on Debian 12 and 13 and on Ubuntu 22.04, 24.04 and 26.04."""
SYSCTL_FILE = "/etc/sysctl.d/60-roadbed.conf"
RESOLVED = "systemd-resolved"
SYSCTL: dict[str, str] = {
    "net.core.somaxconn": "8192",
    "net.ipv4.tcp_max_syn_backlog": "8192",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.ip_local_port_range": "16384 65535",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.tcp_fin_timeout": "30",
    "net.ipv4.tcp_keepalive_time": "300",
    "net.ipv4.tcp_keepalive_intvl": "30",
    "net.ipv4.tcp_keepalive_probes": "5",
    "net.ipv4.tcp_slow_start_after_idle": "0",
    "net.ipv4.tcp_mtu_probing": "1",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.default.accept_redirects": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv6.conf.all.accept_redirects": "0",
    "net.ipv6.conf.default.accept_redirects": "0",
    "vm.swappiness": "10",
    "kernel.panic": "10",
    "kernel.kptr_restrict": "1",
    "kernel.dmesg_restrict": "1",
    "fs.inotify.max_user_instances": "512",
}
"""Meaning of each: kernel documentation, networking/ip-sysctl and admin-guide/sysctl. A deep accept
queue for bursts of connections, more ports towards upstreams, dead peers noticed within 7.5 min,
no pause in a stream after idling, no redirects, and a reboot 10 s after a kernel panic."""


class BaseSettings(Settings):
    """The operating system."""

    timezone: str = Field("UTC", description="Time zone of the host, such as Europe/Berlin. Logs are easiest in UTC.")
    locale: str = Field(
        "C.UTF-8",
        pattern=r"^(C|[a-z]{2,3}_[A-Z]{2})\.UTF-8$",
        description="Locale of services and logins. C.UTF-8 needs nothing generated.",
    )
    swap: Literal["auto", "off"] | int = Field(
        "auto", description="Swap file in MiB; auto: 2048 where memory is below 4 GiB and there is no swap yet."
    )
    updates: bool = Field(True, description="Install security updates every day (unattended-upgrades).")
    reboot: str | None = Field(
        None,
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
        description="Time of day, HH:MM, for a reboot that an update needs. Without it Roadbed never reboots a host.",
    )
    journal: int = Field(500, ge=50, le=100_000, description="Most the journal may take on disk, in MiB.")
    sysctl: dict[str, str | int] = Field({}, description="Kernel settings to add to Roadbed's, or to replace them.")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        zones = available_timezones()
        if (zones and value not in zones) or not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}", value):
            raise ValueError(f"'{value}' is not a time zone. Write one such as UTC or Europe/Berlin")
        return value

    @field_validator("swap")
    @classmethod
    def _swap_size(cls, value: str | int) -> str | int:
        if isinstance(value, int) and not 64 <= value <= 65536:
            raise ValueError(f"{value} is outside 64-65536 MiB. Write a size in MiB, auto, or off")
        return value

    @field_validator("sysctl")
    @classmethod
    def _sysctl_lines(cls, value: dict[str, str | int]) -> dict[str, str | int]:
        for key, setting in value.items():
            if not re.fullmatch(r"[a-z][a-zA-Z0-9_-]*(\.[a-zA-Z0-9_-]+)+", key) or "\n" in str(setting):
                raise ValueError(f"'{key}' is not a kernel setting. Write one such as net.core.somaxconn: 8192")
        return value


def kernel_settings(ctx: "Context") -> dict[str, str]:
    """Roadbed's kernel settings with those of the inventory over them, as sysctl(8) spells them.

    The ports of the app's slots are kept from being given to outgoing connections.
    """
    app = ctx.inventory.app
    slots = f"{app.port}-{app.port + len(SLOTS) * MAX_REPLICAS - 1}"
    own = {key: " ".join(str(value).split()) for key, value in ctx.inventory.base.sysctl.items()}
    return SYSCTL | {"net.ipv4.ip_local_reserved_ports": slots} | own


def deploy(ctx: "Context") -> None:
    """Packages, updates, clock, kernel settings, limits, swap, journal, and the app's user and folders."""
    settings, kernel = ctx.inventory.base, kernel_settings(ctx)
    remember(name="Write down what was there before", settings=kernel)
    write_template("base", "/etc/apt/apt.conf.d/60roadbed", ctx, validate="apt-config -c {file} dump >/dev/null")
    repair_packages(name="Finish interrupted installations")
    refresh_package_lists(name="Update the package lists", hours=24)
    apt.packages(name="Install base packages", packages=list(PACKAGES), no_recommends=True)
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        systemd.service(name=f"Enable {timer}", service=timer, running=True, enabled=True)

    set_timezone(name=f"Set the time zone to {settings.timezone}", zone=settings.timezone)
    ensure_time_sync(name="Keep the clock in sync")
    if not settings.locale.startswith("C."):
        from pyinfra.operations import server  # which imports every package manager that pyinfra knows

        apt.packages(name="Install locales", packages=["locales"], no_recommends=True)
        server.locale(name=f"Generate the locale {settings.locale}", locale=settings.locale)
    set_locale(name=f"Set the locale to {settings.locale}", locale=settings.locale)

    write_template("base", SYSCTL_FILE, ctx, values={"sysctl": kernel}, debts=("sysctl",))
    apply_kernel_settings(name="Apply kernel settings", settings=kernel, file=SYSCTL_FILE)
    write_template("base", "/etc/systemd/system.conf.d/60-roadbed.conf", ctx, debts=(DAEMON_RELOAD,))
    write_template("base", f"/etc/systemd/system/{SWAP_UNIT}", ctx, debts=(DAEMON_RELOAD,))
    settle(name="Reload systemd", debt=DAEMON_RELOAD)
    ensure_swap(
        name="Make the swap file",
        size=swap_mb(settings.swap, ctx.me.memory_mb),
        unless_present=settings.swap == "auto",
    )
    write_template("base", "/etc/systemd/journald.conf.d/60-roadbed.conf", ctx, debts=("systemd-journald",))
    settle(name="Restart the journal on new settings", debt="systemd-journald")
    write_template("base", "/etc/systemd/resolved.conf.d/60-roadbed.conf", ctx, debts=(RESOLVED,))
    settle(
        name="Restart the resolver on new settings",
        debt=RESOLVED,
        command=f"if systemctl -q is-active {RESOLVED}; then systemctl restart {RESOLVED}; fi",
        healthy=f"! systemctl -q is-failed {RESOLVED}",
    )
    _folders(ctx)


def _folders(ctx: "Context") -> None:
    """State folders on every host; the app's user and folders where the app runs or its files are served."""
    for path, mode in ((STATE, "755"), (f"{STATE}/pending", "755"), (f"{STATE}/tmp", "700")):  # noqa: S108
        files.directory(name=f"Create {path}", path=path, user="root", group="root", mode=mode)
    if not {"web", "app"} & set(ctx.host.roles):
        return
    app = ctx.inventory.app
    system_group(name=f"Create the group {app.name}", group=app.name)
    system_user(name=f"Create the system user {app.name}", user=app.name, group=app.name, home=app.root)
    for path in (app.root, f"{app.root}/releases"):
        files.directory(name=f"Create {path}", path=path, user="root", group="root", mode="755")
    cache = f"/var/cache/{app.name}"
    files.directory(name=f"Create {cache}", path=cache, user=app.name, group=app.name, mode="750")
