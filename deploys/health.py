"""Health: web hosts ask every instance whether it answers, and keep requests away from one that does not.

nginx itself notices an instance that hangs, or whose host is gone, only by the timeout of each request. So a small
service asks all of them every second; what does not answer is refused by a rule of nftables, which nginx passes
over at once. Why this and not nginx's own counting of failures: docs/adr/0005-health-beside-nginx.md.
"""

from ipaddress import ip_address
from typing import TYPE_CHECKING

from pydantic import Field
from pyinfra.operations import apt, files, systemd

from .app import SLOTS
from .environment import app_address
from .files import DAEMON_RELOAD, settle, write_template
from .model import Settings

if TYPE_CHECKING:
    from .context import Context

ROLES = ("web",)
NEEDS = ("nginx",)
UNIT = "roadbed-health.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
PROGRAM = "/usr/local/lib/roadbed/health"
INSTANCES = "/etc/roadbed/health.instances"
TABLE = "/etc/roadbed/health.nft"
STATE = "/run/roadbed/health/instances.json"
"""What the service thinks of each instance, for people and for monitoring; written when it changes."""
ASKED = "/run/roadbed/health/asked"
"""Its time is that of the last round of questions."""
NGINX_USER = "www-data"


class HealthSettings(Settings):
    """Which instances nginx may use: asked all the time, from phase2 on."""

    enabled: bool = Field(True, description="Keep requests away from instances that do not answer.")
    interval: int = Field(1, ge=1, le=10, description="Seconds between two questions to an instance.")
    timeout: int = Field(2, ge=1, le=10, description="Seconds an instance may take to answer. Two misses put it aside.")

    @property
    def longest(self) -> int:
        """Seconds until an instance that ceased to answer is put aside: the round under way, and two more."""
        return 3 * max(self.interval, self.timeout)

    @property
    def hold(self) -> int:
        """Seconds for which the kernel keeps a refusal that is not renewed: the service may have died."""
        return max(10, 3 * (self.interval + self.timeout))


def instances(ctx: "Context") -> list[tuple[str, str, str, str]]:
    """(group, server, host, instance) of all that this host's nginx may send to, in any slot.

    Groups are those of nginx.upstreams without the app's name: ``a``, and ``a_old`` for the instance that outlives
    its release. Raises ValueError for a host whose inside address is a name: the rule needs the address.
    """
    found, app = [], ctx.inventory.app
    for slot in SLOTS:
        for host in ctx.app_hosts():
            address = _checked(host, app_address(ctx, host))
            for number, port in enumerate(app.ports(slot, ctx.sizing(host).replicas)):
                server = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
                groups = (slot, f"{slot}_old") if number == 0 else (slot,)
                found += [(group, server, host, f"{slot}-{number}") for group in groups]
    return found


def _checked(host: str, address: str) -> str:
    try:
        return str(ip_address(address))
    except ValueError:
        raise ValueError(
            f"hosts/{host}/private: '{address}' is a name, but health works by address. Write the IP address that "
            f"{host} has on the inside, or set health/enabled: false"
        ) from None


def deploy(ctx: "Context") -> None:
    """The service with its table of nftables; without it, neither is left."""
    if not ctx.inventory.health.enabled:
        systemd.service(name="Stop asking the instances", service=UNIT, running=False, enabled=False)
        for path in (UNIT_FILE, PROGRAM, INSTANCES, TABLE):
            files.file(name=f"Remove {path}", path=path, present=False)
        return
    apt.packages(
        name="Install curl, nftables and iproute2", packages=["curl", "iproute2", "nftables"], no_recommends=True
    )
    restart = (UNIT,)
    for path in ("/etc/roadbed", "/usr/local/lib/roadbed"):
        files.directory(name=f"Create {path}", path=path, mode="755", user="root", group="root")
    write_template("health", INSTANCES, ctx, values={"instances": instances(ctx)}, debts=restart)
    write_template("health", TABLE, ctx, values={"nginx": NGINX_USER}, validate="nft -c -f {file}", debts=restart)
    write_template("health", PROGRAM, ctx, values={"slots": SLOTS}, mode="755", validate="sh -n {file}", debts=restart)
    values = {"program": PROGRAM, "instances": INSTANCES, "table": TABLE}
    write_template("health", UNIT_FILE, ctx, values=values, debts=(DAEMON_RELOAD, UNIT))
    settle(name="Have systemd read its units", debt=DAEMON_RELOAD)
    settle(name="Ask the instances of the new settings", debt=UNIT)
    systemd.service(name="Ask the instances now and at boot", service=UNIT, running=True, enabled=True)
