"""Hooks: what they see, what they stop, what becomes of one that fails, hangs, writes without end or is interrupted."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadbed.engine.errors import InventoryError, OperationFailed, Refused
from roadbed.engine.load import parse
from roadbed.releases import hook_process
from roadbed.releases.artefact import Artefact
from roadbed.releases.build_hooks import BuildHooks
from roadbed.releases.command import BuildFailed
from roadbed.releases.decide import decide
from roadbed.releases.hook_process import HookFailed, perform
from roadbed.releases.host_state import HostState
from roadbed.releases.job import Job, make_job
from roadbed.releases.manifest import Manifest
from roadbed.releases.plan import Plan
from roadbed.releases.project import Project
from roadbed.releases.rollout_hooks import RolloutHooks
from roadbed.releases.source import GitState
from roadbed.releases.stages import Stages, Stopped

KEY = base64.b64encode(bytes(32))
OLD, NEW = "20260101T000000-aaaaaaa", "20260102T000000-bbbbbbb"
INVENTORY = """
app: {{name: shop, source: project, domain: shop.example.com, hooks: {{{hooks}}}}}
hosts:
  one: {{address: 192.0.2.1, roles: [web, app]}}
  two: {{address: 192.0.2.2, roles: [web, app]}}
"""


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``stack(after_switch="...")``: an inventory with these hooks; its project is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "project").mkdir()
    (tmp_path / "project/package.json").write_text("{}")

    def make(**hooks: Any) -> Any:
        written = ", ".join(f"{name}: {json.dumps(value)}" for name, value in hooks.items())
        return parse(INVENTORY.format(hooks=written), tmp_path / "prod.yml")

    return make


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ({"before_build": ""}, "app/hooks/before_build: must be one command line"),
        ({"after_switch": "a\nb"}, "app/hooks/after_switch: must be one command line"),
        ({"before_deploy": "x"}, "app/hooks/before_deploy: unknown key. "),
        ({"timeout": 0}, "app/hooks/timeout: "),
    ],
)
def test_a_wrong_hook_is_named(stack: Callable[..., Any], hooks: dict[str, Any], message: str) -> None:
    with pytest.raises(InventoryError) as error:
        stack(**hooks)
    assert message in str(error.value)


# One command


def run(command: str, folder: Path, seconds: float = 20, line: Callable[[str], None] = print) -> str:
    """Runs a hook with a small environment."""
    env = {"PATH": os.environ["PATH"]}
    return perform(command, folder=folder, env=env, log=folder / "hook.log", seconds=seconds, line=line)


def test_its_last_lines_are_returned_and_all_is_in_a_private_log(tmp_path: Path) -> None:
    said = run("seq 100; echo to standard error >&2", tmp_path).splitlines()
    assert said == [*(str(number) for number in range(82, 101)), "to standard error"]
    assert (tmp_path / "hook.log").read_text().splitlines()[:2] == ["1", "2"]
    assert (tmp_path / "hook.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_it_reads_nothing_and_what_it_says_is_told_while_it_runs(tmp_path: Path) -> None:
    told: list[str] = []
    assert run("cat; echo one; sleep 1.5; echo two", tmp_path, line=told.append) == "one\ntwo"
    assert told == ["one"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo why; exit 3", "failed with exit code 3. The end of "),
        ("exit 1", "failed with exit code 1"),
        ("kill -KILL $$", "was ended by signal 9"),
        ("no-such-program", "failed with exit code 127. The end of "),
    ],
)
def test_a_failure_says_how(tmp_path: Path, command: str, message: str) -> None:
    with pytest.raises(HookFailed) as failed:
        run(command, tmp_path)
    assert str(failed.value).startswith(message)
    assert str(failed.value).endswith("why") == ("why" in command)


def alive(marker: str) -> list[str]:
    """The processes of this machine that have ``marker`` as an argument."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if marker.encode() in words:
            found.append(folder.name)
    return found


@pytest.mark.slow
def test_one_that_hangs_is_ended_with_all_it_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what does not heed SIGTERM. Nobody is left, not even a zombie."""
    monkeypatch.setattr(hook_process, "END_SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(HookFailed, match=r"^did not end within 0.5 s and was stopped"):
        run("trap '' TERM; sleep 4711.1 & (trap '' TERM; sleep 4711.1) & sleep 4711.1", tmp_path, seconds=0.5)
    assert time.monotonic() - began < 5
    while alive("4711.1") and time.monotonic() - began < 10:  # killed ones take a moment to go
        time.sleep(0.05)
    assert alive("4711.1") == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_one_that_writes_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_process, "MOST_BYTES", 2**20)
    with pytest.raises(HookFailed, match=r"^wrote more than 1 MB and was stopped"):
        run("yes 'a line' | head -c 300000000; sleep 30", tmp_path)


INTERRUPTED = """
import sys
from pathlib import Path
from roadbed.releases.hook_process import perform
folder = Path(sys.argv[1])
try:
    perform("echo > started; sleep 4711.2", folder=folder, env={"PATH": "/usr/bin:/bin"}, log=folder / "hook.log",
            seconds=60, line=print)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_ends_the_hook_and_then_the_run(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(tmp_path)])
    for _ in range(200):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=20) == 130
    assert alive("4711.2") == []


# Around a build


@pytest.fixture
def job(stack: Callable[..., Any], tmp_path: Path) -> Any:
    """The job of the project; ``job.said`` is what was told. Its copy is made."""
    project = Project(tmp_path / "project", Path(), "npm", "package-lock.json", "16.4.6", {})
    tools: Any = SimpleNamespace(build=SimpleNamespace(version="24.21.0"), node=Path("/opt/node/bin/node"), npm=["x"])
    said: list[str] = []
    made = make_job(stack().app, project, tools, KEY, said.append)
    (made.copy / "node_modules/.bin").mkdir(parents=True)
    (made.work / "bin").mkdir()
    return SimpleNamespace(it=made, said=said)


def test_build_hooks_run_in_the_copy_and_see_the_build(stack: Callable[..., Any], job: Any) -> None:
    order = []
    show = 'echo "$ROADBED_HOOK $ROADBED_ACTION $ROADBED_RELEASE $PWD $PATH" >> seen'
    hooks = BuildHooks(stack(before_build=show, after_build=f"{show}; cat seen"), job.it)
    with hooks.watching(), hooks.around(NEW):
        order = (job.it.copy / "seen").read_text().split()
    assert order[:4] == ["before_build", "build", NEW, str(job.it.copy)]
    path = order[4].split(":")
    assert path[:3] == [str(job.it.copy / "node_modules/.bin"), str(job.it.work / "bin"), "/opt/node/bin"]
    assert job.said[0] == f"Running before_build: {show}"
    assert job.said[-1].startswith(f"  after_build: after_build build {NEW}")


@pytest.mark.parametrize("hook", ["before_build", "after_build"])
def test_a_build_hook_that_fails_stops_the_build(stack: Callable[..., Any], job: Any, hook: str) -> None:
    told = job.it.work / "told"
    tell = f'echo "$ROADBED_HOOK $ROADBED_REASON" > {told}; pwd >> {told}; exit 9'
    hooks = BuildHooks(stack(**{hook: "echo too big; exit 2", "on_failure": tell}), job.it)
    built = False
    with pytest.raises(BuildFailed) as failed, hooks.watching(), hooks.around(NEW):
        built = True
    assert built == (hook == "after_build")
    expected = f"app/hooks/{hook}: `echo too big; exit 2` failed with exit code 2; no host was touched. The end of "
    assert str(failed.value).startswith(expected)
    assert str(failed.value).endswith("\ntoo big")
    *reason, place = told.read_text().splitlines()
    assert reason == ["on_failure " + str(failed.value).splitlines()[0], "too big"]
    assert place == str(job.it.project.path)
    assert job.said[-1].startswith(f"warning: app/hooks/on_failure: `{tell}` failed with exit code 9")


def test_a_build_that_is_refused_is_told_and_one_that_is_interrupted_is_not(
    stack: Callable[..., Any], job: Any
) -> None:
    told = job.it.work / "told"
    hooks = BuildHooks(stack(on_failure=f'echo "$ROADBED_REASON" > {told}', after_build="false"), job.it)
    with pytest.raises(KeyboardInterrupt), hooks.watching(), hooks.around(NEW):
        raise KeyboardInterrupt
    assert not told.exists()
    with pytest.raises(Refused), hooks.watching():
        raise Refused("app/source: a secret is in a client bundle")
    assert told.read_text() == "app/source: a secret is in a client bundle\n"


def test_another_hook_builds_nothing_anew(stack: Callable[..., Any], job: Any) -> None:
    project, tools = job.it.project, job.it.toolchain
    other = stack(before_build="true", after_build="true", before_switch="true", timeout=9)
    assert make_job(other.app, project, tools, KEY, print).source_hash == job.it.source_hash


# Around a rollout


class Told(SimpleNamespace):
    """The report: (host, operation, status, detail)."""

    def operation(self, host: str, _: str, name: str, status: str, seconds: float = 0.0, detail: str = "") -> None:
        self.lines.append((host, name, status, detail))

    def progress(self, host: str, text: str) -> None: ...


@pytest.fixture
def rollout(stack: Callable[..., Any]) -> Callable[..., Any]:
    """``rollout(after_switch="...")``: the hooks of a rollout of NEW over OLD; the report's lines are in ``.lines``."""

    def make(dry_run: bool = False, action: str = "deploy", job: Job | None = None, **hooks: Any) -> Any:
        fleet: Any = SimpleNamespace(inventory=stack(**hooks))
        report: Any = Told(lines=[])
        run: Any = SimpleNamespace(fleet=fleet, phase="phase2", report=report, dry_run=dry_run, guard=lambda _: None)
        manifest: Any = Manifest.model_construct(release=NEW, commit="c0ffee")
        made = RolloutHooks(Artefact(Path(), manifest, job), run, ["one", "two"], Stages(run, "release"), action)
        made.know({"one": HostState(current=OLD), "two": HostState()})
        return SimpleNamespace(it=made, lines=report.lines)

    return make


def plan(**changes: Any) -> Plan:
    """The plan of a host on which NEW is to replace OLD."""
    state = HostState(current=OLD, slots={"a": OLD}, flags=frozenset({"active.a"}))
    return replace(decide(NEW, {"one": "d"}, {"one": state}, {"one": 1}, ("one",)), **changes)


DOCUMENTED = {
    "ROADBED_ACTION": "deploy",
    "ROADBED_COMMIT": "c0ffee",
    "ROADBED_DOMAIN": "shop.example.com",
    "ROADBED_HOOK": "before_switch",
    "ROADBED_HOSTS": "one two",
    "ROADBED_PHASE": "phase2",
    "ROADBED_PREVIOUS_RELEASE": OLD,
    "ROADBED_REASON": "",
    "ROADBED_RELEASE": NEW,
    "ROADBED_STACK": "prod",
}


def test_a_hook_gets_the_documented_environment_and_the_users_own(
    rollout: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHAT_ROOM", "of the user")
    monkeypatch.setenv("ROADBED_REASON", "of a hook that runs this")
    made = rollout(before_switch="env > seen")
    made.it.before_switch(plan())
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "project/seen").read_text().splitlines())
    ours = {name: value for name, value in seen.items() if name.startswith("ROADBED_")}
    assert ours.pop("ROADBED_OWNER").partition("@")[2]
    assert ours == DOCUMENTED
    assert seen["CHAT_ROOM"] == "of the user"
    text = (root / "README.md").read_text()
    assert [name for name in [*DOCUMENTED, "ROADBED_OWNER"] if f"`{name}`" not in text] == []


def test_a_failing_before_switch_stops_it(rollout: Callable[..., Any]) -> None:
    made = rollout(before_switch="echo 500 at /cart; exit 1")
    with pytest.raises(Stopped) as stopped:
        made.it.before_switch(plan())
    error = stopped.value.errors["one"]
    assert isinstance(error, OperationFailed)
    start = f"app/hooks/before_switch: `echo 500 at /cart; exit 1` failed with exit code 1; no request went to {NEW}."
    assert str(error).startswith(start)
    assert str(error).endswith("\n500 at /cart")
    title = "Run before_switch here: echo 500 at /cart; exit 1"
    assert made.lines == [("one", title, "failed", str(error))]


@pytest.mark.slow
def test_a_slow_before_switch_stops_it(rollout: Callable[..., Any]) -> None:
    with pytest.raises(Stopped) as stopped:
        rollout(before_switch="sleep 30", timeout=1).it.before_switch(plan())
    assert "did not end within 1 s and was stopped" in str(stopped.value.errors["one"])


@pytest.mark.slow
@pytest.mark.parametrize("command", ["exit 3", "sleep 30", "/no/such/program", "kill -9 $$"])
def test_notifications_never_gate(rollout: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr("roadbed.deploys.hooks.NOTICE", 1)
    made = rollout(after_switch=command, on_failure=command)
    made.it.after_switch(plan())
    made.it.failed({"one": OperationFailed("why")})
    assert [line[:3] for line in made.lines] == [
        ("one", f"Run after_switch here: {command}", "changed"),
        ("one", f"Run on_failure here: {command}", "changed"),
    ]
    assert all(line[3].startswith("warning: app/hooks/") for line in made.lines)


def test_a_project_that_is_gone_stops_a_gate_and_no_notification(
    rollout: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rollout(before_switch="true", after_switch="true")
    monkeypatch.setattr("roadbed.releases.hooks.Hooks.folder", lambda *_: Path("/no/such/folder"))
    made.it.after_switch(plan())
    assert "could not be run: No such file or directory" in made.lines[0][3]
    with pytest.raises(Stopped):
        made.it.before_switch(plan())


def test_a_failure_is_told_with_its_reason_as_far_as_it_is_short(rollout: Callable[..., Any], tmp_path: Path) -> None:
    made = rollout(on_failure='printf %s "$ROADBED_REASON" > told')
    stopped = OperationFailed("one: shop@b-0 / is not healthy (HTTP 500)")
    made.it.failed({"one": stopped, "two": stopped})
    assert (tmp_path / "project/told").read_text() == str(stopped)
    made.it.failed({"one": OperationFailed("x" * 100_000)})
    assert len((tmp_path / "project/told").read_text()) == 4000


def test_a_dry_run_tells_nobody(rollout: Callable[..., Any], tmp_path: Path) -> None:
    rollout(dry_run=True, on_failure="touch told").it.failed({"one": OperationFailed("why")})
    assert not (tmp_path / "project/told").exists()


def test_hooks_run_when_traffic_is_switched_and_after_an_interrupted_switch(rollout: Callable[..., Any]) -> None:
    made = rollout(before_switch="true", after_switch="true")
    an_instance_more, switched_before = plan(switch=(), current=()), plan(switch=())
    made.it.before_switch(an_instance_more)
    made.it.after_switch(an_instance_more)
    assert made.lines == []
    made.it.before_switch(switched_before)
    made.it.after_switch(switched_before)
    assert [line[1] for line in made.lines] == ["Run after_switch here: true"]


def test_without_hooks_nothing_happens(rollout: Callable[..., Any]) -> None:
    made = rollout()
    made.it.before_switch(plan())
    made.it.after_switch(plan())
    made.it.failed({"one": OperationFailed("why")})
    assert made.lines == []


def test_of_a_release_file_they_run_beside_the_inventory(rollout: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "project/package.json").unlink()
    (tmp_path / "project").rmdir()
    (tmp_path / "project").write_bytes(b"an archive")
    made = rollout(after_switch="pwd")
    made.it.after_switch(plan())
    assert made.lines[0][3] == str(tmp_path)


def test_the_commit_of_a_build_is_that_of_the_project(stack: Callable[..., Any], job: Any) -> None:
    made = replace(job.it, git=lambda root: GitState("c0ffee", dirty=False))
    hooks = BuildHooks(stack(before_build='echo "commit $ROADBED_COMMIT"'), made)
    with hooks.around(NEW):
        pass
    assert job.said[-1] == "  before_build: commit c0ffee"
