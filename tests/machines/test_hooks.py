"""Hooks in a rollout: what gates keeps the old release serving, what tells never does, and each hears what happened."""

import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from roadbed.machines.model import MachineSpec

from .conftest import PROVISION, Stack, spec
from .tiny import DOMAIN, operations, page, tiny_stack

HOST = spec("hooks-1", 184, "trixie")
ALL = ("before_build", "after_build", "before_switch", "after_switch", "on_failure")
UNITS = "systemctl list-units --plain --no-legend --state=active,activating,deactivating 'tiny@*' | cut -d' ' -f1"


class Told:
    """A stack whose hooks write a line each into a file: ``<hook> <action> <release> <previous> <where>``."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.file, self.run = stack, stack.folder / "told", uuid.uuid4().hex[:8]

    def hooks(self, **more: str) -> None:
        """All hooks tell; ``more`` is what some do then."""
        line = "$ROADBED_HOOK $ROADBED_ACTION $ROADBED_RELEASE $ROADBED_PREVIOUS_RELEASE"
        tell = f'echo "{line} in $(pwd) of $ROADBED_HOSTS" >> {self.file}'
        hooks = {hook: f"{tell}; {more.get(hook, 'true')}" for hook in ALL}
        self.stack.write(app={"hooks": hooks})

    def edition(self, word: str) -> None:
        """Changes the source, to what no run before has built and kept."""
        source = self.stack.folder / "tiny/app/page.js"
        source.write_text(re.sub(r"Edition [\w-]+", f"Edition {word}-{self.run}", source.read_text()))

    def heard(self) -> list[str]:
        """What was told since this was asked last."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.file.unlink(missing_ok=True)
        return lines

    def current(self) -> str:
        return self.stack.ssh(HOST.name, "basename $(readlink /srv/tiny/current)").strip()

    def units(self) -> list[str]:
        return self.stack.ssh(HOST.name, UNITS).split()


def names(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


@pytest.fixture(scope="module")
def told(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Told:
    """One machine with the first edition. The tests bring it further, in the order of this file."""
    booted([HOST])
    made = Told(tiny_stack(tmp_path_factory.mktemp("hooks"), [HOST], app={"skew": 0}))
    made.edition("one")
    made.hooks(before_build="sed -i 's/Edition/Generated edition/' app/page.js", after_build="ls -d .next")
    made.stack.first = made.stack.converge()
    return made


def test_each_runs_in_its_place_and_is_told(told: Told) -> None:
    """before_build shaped what is served; the source and its hash are as they were."""
    lines, release, project = told.heard(), told.current(), told.stack.folder / "tiny"
    assert names(lines) == ["before_build", "after_build", "before_switch", "after_switch"]
    copy = lines[0].split(" in ")[1].split()[0]
    assert lines[0].startswith(f"before_build build {release}  in ")
    assert (copy.endswith("/roadbed/builds/tiny/source"), copy != str(project)) == (True, True)
    assert lines[1].startswith(f"after_build build {release}  in {copy} of")
    assert lines[2] == f"before_switch phase1 {release}  in {project} of hooks-1"
    assert lines[3] == f"after_switch phase1 {release}  in {project} of hooks-1"
    assert "Generated edition one" in page(told.stack, HOST.name)
    assert "Generated" not in (project / "app/page.js").read_text()


def test_without_a_change_and_with_other_hooks_none_runs(told: Told) -> None:
    told.hooks(after_switch="exit 7")
    assert operations(told.stack.converge(), "changed") == []
    assert told.heard() == []


def test_a_failing_before_build_touches_no_host(told: Told) -> None:
    told.edition("two")
    told.hooks(before_build="echo no codegen today; exit 3")
    said = told.stack.provision("phase1", code=4).stderr
    assert "no codegen today; exit 3` failed with exit code 3; no host was touched. The end of " in said
    assert said.rstrip().endswith("no codegen today")
    assert names(told.heard()) == ["before_build", "on_failure"]
    assert told.stack.ssh(HOST.name, "ls /srv/tiny/releases").split() == [told.current()]


def test_a_failing_before_switch_leaves_the_old_release_serving_and_no_instance_behind(told: Told) -> None:
    """While the hook runs the new instance is up, beside the old one which serves."""
    old, units, reason = told.current(), told.units(), told.stack.folder / "reason"
    look = f"ssh -i {told.stack.data['ssh']['key']} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    look += f" root@{HOST.address}"
    visit = f"curl -ksS --resolve {DOMAIN}:443:{HOST.address} https://{DOMAIN}/"
    seen = told.stack.folder / "seen"
    gate = f'{visit} > {seen}; {look} "{UNITS}" >> {seen}; echo the smoke test found nothing; exit 1'
    told.hooks(before_switch=gate, on_failure=f'echo "$ROADBED_REASON" > {reason}')
    said = told.stack.provision("phase1", code=4).stderr
    assert "Generated edition one" in seen.read_text()
    assert len(re.findall(r"tiny@[abc]-0\.service", seen.read_text())) == 2
    assert "failed with exit code 1; no request went to " in said
    assert "the smoke test found nothing" in said
    assert f"{HOST.name}: {old} goes on serving. The release is kept in /srv/tiny/releases/" in said
    assert "edition one" in page(told.stack, HOST.name)
    assert (told.current(), told.units()) == (old, units)
    enabled = told.stack.ssh(HOST.name, "ls /etc/systemd/system/tiny.target.wants").split()
    assert enabled == units
    lines = told.heard()
    assert names(lines) == ["before_build", "after_build", "before_switch", "on_failure"]
    new = lines[-1].split()[2]
    assert lines[-1].split()[:4] == ["on_failure", "phase1", new, old]
    assert new != old
    assert told.stack.ssh(HOST.name, f"cat /srv/tiny/releases/{new}/.roadbed/state").strip() == "failed"
    told_reason = reason.read_text()
    assert told_reason.startswith("app/hooks/before_switch: `")
    assert "the smoke test found nothing" in told_reason
    assert f"{old} goes on serving" in told_reason


def test_a_failing_after_switch_is_a_warning_and_the_run_is_done(told: Told) -> None:
    """The release that was stopped before is taken again, without a build."""
    old = told.current()
    told.hooks(before_switch="echo looks good", after_switch="echo no such channel >&2; exit 5")
    done = told.stack.provision("phase1")
    assert "looks good" in done.stderr
    assert "warning: app/hooks/after_switch: `" in done.stderr
    assert "failed with exit code 5. The end of " in done.stderr
    assert "no such channel" in done.stderr
    assert "edition two" in page(told.stack, HOST.name).lower()
    lines = told.heard()
    assert names(lines) == ["before_switch", "after_switch"]
    assert lines[1].split()[1:4] == ["phase1", told.current(), old]
    assert len(told.units()) == 1


def heed_ctrl_c() -> None:
    """A shell starts what runs in its background with Ctrl-C ignored; the tests may be there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def runs(marker: str) -> bool:
    """Whether a process of this machine has ``marker`` as an argument."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in file.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


def test_ctrl_c_ends_the_hook_and_the_run_and_the_next_run_finishes(told: Told) -> None:
    told.edition("three")
    old = told.current()
    told.hooks(before_switch="sleep 4715")
    command = [PROVISION, "phase1", "-i", str(told.stack.path)]
    run = subprocess.Popen(
        command,
        cwd=told.stack.folder,
        env=told.stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    try:
        for _ in range(1800):
            if runs("4715") or run.poll() is not None:
                break
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=30)
    finally:
        run.kill()
    assert run.returncode == 130, said
    assert "Traceback" not in said
    assert not runs("4715")
    assert names(told.heard()) == ["before_build", "after_build", "before_switch"]
    assert "edition two" in page(told.stack, HOST.name).lower()
    told.hooks()
    told.stack.converge()
    assert "edition three" in page(told.stack, HOST.name).lower()
    assert names(told.heard()) == ["before_switch", "after_switch"]
    assert told.current() != old
    assert len(told.units()) == 1
    assert operations(told.stack.converge(), "changed") == []
