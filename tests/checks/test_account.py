"""The app's system user and folders, where the app runs or its files are served (component base)."""

import pytest
from testinfra.host import Host

from roadbed.deploys.context import Context

ROLES = ("web", "app")


def test_user_cannot_log_in(host: Host, ctx: Context) -> None:
    """The app's user is a system user without a shell and without a password."""
    user = host.user(ctx.inventory.app.name)
    assert user.exists
    assert (user.uid < 1000, user.shell) == (True, "/usr/sbin/nologin")
    assert host.check_output(f"passwd -S {ctx.inventory.app.name}").split()[1] == "L"


def test_user_has_no_other_groups(host: Host, ctx: Context) -> None:
    """The app's user is in its own group alone."""
    name = ctx.inventory.app.name
    assert host.check_output(f"id -Gn {name}") == name


@pytest.mark.parametrize("folder", ["", "/releases"])
def test_app_cannot_change_its_code(host: Host, ctx: Context, folder: str) -> None:
    """The app's user can read but not write where releases are."""
    app = ctx.inventory.app
    path = f"{app.root}{folder}"
    assert host.check_output(f"stat -c '%a %U %G' {path}") == "755 root root"
    assert host.run(f"setpriv --reuid={app.name} --regid={app.name} --clear-groups test -w {path}").rc == 1


def test_cache_is_private_to_the_app(host: Host, ctx: Context) -> None:
    """The app's cache folder is its own, and nobody else can read it."""
    name = ctx.inventory.app.name
    assert host.run(f"setpriv --reuid={name} --regid={name} --clear-groups test -w /var/cache/{name}").rc == 0
    assert host.run(f"setpriv --reuid=nobody --regid=nogroup --clear-groups test -x /var/cache/{name}").rc == 1
