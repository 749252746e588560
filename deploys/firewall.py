"""Firewall: nftables that lets in what the inventory declares and nothing else, and a hardened sshd.

The rules are one table of their own, ``inet roadbed``, in /etc/roadbed/firewall.nft, loaded by
roadbed-firewall.service before the network is up. Not in /etc/nftables.conf: the unit of Debian and
Ubuntu that loads that file flushes the whole ruleset, with the tables of Docker and others in it.
What is forwarded (containers) and what goes out is left alone. Both changes are guarded: see guard.py.
"""

import ipaddress
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator
from pyinfra import context
from pyinfra.api.operation import operation
from pyinfra.operations import apt, files, systemd

from .app import MAX_REPLICAS, SLOTS
from .environment import askers
from .files import DAEMON_RELOAD, settle, write_template
from .guard import Holds, guarded_file
from .model import Settings
from .peers import PORTS, clients, networks_of, ports
from .render import render
from .sshd import harden, soften

if TYPE_CHECKING:
    from .context import Context

ROLES = ("*",)
NEEDS = ("base",)
RULES = "/etc/roadbed/firewall.nft"
UNIT = "roadbed-firewall.service"
LOADED = "/var/lib/roadbed/firewall.loaded"
"""Checksum of the table as the kernel listed it when it was loaded: tells when somebody changed it since."""
LISTING = "nft -s list table inet roadbed"
APPLY = (
    f"if [ -e {RULES} ]; then nft -f {RULES} && {LISTING} | sha256sum > {LOADED}; "
    "else nft delete table inet roadbed; fi"
)
IN_FORCE = f"[ -e {LOADED} ] && {LISTING} | sha256sum | cmp -s - {LOADED}"

OTHERS = (
    "grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf || { command -v firewalld && systemctl -q is-active firewalld.service; }"
)


class AllowSettings(Settings):
    """One more port to open."""

    port: int = Field(ge=1, le=65535, description="Port number.")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="tcp or udp.")
    sources: tuple[str, ...] = Field((), alias="from", description="Networks that may use it. Default: anywhere.")
    comment: str = Field("", pattern=r"^[A-Za-z0-9 .,:/()_-]{0,100}$", description="Why it is open.")

    @field_validator("sources")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return networks(value)


class FirewallSettings(Settings):
    """Open ports and SSH hardening."""

    enabled: bool = Field(True, description="Let in only what is declared. false removes Roadbed's rules.")
    allow: tuple[AllowSettings, ...] = Field((), description="More ports to open on every host.")
    ssh_from: tuple[str, ...] = Field((), description="Networks that may use SSH. Default: anywhere.")
    ssh_hardening: bool = Field(True, description="Keys only, no forwarding of X11, short login time.")
    log: bool = Field(False, description="Log what is dropped, at most 5 lines a second.")

    @field_validator("ssh_from")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return networks(value)


def networks(values: tuple[str, ...]) -> tuple[str, ...]:
    """Networks as CIDR. Raises ValueError for what is not an address or network."""
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(f"'{value}' is not a network ({error}). Write one such as 203.0.113.0/24") from None
    return tuple(str(ipaddress.ip_network(value)) for value in values)


@dataclass(frozen=True)
class Rule:
    """One opening: ``first`` to ``last`` port, and the networks that may use it (empty: anywhere)."""

    first: int
    last: int
    protocol: str
    sources: tuple[str, ...]
    comment: str

    @property
    def ports(self) -> str:
        """As nftables writes it: ``443`` or ``5000-5059``."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    @property
    def matches(self) -> list[str]:
        """The source part of the rule, once for each address family that has sources.

        Networks within one another are merged: nftables refuses a set with overlapping intervals.
        """
        if not self.sources:
            return [""]
        all_of_them = [ipaddress.ip_network(source) for source in self.sources]
        v4 = ipaddress.collapse_addresses(n for n in all_of_them if isinstance(n, ipaddress.IPv4Network))
        v6 = ipaddress.collapse_addresses(n for n in all_of_them if isinstance(n, ipaddress.IPv6Network))
        families = (("ip", [str(n) for n in v4]), ("ip6", [str(n) for n in v6]))
        return [f"{family} saddr {{ {', '.join(mine)} }} " for family, mine in families if mine]


def openings(ctx: "Context") -> list[Rule]:
    """Every port this host lets in, in the order of the rules. Checks compare it with what listens."""
    inventory, roles = ctx.inventory, ctx.host.roles
    settings, app = inventory.firewall, inventory.app
    rules = [Rule(inventory.ssh.port, inventory.ssh.port, "tcp", settings.ssh_from, "ssh")]
    if "web" in roles:
        rules += [Rule(80, 80, "tcp", (), "http"), Rule(443, 443, "tcp", (), "https")]
    if "app" in roles and (others := askers(ctx, ctx.name)):
        last = app.port + len(SLOTS) * MAX_REPLICAS - 1
        rules.append(Rule(app.port, last, "tcp", networks_of(ctx, others, "app ports"), "app, from the web hosts"))
    if ctx.reached("phase2"):
        rules += _data_openings(ctx)
    rules += [Rule(one.port, one.port, one.protocol, one.sources, one.comment or "allowed") for one in settings.allow]
    return rules


def _data_openings(ctx: "Context") -> list[Rule]:
    """The ports of cache, pooler and database, each for the hosts whose role uses it and for no other."""
    rules = []
    for role in PORTS:
        if others := clients(ctx, role):
            sources = networks_of(ctx, others, f"{role} ports")
            rules += [Rule(port, port, "tcp", sources, f"{role}, from those who use it") for port in ports(ctx, role)]
    return rules


@operation()
def refuse_other_managers() -> Generator[str, None, None]:
    """Fails where ufw or firewalld is at work: a packet has to pass both, and neither shows the other's rules."""
    if context.host.get_fact(Holds, check=OTHERS):
        yield (
            "echo 'firewall: ufw or firewalld is active here, and both would decide. Turn it off (ufw disable), "
            "or set firewall/enabled: false' >&2; exit 1"
        )


def deploy(ctx: "Context") -> None:
    """Hardens sshd, then closes every port that is not declared."""
    settings = ctx.inventory.firewall
    for unit in ("roadbed-revert.service", UNIT, "nftables.service.d/60-roadbed.conf"):
        write_template("firewall", f"/etc/systemd/system/{unit}", ctx, debts=(DAEMON_RELOAD,))
    settle(name="Reload systemd", debt=DAEMON_RELOAD)
    systemd.service(
        name="Enable the revert of unconfirmed changes", service="roadbed-revert.service", running=None, enabled=True
    )
    if settings.ssh_hardening:
        harden(ctx)
    else:
        soften(name="Take back the settings of sshd")
    if not settings.enabled:
        systemd.service(name="Stop the firewall", service=UNIT, running=False, enabled=False)
        files.file(name=f"Remove {RULES}", path=RULES, present=False)
        return
    refuse_other_managers(name="Look for another firewall")
    apt.packages(name="Install nftables", packages=["nftables"], no_recommends=True)
    guarded_file(
        name="Close every port that is not declared",
        guard="firewall",
        dest=RULES,
        content=render("firewall", RULES, ctx, rules=openings(ctx)),
        validate="nft -c -f {file}",
        apply=APPLY,
        in_force=IN_FORCE,
    )
    systemd.service(name="Load the firewall at every boot", service=UNIT, running=True, enabled=True)
