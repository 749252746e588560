"""`provision deploy`, `rollback` and `releases` on a machine of their own, with a tiny app."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roadbed.machines.model import MachineSpec

from .conftest import Stack, spec
from .tiny import operations, page, tiny_stack

HOST = "deploy-1"
SICK = """
export async function GET() {
  console.error("cannot reach the warehouse");
  return new Response("the warehouse is closed", { status: 500 });
}
"""


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """One machine at phase1 with the tiny app, whose health page is a route of its own."""
    machine = spec(HOST, 170, "trixie")
    booted([machine])
    stack = tiny_stack(tmp_path_factory.mktemp("deploy"), [machine], app={"health": "/health"})
    write(stack, "health/route.js", "export async function GET() { return new Response('well'); }\n")
    assert stack.provision("deploy", code=6).stderr.endswith("Run provision phase1 -i stack first\n")
    stack.converge()
    return stack


def write(stack: Stack, file: str, text: str) -> None:
    """Writes a file of the app."""
    path = stack.folder / "tiny/app" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def edition(stack: Stack, name: str) -> None:
    """Changes what the page says."""
    write(stack, "page.js", f"export default function Page() {{ return <h1>{name}</h1>; }}\n")


def run(stack: Stack, *words: str) -> dict[str, Any]:
    """A command's JSON."""
    result: dict[str, Any] = json.loads(stack.provision(*words, "--json").stdout)
    return result


def listed(stack: Stack) -> dict[str, dict[str, Any]]:
    """`provision releases`, by id, in its order."""
    return {item["release"]: item for item in json.loads(stack.provision("releases", "--json").stdout)}


def test_a_deploy_brings_a_new_release_and_touches_nothing_else(stack: Stack) -> None:
    (first,) = listed(stack)
    edition(stack, "second edition")
    planned = run(stack, "deploy", "--dry-run")
    assert "second edition" not in page(stack, HOST)
    done = run(stack, "deploy")
    assert "second edition" in page(stack, HOST)
    assert {item["component"] for item in done["operations"] if item["status"] == "changed"} == {"release"}
    assert planned["release"] == done["release"] != first
    assert list(listed(stack)) == [done["release"], first]
    again = stack.provision("deploy")
    assert "is live already; nothing was changed" in again.stderr


def test_the_list_says_what_each_release_is(stack: Stack) -> None:
    live, before = listed(stack).values()
    assert (live["state"], before["state"]) in (("live", "good"), ("live", "kept for skew"))
    assert re.fullmatch(r"\S+@\S+", live["owner"])
    assert live["hosts"] == [HOST]
    assert live["deployed"] > before["deployed"]
    shown = stack.provision("releases").stderr
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert live["release"] in shown


def test_a_rollback_is_one_word(stack: Stack) -> None:
    live, before = listed(stack)
    began = stack.ssh(HOST, "systemctl show -p MainPID --value nginx")
    done = stack.provision("rollback")
    assert f"{live} is live. Rolling back to {before}, which served from" in done.stderr
    assert "second edition" not in page(stack, HOST)
    assert list(listed(stack)) == [before, live]
    assert stack.ssh(HOST, "systemctl show -p MainPID --value nginx") == began
    run(stack, "rollback")  # back again: now the other one served last
    assert list(listed(stack)) == [live, before]
    assert "second edition" in page(stack, HOST)


def test_a_sick_release_is_never_rolled_back_to(stack: Stack) -> None:
    live, before = listed(stack)
    write(stack, "health/route.js", SICK)
    failed = stack.provision("deploy", code=4)
    for reason in ("HTTP 500", "the warehouse is closed", "cannot reach the warehouse", f"{live} goes on serving"):
        assert reason in failed.stderr
    now = listed(stack)
    (sick,) = set(now) - {live, before}
    assert now[sick]["state"] == "never healthy"
    refused = stack.provision("rollback", sick, code=4)
    assert f"{sick} is marked: never healthy, so a rollback does not go there" in refused.stderr
    assert run(stack, "rollback")["release"] == before
    assert run(stack, "deploy", "--release", live)["release"] == live
    assert "second edition" in page(stack, HOST)


def test_a_release_comes_from_elsewhere_too(stack: Stack, tmp_path: Path) -> None:
    write(stack, "health/route.js", "export async function GET() { return new Response('well'); }\n")
    edition(stack, "third edition")
    file = tmp_path / "third.tar.gz"
    stack.provision("build", "--output", str(file))
    edition(stack, "fourth edition")
    done = run(stack, "deploy", "--source", str(file))
    assert "third edition" in page(stack, HOST)
    assert operations(done, "failed") == []
    assert stack.provision("deploy", "--source", str(tmp_path), code=2).stderr
    assert (
        "neither this machine nor a host has nothing"
        in stack.provision("deploy", "--release", "nothing", code=2).stderr
    )
    assert "no release nothing" in stack.provision("rollback", "nothing", code=2).stderr


def test_a_release_that_this_machine_lost_is_rolled_back_to_all_the_same(stack: Stack) -> None:
    """Hosts have all they need: a rollback does not depend on who built the release."""
    before = next(name for name, item in listed(stack).items() if item["state"] in ("good", "kept for skew"))
    elsewhere = Stack(stack.folder, stack.data, {**stack.environment, "XDG_CACHE_HOME": str(stack.folder / "empty")})
    assert json.loads(elsewhere.provision("rollback", "--json").stdout)["release"] == before
