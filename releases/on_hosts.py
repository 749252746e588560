"""The releases that the hosts of a stack have, and what each of them is to the stack: live, good, failed."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from roadbed.deploys.app import AppSettings
from roadbed.engine.errors import InventoryError, OperationFailed
from roadbed.engine.session import Session

from . import cache, history
from .artefact import Artefact
from .history import Switch
from .host_state import HostState
from .manifest import MANIFEST, Manifest
from .scripts import script

LIVE, SKEW, GOOD, FAILED, NEVER, UPLOADED = "live", "kept for skew", "good", "failed", "never healthy", "uploaded"
"""What a release is: it serves; it still answers the pages that it made; it served well, or passed its gate; it served
and then failed a gate; it failed its first gate; it was uploaded and never judged."""


@dataclass(frozen=True)
class Listed:
    """The releases of one host: state and head of the manifest of each, and the history."""

    states: Mapping[str, str]
    heads: Mapping[str, Mapping[str, Any]]
    switches: tuple[Switch, ...]


@dataclass(frozen=True)
class Known:
    """A release of the stack. ``deployed`` and ``owner`` are those of its last switch; None: it never served.

    ``hosts`` are those that have it; ``commit`` is that of git, ``dirty`` means that files differed from it.
    """

    release: str
    state: str
    created: datetime
    commit: str | None
    dirty: bool
    deployed: datetime | None
    owner: str
    hosts: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        times = {"created": self.created.isoformat(), "deployed": self.deployed and self.deployed.isoformat()}
        rest = {"owner": self.owner, "commit": self.commit, "dirty": self.dirty, "hosts": list(self.hosts)}
        return {"release": self.release, "state": self.state, **times, **rest}


def ask(session: Session, app: AppSettings) -> Listed:
    """Reads the releases of a host, changing nothing. Raises HostUnreachable."""
    return parse(session.read(script("releases", root=app.root)).out.splitlines())


def parse(lines: Iterable[str]) -> Listed:
    """What the lines of ``host/releases.sh`` tell; a manifest that cannot be read counts as none."""
    states: dict[str, str] = {}
    heads: dict[str, Mapping[str, Any]] = {}
    told: list[str] = []
    head: list[str] = []
    release = ""
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "@release":
            release, _, states[release] = rest.partition(" ")
            head = []
        elif word == "@end":
            try:
                heads[release] = json.loads("".join(head).rstrip().rstrip(",") + "}")
            except ValueError:
                del states[release]
        elif word == "@history":
            told.append(rest)
        else:
            head.append(line)
    return Listed(states, heads, tuple(history.parse(told)))


def known(listed: Mapping[str, Listed], states: Mapping[str, HostState]) -> list[Known]:
    """The releases of the stack, the one that served last first, those that never served behind them by age.

    ``states`` are those of the same hosts (``host_state.inspect``).
    """
    last: dict[str, Switch] = {}
    for switch in sorted(switch for one in listed.values() for switch in one.switches):
        last[switch.release] = switch
    serving, kept = _serving(states), _running(states)
    found = []
    for release in {release for one in listed.values() for release in one.states}:
        hosts = tuple(host for host, one in listed.items() if release in one.states)
        head = listed[hosts[0]].heads[release]
        marks = {listed[host].states[release] for host in hosts}
        latest = last.get(release)
        found.append(
            Known(
                release=release,
                state=_state(release, marks, serving, kept, served=latest is not None),
                created=datetime.fromisoformat(head["created"]),
                commit=head["commit"],
                dirty=head["dirty"],
                deployed=latest.at if latest else None,
                owner=latest.owner if latest else "",
                hosts=hosts,
            )
        )
    return sorted(found, key=lambda one: (one.deployed is not None, one.deployed or one.created), reverse=True)


def _serving(states: Mapping[str, HostState]) -> set[str]:
    """Releases in the slots that nginx uses; before the first switch, those of ``current``."""
    slots = {slot for state in states.values() if (slot := state.serving())}
    return {state.slots[slot] for state in states.values() for slot in slots if slot in state.slots}


_FIT = (GOOD, SKEW, LIVE)


def _running(states: Mapping[str, HostState]) -> set[str]:
    return {state.slots[name[0]] for state in states.values() for name in state.running() if name[0] in state.slots}


def _state(release: str, marks: set[str], serving: set[str], running: set[str], *, served: bool) -> str:
    if release in serving:
        return LIVE
    if "failed" in marks:
        return FAILED if served else NEVER
    if release in running:
        return SKEW
    return GOOD if "healthy" in marks else UPLOADED


def interrupted(states: Mapping[str, HostState]) -> str | None:
    """The release to roll back to after a run that ended amid a switch; None: none did.

    After a rollback it is the one that this went to, so that the same command finishes it; else the one of before.
    """
    live, current = _serving(states), {state.current for state in states.values() if state.current}
    if not live or live == current:
        return None
    if back := [noted[1] for state in states.values() if (noted := state.switching) and noted[0] == "rollback"]:
        return back[0]
    before = current - live if len(live) == 1 else current
    return before.pop() if len(before) == 1 else None


def to_roll_back_to(releases: list[Known], hosts: Iterable[str], wanted: str | None, amid: str | None = None) -> Known:
    """The release a rollback brings back: ``wanted``, or the one that served last before the live one.

    ``amid`` is what ``interrupted`` found: then that one, and ``wanted`` may be live on some hosts.

    Only one that became healthy, and that all ``hosts`` (of the app) still have. Raises InventoryError when there is
    no release ``wanted``, OperationFailed when none can be brought back.
    """
    fit = [one for one in releases if one.state in (GOOD, SKEW) and set(hosts) <= set(one.hosts)]
    there = {one.release: one for one in releases}
    if wanted is None and amid in there and set(hosts) <= set(there[amid].hosts) and there[amid].state in _FIT:
        return there[amid]
    if wanted is None:
        served = [one for one in fit if one.deployed is not None]
        if not served:
            raise OperationFailed(
                "there is no release to roll back to: none that became healthy served before the live one and is kept. "
                "`provision releases` shows what there is; app/keep says how many are kept"
            )
        return served[0]
    if wanted not in there:
        raise InventoryError(f"there is no release {wanted}. Releases: {', '.join(there) or 'none'}")
    one = there[wanted]
    if one.state == LIVE and amid:
        return one
    if one.state == LIVE:
        raise InventoryError(f"{wanted} is live. Name another one: {', '.join(item.release for item in fit) or 'none'}")
    if one not in fit:
        lacking = sorted(set(hosts) - set(one.hosts))
        reason = f"is not on {', '.join(lacking)}" if lacking else f"is marked: {one.state}"
        raise OperationFailed(
            f"{wanted} {reason}, so a rollback does not go there. `provision deploy --release {wanted}` tries it again"
        )
    return one


def fetch(session: Session, app: AppSettings, release: str) -> Artefact:
    """A release as it is on a host: its manifest, and its files where this machine still has them.

    Raises OperationFailed for a manifest that another version of Roadbed wrote.
    """
    place = f"{app.root}/releases/{release}/{MANIFEST}"
    try:
        manifest = Manifest.model_validate_json(session.read(f"cat {place}").out)
    except ValueError as error:
        raise OperationFailed(
            f"{session.name}: {place} cannot be read: {str(error).splitlines()[0]}. Deploy the release anew"
        ) from None
    return Artefact(cache.release_folder(app.name) / release, manifest)
