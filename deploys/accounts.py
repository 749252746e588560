"""System users and groups. Ours, because pyinfra reads every account of a host, and its last login, to make one."""

from collections.abc import Generator
from dataclasses import dataclass

from pyinfra import context
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation


@dataclass(frozen=True)
class User:
    """A user as getent(1) knows it; ``group`` is the name of its primary group."""

    home: str
    shell: str
    group: str


class Account(FactBase[User | None]):
    """One user, or None."""

    def command(self, user: str) -> StringCommand:
        quoted = QuoteString(user)
        return StringCommand("getent passwd", quoted, "&& id -gn", quoted, "|| true")

    def process(self, output: list[str]) -> User | None:
        if len(output) < 2:
            return None
        home, shell = output[0].split(":")[5:7]
        return User(home, shell, output[1])


class HasGroup(FactBase[bool]):
    """Whether a group exists."""

    def command(self, group: str) -> StringCommand:
        return StringCommand("getent group", QuoteString(group), "|| true")

    default = bool

    def process(self, output: list[str]) -> bool:
        return bool(output)


@operation()
def system_group(group: str) -> Generator[StringCommand, None, None]:
    """A group with an id from the range of the system (groupadd(8))."""
    if context.host.get_fact(HasGroup, group=group):
        context.host.noop(f"the group {group} exists")
        return
    yield StringCommand("groupadd --system", QuoteString(group))


@operation()
def system_user(user: str, group: str, home: str) -> Generator[StringCommand, None, None]:
    """A user that cannot log in: no shell, no password, and its home, which is not created, is ``home``."""
    wanted = User(home, "/usr/sbin/nologin", group)
    found = context.host.get_fact(Account, user=user)
    if found == wanted:
        context.host.noop(f"the user {user} is as it should be")
        return
    words = ["-d", QuoteString(home), "-s", wanted.shell, "-g", QuoteString(group), QuoteString(user)]
    yield StringCommand("useradd --system --no-create-home" if found is None else "usermod", *words)
