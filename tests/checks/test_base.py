"""Base: what the operating system of every host must look like."""

import time
from collections.abc import Callable

from testinfra.host import Host

from roadbed.deploys.base import PACKAGES, kernel_settings
from roadbed.deploys.context import Context
from roadbed.deploys.swap import SWAP_FILE, swap_mb

Measure = Callable[..., None]


def test_no_unit_has_failed(host: Host) -> None:
    """No systemd unit has failed; the managers of people who are logged in do not count."""
    failed = host.check_output("systemctl list-units --failed --plain --no-legend").splitlines()
    assert [unit for unit in failed if not unit.startswith("user@")] == []


def test_no_restart_is_owed(host: Host) -> None:
    """Every changed setting has been taken over by its service."""
    assert host.check_output("ls -A /var/lib/roadbed/pending") == ""


def test_packages_are_whole(host: Host) -> None:
    """dpkg has no half-installed package."""
    assert host.check_output("dpkg --audit") == ""


def test_packages_are_installed(host: Host) -> None:
    """The base packages are installed."""
    installed = host.check_output("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n'").splitlines()
    assert [name for name in PACKAGES if f"ii  {name}" not in installed] == []


def test_kernel_settings(host: Host, ctx: Context) -> None:
    """The kernel has every network setting of the inventory."""
    wanted = {key: value for key, value in kernel_settings(ctx).items() if key.startswith("net.")}
    lines = host.check_output(f"sysctl -e {' '.join(wanted)}").splitlines()
    found = {key.strip(): " ".join(value.split()) for key, _, value in (line.partition("=") for line in lines)}
    assert found, "sysctl knows none of the settings"
    assert {key: value for key, value in found.items() if value != wanted[key]} == {}


def test_open_files(host: Host) -> None:
    """A service may open 65536 files, and raise that to 524288."""
    shown = host.check_output("systemctl show -p DefaultLimitNOFILESoft -p DefaultLimitNOFILE").splitlines()
    assert sorted(shown) == ["DefaultLimitNOFILE=524288", "DefaultLimitNOFILESoft=65536"]


def test_journal_is_bounded(host: Host, ctx: Context, measure: Measure) -> None:
    """The journal on disk stays within its bound."""
    kilobytes = host.check_output("du -sk /var/log/journal | cut -f 1")
    measure("journal on disk", int(kilobytes) / 1024, "MiB", ctx.inventory.base.journal)


def test_journal_settings_are_read(host: Host, ctx: Context) -> None:
    """No later file overrides the bound of the journal."""
    lines = host.check_output("systemd-analyze cat-config systemd/journald.conf").splitlines()
    limits = [line for line in lines if line.startswith("SystemMaxUse=")]
    assert limits[-1] == f"SystemMaxUse={ctx.inventory.base.journal}M"


def test_journal_survives_a_reboot(host: Host) -> None:
    """The journal of this boot is written to disk."""
    assert int(host.check_output("ls /var/log/journal/$(cat /etc/machine-id)/system.journal | wc -l")) == 1


def test_update_timers(host: Host) -> None:
    """The daily timers for package lists and updates are enabled and waiting."""
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert host.check_output(f"systemctl is-enabled {timer}; systemctl is-active {timer}") == "enabled\nactive"


def test_updates_follow_the_inventory(host: Host, ctx: Context) -> None:
    """apt installs updates every day exactly if the inventory says so."""
    wanted = str(int(ctx.inventory.base.updates))
    said = host.check_output("apt-config dump --format '%v%n' APT::Periodic::Unattended-Upgrade")
    assert said == wanted


def test_updates_are_security_updates(host: Host) -> None:
    """Nothing but security archives is upgraded without being asked."""
    origins = host.check_output(
        "apt-config dump --format '%v%n' Unattended-Upgrade::Origins-Pattern Unattended-Upgrade::Allowed-Origins"
    )
    lines = [line for line in origins.splitlines() if line]
    assert any("Debian-Security" in line for line in lines)
    assert [line for line in lines if "-security" not in line.lower()] == []


def test_package_lists_are_fresh(host: Host, measure: Measure) -> None:
    """The package lists are not older than three days."""
    newest = host.check_output(
        "stat -c %Y /var/lib/roadbed/package-lists /var/lib/apt/periodic/update-*stamp 2>/dev/null "
        "| sort -n | tail -n 1"
    )
    now = host.check_output("date +%s")
    measure("age of the package lists", (int(now) - int(newest)) / 3600, "h", 72)


def test_time_daemon(host: Host) -> None:
    """One time daemon is installed and enabled."""
    daemons = host.check_output(
        "dpkg-query -W -f '${db:Status-Abbrev}|${Package}|${Provides}\\n' "
        "| grep '^ii.*|.*|.*time-daemon' | cut -d '|' -f 2"
    ).splitlines()
    assert len(daemons) == 1
    assert host.check_output(f"systemctl is-enabled {daemons[0]}") == "enabled"


def test_clock(host: Host, measure: Measure) -> None:
    """The clock agrees with the control machine's."""
    before = time.time()
    there = float(host.check_output("date +%s.%N"))
    middle = (before + time.time()) / 2
    measure("clock difference", abs(there - middle) * 1000, "ms", 2000)


def test_time_zone(host: Host, ctx: Context) -> None:
    """The time zone is the inventory's."""
    wanted = f"/usr/share/zoneinfo/{ctx.inventory.base.timezone}"
    assert host.check_output("readlink -f /etc/localtime") == host.check_output(f"readlink -f {wanted}")


def test_locale(host: Host, ctx: Context) -> None:
    """The locale is the inventory's, and the C library knows it."""
    locale = ctx.inventory.base.locale
    assert f"LANG={locale}" in host.check_output("cat /etc/default/locale").splitlines()
    assert host.check_output(f"LC_ALL={locale} locale charmap 2>&1") == "UTF-8"


def test_swap(host: Host, ctx: Context) -> None:
    """Roadbed's swap file is in use exactly where the inventory and the machine want it."""
    inside = host.run("systemd-detect-virt -q --container").rc == 0
    lines = host.check_output("tail -n +2 /proc/swaps").splitlines()
    others = [line for line in lines if not line.startswith(f"{SWAP_FILE} ")]
    size = swap_mb(ctx.inventory.base.swap, ctx.me.memory_mb)
    left_alone = inside or (ctx.inventory.base.swap == "auto" and bool(others))
    assert (len(lines) > len(others)) == (size > 0 and not left_alone)


def test_state_folders(host: Host) -> None:
    """Only root can look into Roadbed's folders of uploads and of unfinished changes."""
    shown = host.check_output("stat -c '%a %U %n' /var/lib/roadbed /var/lib/roadbed/tmp /var/lib/roadbed/revert")
    assert shown.splitlines() == [
        "755 root /var/lib/roadbed",
        "700 root /var/lib/roadbed/tmp",
        "700 root /var/lib/roadbed/revert",
    ]


def test_disk_has_room(host: Host, measure: Measure) -> None:
    """The file systems of the system, its state and the app have room."""
    used = host.check_output("df -P / /var /srv | awk 'NR > 1 { print $5 + 0 }' | sort -n | tail -n 1")
    measure("fullest file system", int(used), "%", 90)
