"""A build on a host: within its limits, for others to serve, and over as soon as nobody waits for it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from roadbed.engine.secrets import ACTION_KEY, Secrets
from roadbed.machines.model import MachineSpec
from roadbed.releases.cache import build_folder
from roadbed.releases.unit import BASE

from .conftest import PROVISION, Stack, spec
from .tiny import page, tiny_stack

pytestmark = pytest.mark.long

BUILDER, SERVER = "build-1", "build-2"
NAME = "elsewhere"
"""The app's: its folder here must not be that of another test."""
MEMORY = 3072
"""MiB of the machine that builds."""
UNIT = "roadbed-build.service"
HOG = """
const held = [];
for (let count = 0; count < 80; count++) held.push(Buffer.alloc(32 * 1024 * 1024, 1));
console.log("held", held.length);
"""
"""2.5 GiB outside of the heap of V8."""


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A host that only builds, and one that only serves."""
    specs = [spec(BUILDER, 187, memory=MEMORY), spec(SERVER, 188, "bookworm")]
    booted(specs)
    stack = tiny_stack(tmp_path_factory.mktemp("build"), specs, app={"name": NAME}, build={"host": BUILDER})
    stack.data["hosts"][BUILDER]["roles"] = []
    stack.write()
    shutil.rmtree(build_folder(NAME), ignore_errors=True)
    return stack


def edit(stack: Stack, text: str) -> None:
    """Changes the project, so that it has to be built."""
    (stack.folder / "tiny/app/note.js").write_text(f"export const note = {json.dumps(text)};\n")


def script(stack: Stack, command: str) -> None:
    """Gives the project another build script."""
    file = stack.folder / "tiny/package.json"
    package = json.loads(file.read_text())
    package["scripts"]["build"] = command
    file.write_text(json.dumps(package))


def said_megabytes(said: str, word: str) -> float:
    found = re.search(rf"{BUILDER}: {word} ([0-9.]+) MB", said)
    assert found, said
    return float(found[1])


def action_key(stack: Stack) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROADBED_IDENTITY", stack.environment["ROADBED_IDENTITY"])
        return Secrets(stack.path.with_name("stack.secrets.age")).get(ACTION_KEY) + "\n"


def left(stack: Stack) -> str:
    """What of a build is on the machine: its unit, processes of its user, and its secrets."""
    return stack.ssh(
        BUILDER,
        f"systemctl list-units --all --plain --no-legend {UNIT}; pgrep -u roadbed-build -a; "
        "find /run/roadbed-build -name env -o -name npmrc",
        check=False,
    ).strip()


def test_a_host_builds_and_another_one_serves(stack: Stack) -> None:
    done = stack.provision("phase1", "--yes")
    assert f"{BUILDER}: {MEMORY} MiB less 384 MiB for the system leave" in done.stderr
    assert f"{BUILDER}: building with Next.js" in done.stderr
    assert page(stack, SERVER).startswith("<!DOCTYPE html>")
    assert not (build_folder(NAME) / "source").exists(), "nothing was built here"
    assert left(stack) == ""
    assert stack.ssh(BUILDER, "find /var/lib/roadbed-build -name .next -o -name standalone") == ""
    assert stack.ssh(BUILDER, f"grep -rlF -f - {BASE} /run/roadbed-build /etc; true", stdin=action_key(stack)) == ""


def test_the_next_build_moves_little(stack: Stack) -> None:
    edit(stack, "second")
    done = stack.provision("build")
    assert said_megabytes(done.stderr, "sent") <= 0.1
    assert said_megabytes(done.stderr, "received") <= 1.0
    again = stack.provision("build")
    assert "is built already" in again.stderr
    assert "building with" not in again.stderr


def test_a_build_sees_neither_the_network_of_the_host_nor_its_files(stack: Stack) -> None:
    """What the sandbox takes away, asked from inside."""
    edit(stack, "sandbox")
    script(
        stack,
        "id -un; touch /etc/x; ls /srv /etc/roadbed; cat /run/roadbed-build/env; ls -A /root; nice; "
        "grep -c . /proc/1/environ; exit 9",
    )
    try:
        done = stack.provision("build", code=4)
        log = (build_folder(NAME) / "build.log").read_text()
        assert "failed on build-1 with exit code 9" in done.stderr
        assert "roadbed-build\n" in log
        assert "touch: cannot touch '/etc/x': Read-only file system" in log
        assert log.count("Permission denied") >= 3, log
        assert "\n15\n" in log
        assert "ENCRYPTION_KEY" not in log
    finally:
        script(stack, "next build")


def test_a_build_that_hits_its_cap_says_so(stack: Stack) -> None:
    edit(stack, "hog")
    (stack.folder / "tiny/hog.js").write_text(HOG)
    stack.write(build={"memory": 1100})
    script(stack, "node hog.js && next build")
    try:
        done = stack.provision("build", code=4)
        assert "the build hit its memory cap of 1100 MB: the kernel killed it" in done.stderr
        assert left(stack) == ""
    finally:
        script(stack, "next build")
        (stack.folder / "tiny/hog.js").unlink()
        del stack.data["build"]["memory"]
        stack.write()


def test_too_little_memory_is_refused_with_the_sum(stack: Stack) -> None:
    edit(stack, "large")
    stack.write(build={"memory": 9000})
    try:
        done = stack.provision("build", code=6)
        assert f"{BUILDER}: {MEMORY} MiB less 384 MiB for the system leave" in done.stderr
        assert "and build/memory is 9000 MiB. Use a host with more memory" in done.stderr
    finally:
        del stack.data["build"]["memory"]
        stack.write()


def begin(stack: Stack, log: Path) -> "subprocess.Popen[bytes]":
    """Starts a build that would take minutes, and waits until it runs on the host."""
    with log.open("wb") as output:
        run = subprocess.Popen(
            [PROVISION, "build", "-i", str(stack.path)],
            cwd=stack.folder,
            env=stack.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + 120
    while "sleep 987" not in left(stack):
        assert run.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)
    return run


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_the_unit_ends_with_the_run(stack: Stack, tmp_path: Path, how: signal.Signals) -> None:
    edit(stack, str(how))
    script(stack, "(setsid sleep 987 &) ; sleep 987")
    try:
        run = begin(stack, tmp_path / "log")
        os.killpg(run.pid, how)
        began = time.monotonic()
        code = run.wait(timeout=30)
        while (there := left(stack)) and time.monotonic() - began < 20:
            time.sleep(0.2)
        took = time.monotonic() - began
        assert "987" not in there, there
        assert UNIT not in there
        assert code == (130 if how == signal.SIGINT else -signal.SIGKILL)
        print(f"\nthe unit was gone {took:.1f} s after {how.name}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        script(stack, "next build")


def test_a_line_that_is_cut_ends_the_unit(stack: Stack, tmp_path: Path) -> None:
    """Nobody closes the connection: the unit misses the signs of life, and the run says that the host is away."""
    from roadbed.machines import nspawn

    edit(stack, "cut")
    script(stack, "sleep 987")
    try:
        run = begin(stack, tmp_path / "log")
        nspawn.cut(BUILDER)
        try:
            assert run.wait(timeout=60) == 3, (tmp_path / "log").read_text()
            time.sleep(35)
        finally:
            nspawn.heal(BUILDER)
        assert "987" not in left(stack)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        script(stack, "next build")


def test_a_second_build_waits_for_the_first(stack: Stack, tmp_path: Path) -> None:
    """Two control machines: the second has caches of its own, and the host is what they share."""
    edit(stack, "first of two")
    script(stack, "sleep 987")
    run = begin(stack, tmp_path / "log")
    try:
        other = subprocess.Popen(
            [PROVISION, "build", "-i", str(stack.path)],
            cwd=stack.folder,
            env={**stack.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")},
            stdout=subprocess.DEVNULL,
            stderr=(tmp_path / "other").open("wb"),
            start_new_session=True,
        )
        deadline = time.monotonic() + 180
        while "waiting for another build there to end" not in (tmp_path / "other").read_text():
            assert other.poll() is None, (tmp_path / "other").read_text()
            assert time.monotonic() < deadline, (tmp_path / "other").read_text()
            time.sleep(0.5)
        os.killpg(other.pid, signal.SIGKILL)
        other.wait()
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        script(stack, "next build")


def test_after_all_that_it_builds_again(stack: Stack) -> None:
    edit(stack, "last")
    stack.provision("phase1", "--yes")
    assert page(stack, SERVER).startswith("<!DOCTYPE html>")
    assert left(stack) == ""
