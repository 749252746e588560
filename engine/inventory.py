"""The inventory: hosts, their roles, and one settings block a component."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, PrivateAttr, field_validator, model_validator

from roadbed.deploys.app import AppSettings
from roadbed.deploys.base import BaseSettings
from roadbed.deploys.build import BuildSettings
from roadbed.deploys.edge import EdgeSettings
from roadbed.deploys.firewall import FirewallSettings
from roadbed.deploys.health import HealthSettings
from roadbed.deploys.model import Settings
from roadbed.deploys.nginx import NginxSettings
from roadbed.deploys.node import NodeSettings
from roadbed.deploys.pgbouncer import PgbouncerSettings
from roadbed.deploys.postgres import PostgresSettings
from roadbed.deploys.redis import RedisSettings

Role = Literal["web", "app", "cache", "pooler", "database", "monitor"]
ROLES: tuple[str, ...] = get_args(Role)
HOST_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DNS_NAME = re.compile(
    r"^(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$"
)


class SshSettings(Settings):
    """How the hosts are reached."""

    user: str = Field("root", pattern=r"^[a-z_][a-z0-9_-]{0,31}$", description="Login user: root, or one with sudo.")
    key: Path | None = Field(None, description="Private key file. Without it: the SSH agent and ~/.ssh.")
    port: int = Field(22, ge=1, le=65535, description="Port of sshd on every host.")
    jump: str | None = Field(
        None,
        pattern=r"^([a-z_][a-z0-9_-]{0,31}@)?[A-Za-z0-9.-]+(:[0-9]{1,5})?$",
        description="One host to go through, user@host:port.",
    )


class MachineSettings(Settings):
    """The local machine that plays this host in a rehearsal."""

    suite: Literal["bookworm", "trixie"] = Field("trixie", description="Debian release of the local machine.")
    memory: int | None = Field(None, ge=512, description="Memory in MiB. Default: no limit, or by role with Vagrant.")
    cpus: float | None = Field(None, gt=0, le=64, description="Processors. Default: no limit; 2 with Vagrant.")


class Host(Settings):
    """One machine."""

    address: str = Field(description="IP address or DNS name that SSH connects to.")
    private: str | None = Field(None, description="Address the other hosts use. Default: address.")
    key: Path | None = Field(None, description="Private key file of this host alone. Default: ssh.key.")
    roles: tuple[Role, ...] = Field((), description="What the host does. Default on a single host: all of them.")
    machine: MachineSettings = Field(
        MachineSettings(), description="Used by `provision machines` and `rehearse` alone."
    )

    @field_validator("address", "private")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not _is_address(value):
            raise ValueError(f"'{value}' is neither an IP address nor a DNS name. Write one, such as 203.0.113.10")
        return value

    @property
    def inside(self) -> str:
        """The address the other hosts use for this one."""
        return self.private or self.address


class Inventory(Settings):
    """One stack. Read once, frozen, and shared by deploys, templates, checks and rehearsals."""

    app: AppSettings = Field(description="The Next.js project and how it runs.")
    build: BuildSettings = Field(BuildSettings(), description="Where a release is built.")
    ssh: SshSettings = Field(SshSettings(), description="How the hosts are reached.")
    hosts: Annotated[dict[str, Host], Field(min_length=1, description="The machines by name.")]
    base: BaseSettings = Field(BaseSettings(), description="The operating system.")
    firewall: FirewallSettings = Field(FirewallSettings(), description="Open ports and SSH hardening.")
    node: NodeSettings = Field(NodeSettings(), description="The Node.js runtime.")
    nginx: NginxSettings = Field(NginxSettings(), description="The web server in front of the app.")
    health: HealthSettings = Field(HealthSettings(), description="Which instances nginx may use.")
    edge: EdgeSettings = Field(EdgeSettings(), description="What nginx answers without asking the app.")
    redis: RedisSettings = Field(RedisSettings(), description="Redis for the shared cache and for what must be kept.")
    postgres: PostgresSettings = Field(PostgresSettings(), description="The database of the app.")
    pgbouncer: PgbouncerSettings = Field(PgbouncerSettings(), description="The pool of database connections.")

    _path: Path | None = PrivateAttr(default=None)

    @field_validator("hosts")
    @classmethod
    def _names(cls, hosts: dict[str, Host]) -> dict[str, Host]:
        for name in hosts:
            if not re.fullmatch(HOST_NAME, name):
                raise ValueError(f"{name!r} is not a host name. Use lower-case letters, digits and dashes")
        return hosts

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = list(_duplicates(self.hosts)) + list(_unfilled(self.hosts, self.build.host))
        if not self.redis.external:
            problems += _cache_group({name: self.hosts[name] for name in self.with_role("cache")})
        for hook in ("before_build", "after_build") if self.build.host else ():
            if getattr(self.app.hooks, hook):
                problems.append(
                    f"app/hooks/{hook}: runs on this machine, and build/host builds elsewhere. Make it a part of the "
                    "build script in package.json, or remove build/host"
                )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def path(self) -> Path:
        """The file this inventory was read from. Raises ValueError for one made in memory."""
        if self._path is None:
            raise ValueError("this inventory was not read from a file")
        return self._path

    @property
    def source(self) -> Path:
        """Where ``app.source`` is on this machine: the project's folder, or a release file.

        Of a git repository it is not known before that was asked: see ``releases/checkout.py``.
        """
        return (self.path.parent / Path(self.app.source).expanduser()).resolve()

    def with_source(self, source: str) -> Self:
        """The same stack with another ``app.source``. Raises ValueError for one that is not valid."""
        app = AppSettings.model_validate({**self.app.model_dump(), "source": source})
        return self.model_copy(update={"app": app})

    @property
    def name(self) -> str:
        """The stack's name: the file name without its ending."""
        return self.path.stem

    def beside(self, suffix: str) -> Path:
        """A file that belongs to this inventory: ``prod.yml`` and ``.known_hosts`` give ``prod.known_hosts``."""
        return self.path.with_name(self.path.stem + suffix)

    def roles_of(self, name: str) -> tuple[str, ...]:
        """The roles of a host."""
        return self.hosts[name].roles

    def with_role(self, *roles: str) -> list[str]:
        """Names of the hosts that have any of ``roles``, in the order of the file; ``*`` means every host."""
        return [name for name, host in self.hosts.items() if "*" in roles or set(roles) & set(host.roles)]


def _is_address(value: str) -> bool:
    if not _is_ip(value):
        return bool(DNS_NAME.fullmatch(value)) and not re.fullmatch(r"[0-9.]+", value)
    return "%" not in value  # a zone (RFC 4007) means nothing on another host, and may hold any character


def _duplicates(hosts: dict[str, Host]) -> list[str]:
    seen: dict[str, str] = {}
    problems = []
    for name, host in hosts.items():
        for key, value in (("address", host.address), ("private", host.private)):
            first = seen.setdefault(value, f"{name}/{key}") if value else f"{name}/{key}"
            if first.split("/")[0] != name:
                problems.append(f"hosts/{name}/{key}: {value} is also hosts/{first}. Give each host its own address")
    return problems


def _unfilled(hosts: dict[str, Host], builder: str | None) -> list[str]:
    """Roles that nobody has, and hosts without one; a host may do nothing but build."""
    if builder is not None and builder not in hosts:
        return [f"build/host: there is no host {builder}. Hosts: {', '.join(hosts)}"]
    have = {role for host in hosts.values() for role in host.roles}
    problems = [
        f"hosts: no host has the role {role}. Add it to the roles of a host"
        for role in ("web", "app")
        if role not in have
    ]
    idle = [
        f"hosts/{name}/roles: has no role. Roles: {', '.join(ROLES)}"
        for name, host in hosts.items()
        if not host.roles and name != builder
    ]
    return idle or problems


def _cache_group(hosts: dict[str, Host]) -> list[str]:
    """What is wrong with several cache hosts. One serves alone; Sentinel votes on the master of several."""
    if len(hosts) == 2:
        return [
            f"hosts: {' and '.join(hosts)} have the role cache, and of two neither can tell whether the other one is "
            "gone. Leave it on one host, or give it to three or more"
        ]
    if len(hosts) == 1:
        return []
    return [
        f"hosts/{name}/{'private' if host.private else 'address'}: '{host.inside}' is a name, but Sentinel keeps "
        f"addresses. Write the IP address that {name} has on the inside"
        for name, host in hosts.items()
        if not _is_ip(host.inside)
    ]


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
