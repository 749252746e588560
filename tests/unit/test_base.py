"""Base: settings, arithmetic and rendered files."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from roadbed.deploys.accounts import Account, HasGroup, User
from roadbed.deploys.base import BaseSettings, kernel_settings
from roadbed.deploys.render import render
from roadbed.deploys.swap import Swap, SwapState, swap_mb
from roadbed.deploys.system import KernelSettings, Locale, TimeDaemon, UnitState

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("setting", "memory", "size"),
    [("auto", 1024, 2048), ("auto", 4095, 2048), ("auto", 4096, 0), ("off", 512, 0), (1024, 65536, 1024)],
)
def test_swap_is_for_small_machines(setting: Any, memory: int, size: int) -> None:
    assert swap_mb(setting, memory) == size


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"timezone": "Mars/Olympus"}, "'Mars/Olympus' is not a time zone. Write one such as UTC"),
        ({"timezone": "../../etc/passwd"}, "is not a time zone"),
        ({"swap": 12}, "12 is outside 64-65536 MiB"),
        ({"swap": "big"}, "auto"),
        ({"sysctl": {"net.core.somaxconn = 1\nkernel.x": 1}}, "is not a kernel setting"),
        ({"sysctl": {"kernel.panic": "1\nvm.swappiness = 9"}}, "is not a kernel setting"),
        ({"reboot": "25:00"}, "reboot"),
        ({"locale": "de_DE"}, "locale"),
        ({"journal": 1}, "journal"),
        ({"tiemzone": "UTC"}, "tiemzone"),
    ],
)
def test_bad_settings_are_refused(block: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        BaseSettings.model_validate(block)
    assert says in str(refused.value)


def test_inventory_wins_over_kernel_settings(make_context: Make) -> None:
    ctx = make_context(base={"sysctl": {"net.core.somaxconn": 1024, "net.ipv4.tcp_rmem": "4096  131072 6291456"}})
    settings = kernel_settings(ctx)
    assert settings["net.core.somaxconn"] == "1024"
    assert settings["net.ipv4.tcp_rmem"] == "4096 131072 6291456"


def test_app_ports_are_reserved(make_context: Make) -> None:
    settings = kernel_settings(make_context(app={"port": 20000}))
    assert settings["net.ipv4.ip_local_reserved_ports"] == "20000-20059"


def test_kernel_file_goes_on_where_a_setting_is_missing(make_context: Make) -> None:
    ctx = make_context()
    text = render("base", "/etc/sysctl.d/60-roadbed.conf", ctx, sysctl=kernel_settings(ctx))
    settings = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(settings) == len(kernel_settings(ctx))
    assert all(line.startswith("-") and " = " in line for line in settings)


@pytest.mark.parametrize(("updates", "value"), [(True, "1"), (False, "0")])
def test_updates_switch(make_context: Make, updates: bool, value: str) -> None:
    text = render("base", "/etc/apt/apt.conf.d/60roadbed", make_context(base={"updates": updates}))
    assert f'APT::Periodic::Unattended-Upgrade "{value}";' in text
    assert 'Automatic-Reboot "false"' in text


def test_reboot_has_a_time(make_context: Make) -> None:
    text = render("base", "/etc/apt/apt.conf.d/60roadbed", make_context(base={"reboot": "04:30"}))
    assert 'Automatic-Reboot "true"' in text
    assert 'Automatic-Reboot-Time "04:30"' in text


def test_facts_are_read() -> None:
    disk = ["Filesystem 1048576-blocks Used Available Capacity Mounted on", "/dev/vda1 80000 28766 51234 36% /"]
    swaps = ["Filename\tType\tSize\tUsed\tPriority", "/var/lib/roadbed/swap  file  2097148  0  -2"]
    assert SwapState().process([str(2048 * 2**20), *disk, *swaps]) == Swap(2048, True, False, 51234)
    assert SwapState().process(["0", *disk, swaps[0], "/dev/vda2 partition 1 0 -2"]) == Swap(0, False, True, 51234)
    assert SwapState().process(["0", *disk, swaps[0]]) == Swap(0, False, False, 51234)
    assert TimeDaemon().process(["chrony"]) == "chrony"
    assert Locale().process(['"de_DE.UTF-8"']) == "de_DE.UTF-8"
    entry = "shop:x:998:997::/srv/shop:/usr/sbin/nologin"
    assert Account().process([entry, "shop"]) == User("/srv/shop", "/usr/sbin/nologin", "shop")
    assert Account().process([entry]) is None
    assert HasGroup().process(["shop:x:997:"])
    unit = ["Id=shop.target", "ActiveState=active", "UnitFileState=enabled"]
    assert UnitState().process(unit) == ("active", "enabled")
    assert UnitState().process(["Id=shop.target", "ActiveState=inactive", "UnitFileState="]) == ("inactive", "")
    lines = ["net.ipv4.ip_local_port_range = 16384\t65535"]
    assert KernelSettings().process(lines) == {"net.ipv4.ip_local_port_range": "16384 65535"}
