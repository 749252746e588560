"""What runs on a host: the slot that gets the traffic, its instances, their processes."""

import json
import shlex
from typing import Any

from testinfra.host import Host

from roadbed.deploys.context import Context


def active_slot(ctx: Context, host: Host) -> str:
    """The slot that nginx sends requests to, by its flag files; on a host without nginx the slot of ``current``.

    Raises AssertionError when there is none.
    """
    app = ctx.inventory.app
    if "web" in ctx.host.roles:
        flags = host.run(f"ls {app.route}").stdout.split()
        return next((slot for slot in ("c", "b") if f"active.{slot}" in flags), "a")
    script = f"current=$(readlink -f {app.root}/current); for slot in a b c; do " + (
        f'if [ "$(readlink -f {app.root}/slots/$slot)" = "$current" ] && '
        f"systemctl is-active -q {app.name}@$slot-0; then echo $slot; fi; done"
    )
    slots: list[str] = host.run(script).stdout.split()
    assert slots, f"{app.root}/current leads to no slot that runs"
    return slots[0]


def active_units(ctx: Context, host: Host) -> list[str]:
    """Units that must run: all instances of the active slot."""
    slot = active_slot(ctx, host)
    return [ctx.inventory.app.unit(slot, number) for number in range(ctx.sizing().replicas)]


def active_ports(ctx: Context, host: Host) -> list[int]:
    """Ports of the instances of the active slot, in the order of ``active_units``."""
    return ctx.inventory.app.ports(active_slot(ctx, host), ctx.sizing().replicas)


def pid(host: Host, unit: str) -> int:
    """Main process of a unit."""
    return int(show(host, unit, "MainPID"))


def show(host: Host, unit: str, name: str) -> str:
    """A property of a unit, as ``systemctl show`` prints it."""
    return str(host.check_output(f"systemctl show -p {name} --value {shlex.quote(unit)}")).strip()


def health(host: Host, port: int, address: str = "127.0.0.1") -> dict[str, Any]:
    """What an instance says of itself at one of its addresses."""
    name = f"[{address}]" if ":" in address else address
    answer: dict[str, Any] = json.loads(host.check_output(f"curl -sS -m 5 http://{name}:{port}/.roadbed/health"))
    return answer


def exposure(host: Host, unit: str) -> float:
    """Score of ``systemd-analyze security``: 0 is a perfect sandbox, 10 none."""
    last = host.check_output(f"systemd-analyze security --no-pager {shlex.quote(unit)}").strip().splitlines()[-1]
    return float(last.partition(": ")[2].split()[0])
