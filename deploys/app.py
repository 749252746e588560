"""App: the Next.js server as hardened systemd services in fixed slots and ports."""

import re
from collections.abc import Generator
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator
from pyinfra import context
from pyinfra.api.operation import operation
from pyinfra.operations import apt, files

from . import skew
from .cdn import CdnSettings, ImagesSettings, stop_margin
from .environment import CONTROL, environment, environment_file
from .files import DAEMON_RELOAD, settle, write_file, write_template
from .hooks import HooksSettings, one_command
from .model import Settings
from .render import render
from .source import GitSource, git_source
from .system import UnitState

if TYPE_CHECKING:
    from .context import Context

ROLES = ("app",)
NEEDS = ("base", "node", "redis", "postgres", "pgbouncer")
SLOTS = ("a", "b", "c")
MAX_REPLICAS = 20
"""Ports of one slot: a slot is a fixed range, so that a rollout never edits nginx."""
RESERVED_NAMES = frozenset(
    {
        "admin",
        "app",
        "daemon",
        "grafana",
        "nginx",
        "nobody",
        "node",
        "pgbouncer",
        "postgres",
        "prometheus",
        "redis",
        "roadbed",
        "root",
        "sshd",
        "www-data",
    }
)
RESERVED_ENV = frozenset({"PORT", "HOSTNAME", "LD_PRELOAD"})
"""Environment variables that belong to the service: set by the user, they would break it."""
DRAIN_MARGIN = 5
"""Seconds that systemd waits after the longest request before it kills an instance."""
LAUNCHER = "/usr/local/lib/roadbed/launch"


class DatabaseSettings(Settings):
    """What the app asks of the database."""

    pool: int = Field(5, ge=1, le=200, description="Connections that the ORM's pool of one instance may open.")
    driver: Literal["auto", "pg", "postgres", "prisma", "none"] = Field(
        "auto", description="npm package that DATABASE_URL is written for; auto: found in the dependencies."
    )


class RolloutSettings(Settings):
    """How a new release comes to the hosts."""

    batch: int | Literal["all"] = Field("all", description="App hosts that start instances at the same time.")

    @field_validator("batch")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{value} is below 1. Write a number of hosts, or all")
        return value


class AppSettings(Settings):
    """The Next.js project and how it runs."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$", description="Name of the services, the user and the folders.")
    source: str = Field(
        description="Project folder (relative to the inventory), git URL#ref:folder, or a built release file (.tar.gz)."
    )
    domain: str = Field(description="Public host name.")
    aliases: tuple[str, ...] = Field((), description="More public host names, redirected to domain.")
    replicas: int | Literal["auto"] = Field("auto", description="Instances on each app host; auto: from CPU and RAM.")
    memory: int | Literal["auto"] = Field("auto", description="MemoryMax of one instance in MiB; auto: from RAM.")
    port: int = Field(5000, ge=1024, le=65000, description="First port of slot a. Slots b and c follow, 20 ports each.")
    env: dict[str, str] = Field({}, description="Environment of the app. No secrets here: see secrets.")
    secrets: tuple[str, ...] = Field((), description="Names of stored secrets the app gets as environment variables.")
    database: DatabaseSettings = Field(DatabaseSettings(), description="What the app asks of the database.")
    migrate: str | None = Field(
        None, description="Command that migrates the database, run here once for each new release. From phase2 on."
    )
    hooks: HooksSettings = Field(HooksSettings(), description="Commands of yours around a release, run here.")
    images: ImagesSettings = Field(ImagesSettings(), description="Who resizes images.")
    cdn: CdnSettings = Field(CdnSettings(), description="What a CDN in front of the site needs.")
    health: str = Field("/", pattern=r"^/", description="Path that must answer below 400 before traffic comes.")
    streaming: str | None = Field(None, pattern=r"^/", description="Path of a page that streams, for the checks.")
    drain: int = Field(30, ge=1, le=600, description="Longest request in seconds that a stopping instance finishes.")
    keep: int = Field(3, ge=2, le=20, description="Releases kept on each host.")
    skew: int = Field(
        1800,
        ge=0,
        le=86400,
        description="Seconds in which open pages of the last release are still served by it. 0: none.",
    )
    rollout: RolloutSettings = Field(RolloutSettings(), description="How a new release comes to the hosts.")

    @model_validator(mode="after")
    def _environment(self) -> Self:
        for name in (*self.env, *self.secrets):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"'{name}' is not the name of an environment variable. Use A-Z, 0-9 and _")
            if name in RESERVED_ENV:
                raise ValueError(f"'{name}' is set by the service itself. Remove it from env or secrets")
        if bad := [name for name, value in self.env.items() if CONTROL.search(value)]:
            raise ValueError(f"the value of {bad[0]} in env has a control character. Remove it")
        if both := sorted(set(self.env) & set(self.secrets)):
            raise ValueError(f"{', '.join(both)}: in env and in secrets. Keep the one in secrets")
        if self.port + len(SLOTS) * MAX_REPLICAS > 65536:
            raise ValueError(f"port: {self.port} leaves no room for {len(SLOTS) * MAX_REPLICAS} ports. Lower it")
        return self

    @field_validator("source")
    @classmethod
    def _source(cls, value: str) -> str:
        git_source(value)
        return value

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value in RESERVED_NAMES:
            raise ValueError(f"'{value}' is the name of a system user. Choose another, such as {value}-web")
        return value

    @field_validator("migrate")
    @classmethod
    def _one_command(cls, value: str | None) -> str | None:
        return one_command(value)

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
    def git(self) -> GitSource | None:
        """The repository that ``source`` names; None for a path."""
        return git_source(self.source)

    @property
    def root(self) -> str:
        """Folder of the app on a host: releases/<id> and current."""
        return f"/srv/{self.name}"

    @property
    def route(self) -> str:
        """Folder of the flag files by which nginx chooses a slot; root writes, www-data reads."""
        return f"/var/lib/roadbed/{self.name}/route"

    @property
    def skewed(self) -> str:
        """Folder on an app host: a file for each slot whose instance 0 is kept, with the time since when."""
        return f"/var/lib/roadbed/{self.name}/skew"

    @property
    def migrated(self) -> str:
        """File on an app host: one line, ``<key> <release>``, for each release whose migrations have run."""
        return f"/var/lib/roadbed/{self.name}/migrated"

    def ports(self, slot: str, replicas: int) -> list[int]:
        """Ports of the instances of a slot, instance 0 first."""
        first = self.port + SLOTS.index(slot) * MAX_REPLICAS
        return list(range(first, first + replicas))

    def unit(self, slot: str, number: int) -> str:
        """systemd unit of one instance: ``storefront@a-0.service``."""
        return f"{self.name}@{slot}-{number}.service"


@operation()
def start_target(target: str) -> Generator[str, None, None]:
    """Starts a target now and at boot."""
    if context.host.get_fact(UnitState, unit=target) != ("active", "enabled"):
        yield f"systemctl enable --now {target}"


def deploy(ctx: "Context") -> None:
    """Folders, environment and units of the app; its user is made by base.

    It starts no instance and restarts none: that would drop requests. A changed environment or unit
    leaves the debt ``<name>`` on the host, which the release step pays by rolling the release
    into the next slot.
    """
    app, units = ctx.inventory.app, "/etc/systemd/system"
    apt.packages(
        name="Install the allocator, the certificate authorities and curl",
        packages=["ca-certificates", "curl", "libjemalloc2"],
        no_recommends=True,
    )
    folders = {
        "/etc/roadbed": ("755", "root"),
        f"/etc/roadbed/{app.name}": ("750", app.name),
        "/usr/local/lib/roadbed": ("755", "root"),
        f"{app.root}/slots": ("755", "root"),
    }
    for path, (mode, group) in folders.items():
        files.directory(name=f"Create {path}", path=path, mode=mode, user="root", group=group)

    write_file(
        name="Write the environment of the instances",
        dest=f"/etc/roadbed/{app.name}/env",
        content=environment_file(environment(ctx)),
        mode="640",
        group=app.name,
        debts=(app.name,),
    )
    values = {"launcher": LAUNCHER, "slots": SLOTS, "per_slot": MAX_REPLICAS}
    write_template("app", LAUNCHER, ctx, values=values, mode="755", validate="sh -n {file}")
    values = {"launcher": LAUNCHER, "sizing": ctx.sizing(), "margin": DRAIN_MARGIN + stop_margin(ctx)}
    write_file(
        name=f"Write the unit {app.name}@.service",
        dest=f"{units}/{app.name}@.service",
        content=render("app", f"{units}/app@.service", ctx, **values),
        debts=(DAEMON_RELOAD, app.name),
    )
    write_file(
        name=f"Write the unit {app.name}.target",
        dest=f"{units}/{app.name}.target",
        content=render("app", f"{units}/app.target", ctx),
        debts=(DAEMON_RELOAD,),
    )
    settle(name="Have systemd read its units", debt=DAEMON_RELOAD)
    start_target(name=f"Start {app.name}.target now and at boot", target=f"{app.name}.target")
    skew.stop_in_time(ctx)
