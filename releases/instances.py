"""The small things a rollout does on one host: links, units, flags and marks. Each may be repeated."""

import shlex
from collections.abc import Iterable

from roadbed.deploys.app import AppSettings
from roadbed.engine.session import Session

PENDING = "/var/lib/roadbed/pending"
STOP_SPARE = 60
"""Seconds that `systemctl stop` may take beyond the drain."""
_ALONE = "flock -w 600 .lock"
"""The program that stops kept instances has this lock in ``AppSettings.skewed`` while it looks and stops."""


def link(session: Session, app: AppSettings, slot: str, release: str) -> None:
    """Points a slot at a release; what runs in the slot is not disturbed."""
    session.run(
        f"mkdir -p {app.root}/slots && cd {app.root}/slots && "
        f"ln -sfnT ../releases/{release} .{slot}.new && mv -fT .{slot}.new {slot}"
    )


def start(session: Session, app: AppSettings, names: Iterable[str]) -> None:
    """Starts instances, without waiting: the gate does that, and knows why one does not come up."""
    units = _units(app, names)
    session.run(f"systemctl reset-failed {units} 2>/dev/null; systemctl start --no-block {units}")


def stop(session: Session, app: AppSettings, names: Iterable[str]) -> None:
    """Stops instances and waits until they have finished their requests."""
    session.run(f"systemctl stop {_units(app, names)}", timeout=app.drain + STOP_SPARE)


def enable(session: Session, app: AppSettings, names: Iterable[str]) -> None:
    """Has instances start at boot."""
    session.run(f"systemctl enable --quiet {_units(app, names)}")


def disable(session: Session, app: AppSettings, names: Iterable[str]) -> None:
    """Has instances no longer start at boot."""
    if units := _units(app, names):
        session.run(f"systemctl disable --quiet {units}")


def add_flag(session: Session, app: AppSettings, slot: str) -> None:
    """Tells nginx of a slot. Root owns the folder; the workers of nginx only look."""
    session.run(f"mkdir -p {app.route} && chmod 755 {app.route} && touch {app.route}/active.{slot}")


def remove_flags(session: Session, app: AppSettings, but: str) -> None:
    """Removes the flags of all other slots."""
    session.run(f'for f in {app.route}/active.*; do [ "${{f##*.}}" = "{but}" ] || rm -f "$f"; done')


def add_old_flag(session: Session, app: AppSettings, flag: str) -> None:
    """Leads requests that name a release to its kept instances, counted from now."""
    session.run(f"mkdir -p {app.route} && chmod 755 {app.route} && touch {app.route}/{shlex.quote(flag)}")


def remove_old_flags(session: Session, app: AppSettings, flags: Iterable[str]) -> None:
    """Requests that name these releases are for the active one from now on."""
    session.run(f"cd {app.route} && rm -f -- {' '.join(map(shlex.quote, flags))}")


def note_kept(session: Session, app: AppSettings, slot: str) -> None:
    """Notes that instance 0 of a slot is kept from now on: the host itself stops it in time (deploys/skew.py)."""
    session.run(
        f"mkdir -p {app.skewed} && cd {app.skewed} && date +%s > .{slot}.new && {_ALONE} mv -f .{slot}.new {slot}"
    )


def forget_kept(session: Session, app: AppSettings, slots: Iterable[str]) -> None:
    """The host itself stops nothing in these slots any more; waits where it is about to."""
    session.run(f"cd {app.skewed} && {_ALONE} rm -f -- {' '.join(slots)}", timeout=app.drain + STOP_SPARE)


def mark(session: Session, app: AppSettings, release: str, state: str) -> None:
    """Writes on a release whether it was healthy; what is not there is not marked."""
    meta = f"{app.root}/releases/{release}/.roadbed"
    session.run(f"[ ! -d {meta} ] || {{ echo {state} > {meta}/state.new && mv -f {meta}/state.new {meta}/state; }}")


def make_current(session: Session, app: AppSettings, release: str) -> None:
    """Points ``current`` at a release."""
    session.run(f"cd {app.root} && ln -sfnT releases/{release} .current.new && mv -fT .current.new current")


def note_switch(session: Session, app: AppSettings, action: str, release: str) -> None:
    """Notes that the traffic is about to go to a release, until ``end_switch``."""
    words = shlex.quote(f"{action} {release}")
    session.run(f"cd {app.root} && echo {words} > .switching.new && mv -fT .switching.new .switching")


def end_switch(session: Session, app: AppSettings) -> None:
    """The switch is over, by the last step of the rollout or taken back."""
    session.run(f"rm -f {app.root}/.switching")


def pay(session: Session, app: AppSettings) -> None:
    """Removes the debt that a changed environment or unit left."""
    session.run(f"rm -f {PENDING}/{shlex.quote(app.name)}")


def _units(app: AppSettings, names: Iterable[str]) -> str:
    return " ".join(shlex.quote(f"{app.name}@{name}.service") for name in names)
