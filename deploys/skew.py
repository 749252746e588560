"""Skew: after a rollout, open pages of the release before are served by it for a while (``app.skew``).

One of its instances stays on each app host, and a flag on each web host leads the requests that name it there. Both
end without the control machine, in this order: first the flags, then the instances.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyinfra.operations import files, systemd

from .files import DAEMON_RELOAD, settle, write_template

if TYPE_CHECKING:
    from .context import Context

UNITS = "/etc/systemd/system"
FLAGS = "roadbed-skew-flags"
"""Unit and program on web hosts: removes flags that are older than ``app.skew``, once a minute."""
INSTANCES = "roadbed-skew-instances"
"""Unit and program on app hosts: stops the instances, once a minute."""
LATER = 120
"""Seconds by which an instance outlives its flags. A timer may be a minute and some seconds late, and each host goes
by its own clock: only spans of time count, and an instance is noted after its flags."""


def upstreams(name: str, slots: Mapping[str, list[str]], first: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Groups of nginx for requests that name a kept release: ``<name>_<active slot>_after_<its slot>_old``.

    ``slots`` are the servers of each slot, ``first`` those of its instances 0. The kept instances are asked; when none
    takes a connection, after a reboot for instance, the active slot serves: a POST too, for nothing was sent. While
    the slot itself is still the active one, which is so for a moment in each rollout, all its instances share the work.
    """
    return {
        f"{name}_{active}_after_{old}_old": slots[active]
        if old == active
        else [*first[old], *(f"{server} backup" for server in slots[active])]
        for active in slots
        for old in slots
    }


def remove_flags_in_time(ctx: "Context") -> None:
    """On web hosts: the timer that ends the time of a kept release."""
    values = {"seconds": ctx.inventory.app.skew}
    _timer(ctx, "nginx", FLAGS, values, name="Forget kept releases in time, now and at boot")


def stop_in_time(ctx: "Context") -> None:
    """On app hosts: the timer that stops the instances of a kept release, after their flags have gone."""
    folder = ctx.inventory.app.skewed
    for path in (folder.rpartition("/")[0], folder):
        files.directory(name=f"Create {path}", path=path, mode="755", user="root", group="root")
    values = {"seconds": ctx.inventory.app.skew + LATER}
    _timer(ctx, "app", INSTANCES, values, name="Stop kept instances in time, now and at boot")


def _timer(ctx: "Context", component: str, unit: str, values: Mapping[str, int], *, name: str) -> None:
    program = f"/usr/local/lib/roadbed/{unit.removeprefix('roadbed-')}"
    path = program.rpartition("/")[0]
    files.directory(name=f"Create {path}", path=path, mode="755", user="root", group="root")
    write_template(component, program, ctx, mode="755", validate="sh -n {file}")
    service = {**values, "program": program}
    write_template(component, f"{UNITS}/{unit}.service", ctx, values=service, debts=(DAEMON_RELOAD,))
    write_template(component, f"{UNITS}/{unit}.timer", ctx, debts=(DAEMON_RELOAD,))
    settle(name="Have systemd read its units", debt=DAEMON_RELOAD)
    systemd.service(name=name, service=f"{unit}.timer", running=True, enabled=True)
