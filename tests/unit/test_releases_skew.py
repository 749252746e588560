"""The release that is kept for open pages: when, until when, and after every crash."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roadbed.deploys import skew
from roadbed.deploys.render import render
from roadbed.releases.decide import decide
from roadbed.releases.host_state import HostState, ReleaseOnHost
from roadbed.releases.plan import Plan

OLDER, OLD, NEW, NEXT = (f"2026010{day}T000000-{day}{day}{day}{day}{day}{day}{day}" for day in range(1, 5))
HOSTS = ("one", "two")
"""Both roles; what a web host alone or an app host alone has is a part of that."""
REPLICAS = 2
States = dict[str, HostState]
Step = tuple[str, Callable[[HostState], HostState]]


def complete(release: str) -> ReleaseOnHost:
    return ReleaseOnHost("healthy", "d", release)


def serving(**facts: Any) -> HostState:
    """A host on which OLD serves in slot b, and OLDER is kept in slot a, all as it should be."""
    normal = HostState(
        arch="x86_64",
        releases={release: complete(release) for release in (OLDER, OLD)},
        slots={"a": OLDER, "b": OLD},
        current=OLD,
        public=OLD,
        static=OLD,
        flags=frozenset({"active.b", f"old.{OLDER}.a"}),
        instances=dict.fromkeys(("a-0", "b-0", "b-1"), "active"),
        enabled=frozenset({"a-0", "b-0", "b-1"}),
        kept=frozenset("a"),
    )
    return replace(normal, **facts)


def alone(**facts: Any) -> HostState:
    """The same without a kept release."""
    facts = {"flags": frozenset({"active.b"}), "kept": frozenset(), **facts}
    running = {"instances": dict.fromkeys(("b-0", "b-1"), "active"), "enabled": frozenset({"b-0", "b-1"})}
    return serving(**{**running, **facts})


def plan(release: str, states: Mapping[str, HostState], **options: Any) -> Plan:
    replicas = dict.fromkeys(states, options.pop("replicas", REPLICAS))
    options = {"deployment": release, **options}
    return decide(release, dict.fromkeys(states, "d"), states, replicas, tuple(states), **options)


def test_the_release_that_served_is_kept_and_the_one_before_goes() -> None:
    found = plan(NEW, {"one": serving()})
    assert found.keep
    assert (found.slot, found.keep.release, found.keep.slot, found.before) == ("c", OLD, "b", "b")
    assert (found.flag, found.note, found.keep.flag) == (("one",), ("one",), f"old.{OLD}.b")
    assert (found.unflag, found.unnote) == ({"one": (f"old.{OLDER}.a",)}, {"one": ("a",)})
    assert (found.retire, found.disable) == ({"one": ("a-0", "b-1")}, {"one": ("a-0", "b-1")})
    assert (found.stop_first, found.unflag_first, found.unnote_first) == ({}, {}, {})


def test_with_too_little_memory_the_older_one_goes_before_anything_starts() -> None:
    found = plan(NEW, {"one": serving()}, make_room=True)
    assert found.keep
    assert (found.slot, found.keep.release) == ("c", OLD)
    assert (found.unflag_first, found.unnote_first) == ({"one": (f"old.{OLDER}.a",)}, {"one": ("a",)})
    assert (found.stop_first, found.retire) == ({"one": ("a-0",)}, {"one": ("b-1",)})


def test_what_is_kept_is_as_it_should_be() -> None:
    assert plan(OLD, {"one": serving()}).unchanged
    assert plan(OLD, {"one": serving(), "two": alone()}).unchanged, "a host that has joined since"
    halfway = serving(flags=frozenset({"active.b"}))
    assert plan(OLD, {"one": halfway}).unchanged, "the flag has had its time, the instance not yet"
    assert plan(OLD, {"one": alone(), "two": halfway}).unchanged, "one host is faster than the other"


def test_a_kept_instance_that_crashed_is_left_to_systemd() -> None:
    waiting = {"a-0": "activating", "b-0": "active", "b-1": "active"}
    assert plan(OLD, {"one": serving(instances=waiting)}).unchanged


def test_new_settings_start_the_same_release_elsewhere_and_keep_what_is_kept() -> None:
    found = plan(OLD, {"one": serving(debt=True)})
    assert found.keep
    assert (found.slot, found.keep.release, found.retire) == ("c", OLDER, {"one": ("b-0", "b-1")})
    assert (found.flag, found.note, found.unflag, found.unnote, found.stop_first) == ((), (), {}, {}, {})


def test_new_settings_with_too_little_memory_end_what_is_kept() -> None:
    found = plan(OLD, {"one": serving(debt=True)}, make_room=True)
    assert (found.keep, found.stop_first) == (None, {"one": ("a-0",)})
    assert found.unflag_first == {"one": (f"old.{OLDER}.a",)}


def test_going_back_to_what_is_kept_starts_it_anew_and_keeps_what_is_left() -> None:
    found = plan(OLDER, {"one": serving()})
    assert found.keep
    assert (found.slot, found.start, found.keep.release) == ("c", {"one": ("c-0", "c-1")}, OLD)
    assert (found.unflag, found.unnote) == ({"one": (f"old.{OLDER}.a",)}, {"one": ("a",)})
    assert found.retire == {"one": ("a-0", "b-1")}


@pytest.mark.parametrize("options", [{"skew": False}, {"deployment": OLD}])
def test_nothing_is_kept_when_switched_off_or_when_pages_could_not_say_which(options: dict[str, Any]) -> None:
    """An app may set its own deployment id, the same in all releases: then a flag would catch the new pages too."""
    found = plan(NEW, {"one": alone()}, **options)
    assert (found.keep, found.flag, found.note, found.retire) == (None, (), (), {"one": ("b-0", "b-1")})


@pytest.mark.parametrize("named", [None, "none", "../../etc", "has space", "x" * 65, ""])
def test_nothing_is_kept_when_nginx_does_not_know_the_name(named: str | None) -> None:
    releases = {OLD: ReleaseOnHost("healthy", "d", named)}
    assert plan(NEW, {"one": alone(releases=releases)}).keep is None


def test_switched_off_it_goes_with_the_next_run() -> None:
    found = plan(OLD, {"one": serving()}, skew=False)
    assert (found.unflag_first, found.unnote_first) == ({"one": (f"old.{OLDER}.a",)}, {"one": ("a",)})
    assert (found.stop_first, found.disable) == ({"one": ("a-0",)}, {"one": ("a-0",)})


def test_the_release_that_is_kept_stays_on_the_disk() -> None:
    """Here a newer one that failed would have its place: its instance runs from there."""
    state = serving(debt=True, releases={release: complete(release) for release in (OLDER, OLD, NEW)})
    assert plan(OLD, {"one": state}).releases_to_keep(state, 2) == [OLD, OLDER]


def test_a_rehearsal_that_died_leaves_nothing_that_counts() -> None:
    """Its flag names no release: the slot is emptied and used, and what is kept stays."""
    begun = dict.fromkeys(("a-0", "b-0", "b-1", "c-0", "c-1"), "active")
    flags = frozenset({"active.b", f"old.{OLDER}.a", "old.rehearsal-0123456789abcdef.c"})
    died = serving(instances=begun, flags=flags, slots={"a": OLDER, "b": OLD, "c": NEW})
    found = plan(NEW, {"one": died})
    assert (found.slot, found.stop_first) == ("c", {"one": ("c-0", "c-1")})
    assert found.unflag_first == {"one": ("old.rehearsal-0123456789abcdef.c",)}
    assert found.keep
    assert found.keep.release == OLD


def test_web_hosts_that_serve_three_slots_are_refused_with_a_way_out() -> None:
    states = {slot: alone(flags=frozenset({f"active.{slot}"})) for slot in "abc"}
    with pytest.raises(Exception, match=r"to all three slots \(a: a, b: b, c: c\).*Roll out again"):
        plan(NEXT, states)


def steps(found: Plan) -> Iterator[Step]:
    """What rollout.py does, host by host, in its order."""
    new = found.release
    keep = found.keep

    def without(flags: tuple[str, ...]) -> Callable[[HostState], HostState]:
        return lambda state: replace(state, flags=state.flags - set(flags))

    def forget(slots: tuple[str, ...]) -> Callable[[HostState], HostState]:
        return lambda state: replace(state, kept=state.kept - set(slots))

    def stop(names: tuple[str, ...]) -> Callable[[HostState], HostState]:
        return lambda state: replace(state, instances={n: s for n, s in state.instances.items() if n not in names})

    def run(names: tuple[str, ...], condition: str) -> Callable[[HostState], HostState]:
        return lambda state: replace(state, instances={**state.instances, **dict.fromkeys(names, condition)})

    def enabled(more: tuple[str, ...], less: tuple[str, ...] = ()) -> Callable[[HostState], HostState]:
        return lambda state: replace(state, enabled=(state.enabled | set(more)) - set(less))

    for one in found.upload:
        yield one, lambda state: replace(state, releases={**state.releases, new: complete(new)})
    for one, flags in found.unflag_first.items():
        yield one, without(flags)
    for one, slots in found.unnote_first.items():
        yield one, forget(slots)
    for one, names in found.stop_first.items():
        yield one, stop(names)
    for one in found.link:
        yield one, lambda state: replace(state, slots={**state.slots, found.slot: new})
    for condition in ("activating", "active"):
        for one, names in found.start.items():
            yield one, run(names, condition)
    for one, names in found.enable.items():
        yield one, enabled(names)
    for one in found.publish:
        yield one, lambda state: replace(state, public=new, static=new)
    for one in found.flag:
        yield one, lambda state: replace(state, flags=state.flags | ({keep.flag} if keep else set()))
    for one in found.switch:
        yield one, lambda state: replace(state, flags=state.flags | {f"active.{found.slot}"})
    for one in found.switch:
        others = tuple(f"active.{slot}" for slot in "abc" if slot != found.slot)
        yield one, without(others)
    for one, flags in found.unflag.items():
        yield one, without(flags)
    for one in found.note:
        yield one, lambda state: replace(state, kept=state.kept | ({keep.slot} if keep else set()))
    for one, names in found.retire.items():
        yield one, stop(names)
    for one in HOSTS:
        yield one, enabled((), found.disable.get(one, ()))
        yield one, forget(found.unnote.get(one, ()))
        yield one, lambda state: replace(state, current=new)
        yield one, lambda state: replace(state, debt=False)


def roll_out(states: States, release: str, *, stop_after: int = 10**6, **options: Any) -> States:
    """Carries a plan out, up to a crash; at every step visitors are served, and nothing stops while it is asked."""
    for number, (name, change) in enumerate(steps(plan(release, states, **options))):
        if number >= stop_after:
            break
        before, states = states, {**states, name: change(states[name])}
        stopped = set(before[name].instances) - set(states[name].instances)
        for front in states.values():
            slot = front.serving()
            assert slot
            for app in states.values():
                assert all(app.instances.get(f"{slot}-{count}") == "active" for count in range(REPLICAS)), number
            for gone in stopped:
                assert gone[0] != slot, f"{gone} is stopped while it serves"
                flags = [flag for flag in front.flags if flag.startswith("old.") and flag[-1] == gone[0]]
                assert gone[2:] != "0" or not flags, f"{gone} is stopped while {flags} lead to it"
    return states


def expire(states: States, name: str, *, flags: bool, instances: bool) -> States:
    """What the timers of a host do when the time of a kept release is over."""
    state = states[name]
    if flags:
        state = replace(state, flags=frozenset(flag for flag in state.flags if not flag.startswith("old.")))
    if instances:
        gone = {f"{slot}-0" for slot in state.kept if state.slots.get(slot) != state.current}
        running = {one: condition for one, condition in state.instances.items() if one not in gone}
        kept = frozenset(slot for slot in state.kept if f"{slot}-0" not in gone)
        state = replace(state, instances=running, enabled=state.enabled - gone, kept=kept)
    return {**states, name: state}


def assert_settled(states: States, release: str, **options: Any) -> None:
    """All is as a rollout that nothing disturbed leaves it."""
    found = plan(release, states, **options)
    assert found.unchanged, found
    slots = {state.serving() for state in states.values()}
    assert len(slots) == 1
    for state in states.values():
        wanted = {f"{found.slot}-{count}" for count in range(REPLICAS)}
        kept = {f"{slot}-0" for slot in state.kept}
        assert state.running() - kept == wanted
        assert state.enabled - kept == wanted
        assert len(state.kept) <= 1
        assert len([flag for flag in state.flags if flag.startswith("active.")]) == 1
        old = {flag[-1] for flag in state.flags if flag.startswith("old.")}
        assert old <= {slot for other in states.values() for slot in other.kept}
        assert (state.slots[found.slot], state.current, state.public) == (release, release, release)


def starts() -> dict[str, Callable[[], States]]:
    """What a rollout may find."""
    return {
        "kept": lambda: {name: serving() for name in HOSTS},
        "nothing kept": lambda: {name: alone() for name in HOSTS},
        "new settings": lambda: {name: serving(debt=True) for name in HOSTS},
        "kept here and not there": lambda: {"one": serving(), "two": alone()},
    }


EXPIRIES: dict[str, Callable[[States], States]] = {
    "at once": lambda states: states,
    "flags gone": lambda states: expire(
        expire(states, "one", flags=True, instances=False), "two", flags=True, instances=False
    ),
    "flags gone on one": lambda states: expire(states, "one", flags=True, instances=False),
    "all gone on one": lambda states: expire(states, "one", flags=True, instances=True),
}
"""How much of the time of kept releases passes between the crash and the next run."""


@pytest.mark.slow
@pytest.mark.parametrize("wait", EXPIRIES)
@pytest.mark.parametrize("start", starts())
@pytest.mark.parametrize("options", [{}, {"make_room": True}, {"skew": False}], ids=["", "little memory", "skew off"])
def test_a_rollout_that_dies_anywhere_is_finished_by_the_next_whatever_that_wants(
    start: str, wait: str, options: dict[str, Any]
) -> None:
    """And by the one after it, when the next dies too: of these pairs of moments, some. Each case takes a quarter of
    the moments, and the cases together take all of them."""
    begin, offset = starts()[start], list(EXPIRIES).index(wait) + list(starts()).index(start)
    for first in (NEW, OLD, OLDER):
        total = len(list(steps(plan(first, begin(), **options))))
        for moment in range(offset % 4, total + 1, 4):
            crashed = EXPIRIES[wait](roll_out(begin(), first, stop_after=moment, **options))
            for place, then in enumerate((NEW, OLD, OLDER, NEXT)):
                assert_settled(roll_out(dict(crashed), then, **options), then)
                if (moment + place) % 8 == 0:
                    again = roll_out(dict(crashed), then, stop_after=5 + moment % 11, **options)
                    assert_settled(roll_out(dict(again), first), first)


def test_a_rollout_that_nothing_disturbs_keeps_one_release_and_ends_it_by_itself() -> None:
    states = roll_out({name: serving() for name in HOSTS}, NEW)
    assert_settled(states, NEW)
    for name in HOSTS:
        assert states[name].kept == {"b"}
        assert f"old.{OLD}.b" in states[name].flags
        states = expire(states, name, flags=True, instances=False)
    assert plan(NEW, states).unchanged
    for name in HOSTS:
        states = expire(states, name, flags=True, instances=True)
        assert plan(NEW, states).unchanged
    assert_settled(states, NEW)
    assert all(state.running() == {"c-0", "c-1"} for state in states.values())


MakeContext = Callable[..., Any]
LIBRARY = "/usr/local/lib/roadbed"
PROGRAMS = {"nginx": f"{LIBRARY}/skew-flags", "app": f"{LIBRARY}/skew-instances"}


def program(make_context: MakeContext, folder: Path, component: str) -> Path:
    """The rendered program of a component."""
    file = folder / component
    file.write_text(render(component, PROGRAMS[component], make_context()))
    return file


@pytest.mark.parametrize("component", PROGRAMS)
def test_program_is_clean(make_context: MakeContext, tmp_path: Path, component: str) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, program(make_context, tmp_path, component)], check=True)


def test_flags_go_in_time_and_nothing_else_does(make_context: MakeContext, tmp_path: Path) -> None:
    route, now = tmp_path / "route", time.time()
    route.mkdir()
    ages = {"old.r1.a": 61, "old.r2.b": 55, "old.r3.c": -3600, "active.b": 9999, "edge.pages": 9999}
    for name, age in ages.items():
        (route / name).touch()
        os.utime(route / name, (now - age, now - age))
    done = subprocess.run(
        ["sh", program(make_context, tmp_path, "nginx"), route, "60"], check=True, capture_output=True, text=True
    )
    assert {file.name for file in route.iterdir()} == set(ages) - {"old.r1.a"}
    assert done.stdout.startswith("old.r1.a: gone after 6")
    assert abs((route / "old.r3.c").stat().st_mtime - now) < 60, "the clock was set back: it is as old as now"


def test_instances_stop_in_time_and_never_the_current_release(make_context: MakeContext, tmp_path: Path) -> None:
    root, folder, now = tmp_path / "srv", tmp_path / "kept", int(time.time())
    for path in (root / "slots", root / "releases/one", root / "releases/two", folder, tmp_path / "bin"):
        path.mkdir(parents=True)
    for slot, release in {"a": "one", "b": "two", "c": "one"}.items():
        (root / "slots" / slot).symlink_to(f"../releases/{release}")
    (root / "current").symlink_to("releases/two")
    (folder / "a").write_text(f"{now - 61}\n")
    (folder / "b").write_text(f"{now - 61}\n")
    (folder / "c").write_text("rubbish\n")
    tool = tmp_path / "bin/systemctl"
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    tool.chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    words = ["sh", program(make_context, tmp_path, "app"), "shop", root, folder, "60"]
    subprocess.run(words, check=True, env=environment)
    said = (tmp_path / "said").read_text()
    assert said == "disable --now --quiet --no-ask-password shop@a-0.service\n"
    assert sorted(file.name for file in folder.glob("[abc]")) == ["b", "c"]
    assert int((folder / "c").read_text()) >= now, "unreadable: counted from now"


def test_an_instance_outlives_its_flags_by_more_than_a_timer_can_be_late(make_context: MakeContext) -> None:
    ctx = make_context(app={"skew": 600})
    units = "/etc/systemd/system"
    timer = render("nginx", f"{units}/{skew.FLAGS}.timer", ctx)
    period, accuracy = (int(timer.split(f"{word}=")[1].split()[0]) for word in ("OnUnitActiveSec", "AccuracySec"))
    assert 1.5 * (period + accuracy) <= skew.LATER
    flags = render("nginx", f"{units}/{skew.FLAGS}.service", ctx, program="/x", seconds=600)
    assert "ExecStart=/x /var/lib/roadbed/shop/route 600\n" in flags
    stops = render("app", f"{units}/{skew.INSTANCES}.service", ctx, program="/x", seconds=720)
    assert "ExecStart=/x shop /srv/shop /var/lib/roadbed/shop/skew 720\n" in stops
