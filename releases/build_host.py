"""The host that builds: connected when it is first needed, held for one build at a time, and asked for its budget."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from roadbed.deploys.build import Budget, budget
from roadbed.deploys.context import Context, HostFacts
from roadbed.deploys.node import NodeBuild, NodeSettings
from roadbed.engine.connect import open_session
from roadbed.engine.errors import HostUnreachable, OperationFailed, Refused
from roadbed.engine.facts import read_facts
from roadbed.engine.hostkeys import KnownHosts
from roadbed.engine.inventory import Inventory
from roadbed.engine.session import Session

from . import cache
from .node_builds import resolve
from .scripts import script
from .unit import BASE, RUN, USER

Say = Callable[[str], None]
LOCK = "/run/roadbed-build.lock"
HOLD = f"""
exec 9>> {LOCK}
flock -n 9 || {{ echo busy; flock -w 14400 9 || exit 1; }}
echo held
exec cat > /dev/null
"""
"""Holds the lock until standard input ends, which is when this machine closes the channel, or is gone."""


@dataclass
class BuildHost:
    """``builds`` is the Node.js of each architecture. ``say`` is told what goes on, ``echo`` each line of output."""

    inventory: Inventory
    name: str
    builds: Mapping[str, NodeBuild]
    say: Say
    echo: Say
    password: str | None = None
    tools: set[str] = field(default_factory=set)
    """Names of the programs that are there, in ``BASE/tools``."""
    free_mb: int = 0
    """What the file system of ``BASE`` has left, in MiB."""

    @cached_property
    def session(self) -> Session:
        """The connection. Raises HostUnreachable or Refused."""
        known = KnownHosts(self.inventory.beside(".known_hosts"))
        return open_session(self.inventory, self.name, known, sudo_password=self.password)

    @cached_property
    def facts(self) -> HostFacts:
        """What the host is; its architecture is remembered here."""
        facts = read_facts(self.session)
        if facts.systemd < 247:  # LoadCredential=, ProtectProc=
            raise OperationFailed(
                f"{self.name}: systemd {facts.systemd} cannot bound a build. Use Debian 12, 13 or Ubuntu LTS"
            )
        _remember(self._address, f"linux-{facts.arch}")
        return facts

    @property
    def platform(self) -> str:
        """Platform of what is built there. A host that is away has the one of last time: a release may be there."""
        try:
            return f"linux-{self.facts.arch}"
        except HostUnreachable:
            if known := _remembered().get(self._address):
                return known
            raise

    @property
    def node(self) -> NodeBuild:
        """The Node.js that builds there. Raises InventoryError when there is none for the architecture."""
        build = self.builds.get(self.facts.arch)
        if build and build.url:
            return build
        settings = build.settings if build else NodeSettings()
        return resolve(NodeSettings(version=settings.version) if settings.from_apt else settings, self.facts.arch)

    @contextmanager
    def held(self, app: str) -> Iterator[Budget]:
        """The host, for one build, and what that may take of it. A second one waits.

        Raises Refused, with the sum, when the host has too little memory.
        """
        with self.session.start(HOLD) as channel:
            channel.settimeout(4 * 3600)
            lines = channel.makefile("r")
            if (said := lines.readline().strip()) == "busy":
                self.say(f"{self.name}: waiting for another build there to end")
                said = lines.readline().strip()
            if said != "held":
                raise OperationFailed(f"{self.name}: the lock of builds, {LOCK}, was not to be had")
            yield self._prepare(app)

    def _prepare(self, app: str) -> Budget:
        given = {"base": BASE, "run": RUN, "user": USER, "app": app}
        facts: dict[str, list[str]] = {}
        for line in self.session.run(script("build-prepare", **given)).out.splitlines():
            word, _, value = line.partition(" ")
            facts.setdefault(word, []).append(value)
        self.tools, self.free_mb = set(facts.get("tool", [])), int(facts["free"][0])
        self.session.write(f"{RUN}/run", script("build-run").encode(), mode="755")
        context = Context(self.inventory, "phase1", self.name, {self.name: self.facts}, _no_secret)
        try:
            found = budget(context, int(facts["available"][0]))
        except ValueError as error:
            raise Refused(f"{self.name}: {error}") from None
        self.say(f"{self.name}: {found.sum}")
        return found

    def close(self) -> None:
        """Ends the connection, if there is one."""
        if "session" in self.__dict__:
            self.session.close()

    @property
    def _address(self) -> str:
        return self.inventory.hosts[self.name].address


def _no_secret(name: str) -> str:
    raise KeyError(name)


def _memory() -> Path:
    return cache.cache_root() / "builds" / "hosts.json"


def _remembered() -> dict[str, str]:
    try:
        known = json.loads(_memory().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(address: str, platform: str) -> None:
    known = _remembered()
    if known.get(address) != platform:
        file = _memory()
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{time.monotonic_ns()}")
        partial.write_text(json.dumps({**known, address: platform}))
        partial.replace(file)
