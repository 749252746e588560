"""What a host has of the app: its releases, slots, instances and flags, as ``host/inspect.sh`` prints them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from roadbed.deploys.app import SLOTS, AppSettings
from roadbed.engine.session import Session

from .scripts import script


@dataclass(frozen=True)
class ReleaseOnHost:
    """A complete release. ``state`` is healthy, failed or unknown; ``digest`` is that of ``Artefact.digest``.

    ``deployment`` is the id by which its pages name it to the server; None when they do not.
    """

    state: str
    digest: str
    deployment: str | None = None


@dataclass(frozen=True)
class HostState:
    """One host. An instance is named by slot and number, ``a-0``, its state is systemd's ActiveState.

    ``flags`` are the files by which nginx chooses a slot (web hosts only); ``free_kb`` is what
    the file system of /srv has left, ``available_kb`` the memory for more processes (None: unknown). ``debt``:
    environment or unit changed since the instances started. ``kept`` are the slots whose instance 0 is kept for
    open pages, until the host itself stops it. ``nginx``: it runs, and knows domain and ports of the app.
    ``migrated`` are the lines of ``AppSettings.migrated``. ``switching``: action and release of a rollout that has
    begun to switch and has not come to its end.
    """

    arch: str = ""
    free_kb: int = 0
    available_kb: int | None = None
    releases: dict[str, ReleaseOnHost] = field(default_factory=dict)
    slots: dict[str, str] = field(default_factory=dict)
    current: str | None = None
    public: str | None = None
    static: str | None = None
    flags: frozenset[str] = frozenset()
    instances: dict[str, str] = field(default_factory=dict)
    enabled: frozenset[str] = frozenset()
    debt: bool = False
    kept: frozenset[str] = frozenset()
    nginx: bool = False
    migrated: tuple[str, ...] = ()
    switching: tuple[str, str] | None = None

    def serving(self) -> str | None:
        """The slot nginx on this host sends requests to; None before the first release.

        As nginx.conf decides it: a later slot's flag wins over an earlier one's, so that adding
        the new flag before removing the old one never leaves a moment without a slot.
        """
        return next((slot for slot in reversed(SLOTS) if f"active.{slot}" in self.flags), None)

    def running(self) -> set[str]:
        """Instances that have processes, those that are being stopped included."""
        return {name for name, state in self.instances.items() if state not in ("inactive", "failed")}


def inspect(session: Session, app: AppSettings, *, owed: bool = False) -> HostState:
    """Reads the state of a host in one round trip, changing nothing. Raises HostUnreachable.

    ``owed``: a dry run has found that the environment or a unit of the app would change.
    """
    given = {"app": app.name, "root": app.root, "route": app.route, "skewed": app.skewed, "migrated": app.migrated}
    lines = session.read(script("inspect", **given, domain=app.domain, port=str(app.port))).out.splitlines()
    state = parse(lines)
    return replace(state, debt=state.debt or owed)


def released(states: Mapping[str, HostState], slot: str) -> str | None:
    """The release in a slot, as the first app host has it; None where none has."""
    return next((state.slots[slot] for state in states.values() if slot in state.slots), None)


def serves(states: Mapping[str, HostState]) -> str | None:
    """The release that visitors get: that in the slot of the flags, and where there are none ``current``.

    After a run that died between the switch and its last step, ``current`` is still the release of before.
    """
    slots = {slot for state in states.values() if (slot := state.serving())}
    now = released(states, slots.pop()) if len(slots) == 1 else None
    return now or next((state.current for state in states.values() if state.current), None)


def parse(lines: Iterable[str]) -> HostState:
    """The state that the lines of ``host/inspect.sh`` tell."""
    facts: dict[str, list[list[str]]] = {}
    for line in lines:
        word, *values = line.split()
        facts.setdefault(word, []).append(values)

    def one(word: str) -> str | None:
        return next((values[0] for values in facts.get(word, []) if values), None)

    return HostState(
        arch=one("arch") or "",
        free_kb=int(one("free") or 0),
        available_kb=int(found) if (found := one("available")) else None,
        releases={
            release: ReleaseOnHost(state, digest, None if named == "-" else named)
            for release, state, digest, named in facts.get("release", [])
        },
        slots={values[0]: values[1] for values in facts.get("slot", [])},
        current=one("current"),
        public=one("public"),
        static=one("static"),
        flags=frozenset(values[0] for values in facts.get("flag", [])),
        instances={values[0]: values[1] for values in facts.get("instance", [])},
        enabled=frozenset(values[0] for values in facts.get("enabled", [])),
        debt="debt" in facts,
        kept=frozenset(values[0] for values in facts.get("kept", [])),
        nginx="nginx" in facts,
        migrated=tuple(" ".join(values) for values in facts.get("migrated", [])),
        switching=next(((values[0], values[1]) for values in facts.get("switching", []) if len(values) == 2), None),
    )
