"""Instances that take turns where memory lacks: at no moment is an nginx without one."""

from itertools import product

import pytest

from roadbed.releases.decide import decide
from roadbed.releases.host_state import HostState, ReleaseOnHost
from roadbed.releases.plan import Plan
from roadbed.releases.turns import Turn, Turns, divide, percent

OLD, NEW = "20260101T000000-0000000", "20260102T000000-1111111"
GOOD = {OLD: ReleaseOnHost("healthy", "d"), NEW: ReleaseOnHost("healthy", "d")}


def host(*running: str) -> HostState:
    """A host whose instances of slot a serve, as far as they run."""
    active = dict.fromkeys(running, "active")
    return HostState(releases=GOOD, slots={"a": OLD}, current=OLD, flags=frozenset({"active.a"}), instances=active)


def planned(states: dict[str, HostState], replicas: int) -> Plan:
    digests, numbers = dict.fromkeys(states, "d"), dict.fromkeys(states, replicas)
    return decide(NEW, digests, states, numbers, tuple(states), skew=False, make_room=True)


def turns(states: dict[str, HostState], replicas: int, tight: list[str], pools: dict[str, tuple[str, ...]]) -> Turns:
    found = divide(planned(states, replicas), states, tight, pools)
    assert found is not None
    return found


def test_on_one_host_all_but_the_last_take_their_turn_before_the_switch() -> None:
    found = turns({"one": host("a-0", "a-1", "a-2")}, 3, ["one"], {"one": ("one",)})
    assert found.before == (Turn("one", "a-2", "b-0"), Turn("one", "a-1", "b-1"))
    assert found.after == (Turn("one", "a-0", "b-2"),)
    assert found.of("one") == {"a-0", "a-1", "a-2"}


def test_hosts_take_turns_with_one_another() -> None:
    states = {name: host("a-0", "a-1") for name in ("one", "two")}
    found = turns(states, 2, ["one", "two"], {"web": ("one", "two")})
    assert [turn.host for turn in found.before] == ["one", "two", "one"]
    assert found.after == (Turn("two", "a-0", "b-1"),)


def test_where_another_host_keeps_its_old_instances_until_the_switch_no_turn_is_left_for_later() -> None:
    states = {name: host("a-0", "a-1") for name in ("large", "small")}
    found = turns(states, 2, ["small"], {"web": ("large", "small")})
    assert found.before == (Turn("small", "a-1", "b-0"), Turn("small", "a-0", "b-1"))
    assert found.after == ()


def test_an_instance_that_does_not_run_leaves_its_place_to_the_first_new_one() -> None:
    found = turns({"one": host("a-0")}, 2, ["one"], {"one": ("one",)})
    assert (found.before, found.after) == ((Turn("one", None, "b-0"),), (Turn("one", "a-0", "b-1"),))


def test_fewer_instances_than_before_leave_the_surplus_until_after_the_switch() -> None:
    found = turns({"one": host("a-0", "a-1", "a-2")}, 2, ["one"], {"one": ("one",)})
    assert found.of("one") == {"a-2", "a-1"}


@pytest.mark.parametrize(
    "pools",
    [
        pytest.param({"one": ("one",)}, id="the only instance of the only host"),
        pytest.param({"one": ("one",), "two": ("two",)}, id="each host serves with its own alone"),
    ],
)
def test_an_nginx_with_a_single_instance_cannot_do_without_it(pools: dict[str, tuple[str, ...]]) -> None:
    states = {name: host("a-0") for name in pools}
    assert divide(planned(states, 1), states, list(pools), pools) is None


def test_what_is_missing_in_a_slot_that_serves_takes_no_turns() -> None:
    states = {"one": host("a-0")}
    same = decide(OLD, {"one": "d"}, states, {"one": 2}, ("one",), skew=False, make_room=True)
    assert divide(same, states, ["one"], {"one": ("one",)}) is None


@pytest.mark.parametrize(("replicas", "tight"), list(product((1, 2, 3), (["x"], ["x", "y"], ["x", "y", "z"]))))
def test_every_nginx_has_an_old_instance_until_the_switch_and_a_new_one_at_the_switch(
    replicas: int, tight: list[str]
) -> None:
    """Carried out turn by turn, in the pools of phase1 and phase3; where it is refused, one host stands alone."""
    names = ("x", "y", "z")
    for pools in ({"web": names, "w2": names}, {"x": ("x",), "web": names}):
        states = {name: host(*(f"a-{number}" for number in range(replicas))) for name in names}
        plan = planned(states, replicas)
        found = divide(plan, states, tight, pools)
        if found is None:
            assert (replicas, "x" in pools) == (1, True)
            continue
        old = {(name, f"a-{number}") for name in names for number in range(replicas)}
        new = {(name, each) for name in names if name not in tight for each in plan.start[name]}
        for turn in found.before:
            old.discard((turn.host, str(turn.old)))
            assert all(any(where in hosts for where, _ in old) for hosts in pools.values())
            new.add((turn.host, turn.new))
        assert all(any(where in hosts for where, _ in new) for hosts in pools.values())
        for turn in found.after:
            new.add((turn.host, turn.new))
        assert len(new) == 3 * replicas


@pytest.mark.parametrize(("new", "old", "share"), [(0, 4, 0), (1, 3, 25), (2, 1, 66), (3, 0, 99), (1, 199, 1)], ids=str)
def test_the_share_is_that_of_the_instances(new: int, old: int, share: int) -> None:
    units = [{"one": tuple(f"{slot}-{n}" for n in range(count))} for slot, count in (("b", new), ("a", old))]
    assert percent(*units, ("one",)) == share
