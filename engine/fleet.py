"""The hosts of an inventory, connected: one session each, kept over all components."""

from collections.abc import Callable, Container, Iterable
from typing import TypeVar

from roadbed.deploys.context import HostFacts

from .answers import list_path
from .connect import key_file, open_session
from .errors import HostUnreachable, RoadbedError
from .facts import read_facts
from .hostkeys import KnownHosts
from .inventory import Inventory
from .parallel import each
from .session import Session

Answer = TypeVar("Answer")


class Fleet:
    """Sessions and facts of the hosts that answered, and the errors of those that did not."""

    def __init__(self, inventory: Inventory, *, sudo_password: str | None = None) -> None:
        self.inventory = inventory
        self.known = KnownHosts(inventory.beside(".known_hosts"))
        self.sessions: dict[str, Session] = {}
        self.facts: dict[str, HostFacts] = {}
        self.failures: dict[str, RoadbedError] = {}
        self._sudo_password = sudo_password

    def connect(
        self,
        names: Iterable[str] | None = None,
        *,
        ahead: Container[str] = (),
        opened: Callable[[Session, str], None] = lambda session, name: None,
    ) -> None:
        """Connects to the hosts at the same time and reads their facts. Never raises for one host: see ``failures``.
        A key file that is missing is an InventoryError before the first packet.

        The hosts in ``ahead`` are asked in the same round trip what the last run asked them. ``opened`` is called
        for each host before it is asked anything.
        """

        def one(name: str) -> tuple[Session, HostFacts]:
            session = self._open(name)
            opened(session, name)
            if name in ahead:
                session.answers.expect(list_path(self.inventory.path, name))
            return session, read_facts(session)

        wanted = list(names or self.inventory.hosts)
        for name in wanted:
            key_file(self.inventory, name)
        for name, answer in each(wanted, one).items():
            if isinstance(answer, RoadbedError):
                self.failures[name] = answer
            else:
                self.sessions[name], self.facts[name] = answer

    def reconnect(self, name: str) -> Session:
        """A new connection to a host that was rebooted, in the place of the old one. Raises HostUnreachable."""
        if old := self.sessions.pop(name, None):
            old.close()
        self.sessions[name] = self._open(name)
        return self.sessions[name]

    def set_aside(self, names: Iterable[str]) -> None:
        """Ends the connections to all other hosts than ``names``; what was learnt of them stays, as facts."""
        for name in [name for name in self.sessions if name not in names]:
            self.sessions.pop(name).close()
        self.failures = {name: error for name, error in self.failures.items() if name in names}

    def session(self, name: str) -> Session:
        """The session of a host. Raises the error that kept it from connecting."""
        if name in self.sessions:
            return self.sessions[name]
        raise self.failures.get(name) or HostUnreachable(f"{name}: is not connected")

    def each(self, names: Iterable[str], work: Callable[[Session, str], Answer]) -> dict[str, Answer | RoadbedError]:
        """``work(session, name)`` on several hosts at once; a host's RoadbedError is its answer."""
        return each(names, lambda name: work(self.session(name), name))

    def forget(self) -> None:
        """Hosts may have changed: what they answered is not valid any more."""
        for session in self.sessions.values():
            session.answers.forget()

    def fresh_login(self, name: str) -> None:
        """Logs in with a second, new connection and ends it: proof that the way in still works.

        Raises HostUnreachable. Used before a change of firewall or sshd is made final.
        """
        self._open(name).close()

    def close(self) -> None:
        """Ends all connections."""
        for session in list(self.sessions.values()):
            session.close()

    def _open(self, name: str) -> Session:
        return open_session(self.inventory, name, self.known, sudo_password=self._sudo_password)

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
