"""App: the Next.js server as hardened systemd services in fixed slots and ports."""

import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from .model import Settings

if TYPE_CHECKING:
    from .context import Context

ROLES = ("app",)
NEEDS = ("base", "node")
SLOTS = ("a", "b", "c")
MAX_REPLICAS = 20
"""Ports of one slot: a slot is a fixed range, so that a rollout never edits nginx."""
RESERVED_NAMES = frozenset({"root", "admin", "nginx", "www-data", "redis", "postgres", "pgbouncer", "roadbed", "nobody", "node", "app", "sshd", "daemon"})


class AppSettings(Settings):
    """The Next.js project and how it runs."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$", description="Name of the services, the system user and the folders.")
    source: str = Field(description="Project folder (relative to the inventory), or a built release file (.tar.gz).")
    domain: str = Field(description="Public host name.")
    aliases: tuple[str, ...] = Field((), description="More public host names, redirected to domain.")
    replicas: int | Literal["auto"] = Field("auto", description="Instances on each app host; auto: from CPU and RAM.")
    memory: int | Literal["auto"] = Field("auto", description="MemoryMax of one instance in MiB; auto: from RAM.")
    port: int = Field(5000, ge=1024, le=65000, description="First port of slot a. Slots b and c follow, 20 ports each.")
    env: dict[str, str] = Field({}, description="Environment of the app. No secrets here: see secrets.")
    secrets: tuple[str, ...] = Field((), description="Names of encrypted values that the app gets as environment variables.")
    health: str = Field("/", pattern=r"^/", description="Path that must answer below 400 before an instance gets traffic.")
    streaming: str | None = Field(None, pattern=r"^/", description="Path of a page that streams, for the streaming probe.")
    drain: int = Field(30, ge=1, le=600, description="Longest request in seconds that a stopping instance finishes.")
    keep: int = Field(3, ge=2, le=20, description="Releases kept on each host.")

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value in RESERVED_NAMES:
            raise ValueError(f"'{value}' is the name of a system user. Choose another, such as {value}-web")
        return value

    @field_validator("domain", "aliases")
    @classmethod
    def _host_names(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (value,) if isinstance(value, str) else value:
            if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+", name):
                raise ValueError(f"'{name}' is not a host name in lower case, such as shop.example.com")
        return value

    @field_validator("replicas")
    @classmethod
    def _replicas(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= MAX_REPLICAS:
            raise ValueError(f"{value} is outside 1-{MAX_REPLICAS}. Use more app hosts for more instances")
        return value

    @property
    def root(self) -> str:
        """Folder of the app on a host: releases/<id> and current."""
        return f"/srv/{self.name}"

    @property
    def route(self) -> str:
        """Folder of the flag files by which nginx chooses a slot; root writes, www-data reads."""
        return f"/var/lib/roadbed/{self.name}/route"

    def ports(self, slot: str, replicas: int) -> list[int]:
        """Ports of the instances of a slot, instance 0 first."""
        first = self.port + SLOTS.index(slot) * MAX_REPLICAS
        return list(range(first, first + replicas))

    def unit(self, slot: str, number: int) -> str:
        """systemd unit of one instance: ``storefront@a-0.service``."""
        return f"{self.name}@{slot}-{number}.service"


def deploy(ctx: "Context") -> None:
    """Users, folders, units and environment of the app; the release itself comes with the rollout."""
    raise NotImplementedError
