"""What a host is asked: once, ahead, and together with others; and what a start of pyinfra leaves out.

The host is this machine's own shell: what is asked together must say what is asked alone.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.context import ctx_host, ctx_state
from pyinfra.facts.files import Directory, File, Link
from pyinfra.facts.systemd import SystemdEnabled, SystemdStatus

from roadbed.deploys.files import FileState
from roadbed.deploys.system import UnitState
from roadbed.engine import answers as module
from roadbed.engine.answers import Answers, list_path
from roadbed.engine.batch import KINDS, answer_all
from roadbed.engine.converge import Run
from roadbed.engine.fleet import Fleet
from roadbed.engine.report import Report
from roadbed.engine.result import Result

Make = Callable[..., Any]


class Shell:
    """Answers questions as a session does, and counts its round trips."""

    def __init__(self, path: str = "") -> None:
        self.trips: list[list[str]] = []
        self.path = path
        self.answers = Answers(self.ask)

    def ask(self, questions: list[str]) -> list[Result]:
        self.trips.append(list(questions))
        return [self.run(question) for question in questions]

    def run(self, question: str) -> Result:
        words = ["sh", "-c", f"PATH={self.path}$PATH; {question}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return Result(done.returncode, done.stdout, done.stderr, 1.0)


def question(command: str) -> str:
    return f"sh -c '{command}' </dev/null"


ONE, TWO = question("echo one"), question("echo two")


def test_a_question_is_asked_once_until_something_changes() -> None:
    shell = Shell()
    assert [shell.answers.of(ONE).out for _ in range(3)] == ["one\n"] * 3
    assert len(shell.trips) == 1
    shell.answers.forget()
    shell.answers.of(ONE)
    assert len(shell.trips) == 2


def test_what_the_last_run_asked_is_asked_ahead_in_one_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "facts/web-1.json"
    before = Shell()
    before.answers.of(ONE)
    before.answers.of(TWO)
    before.answers.save(path)
    assert json.loads(path.read_text()) == [ONE, TWO]
    shell = Shell()
    shell.answers.expect(path)
    assert shell.trips == [[ONE, TWO]]
    assert (shell.answers.of(TWO).out, shell.answers.of(ONE).out) == ("two\n", "one\n")
    shell.answers.renew()
    assert len(shell.trips) == 1
    shell.answers.forget()
    shell.answers.renew()
    assert shell.trips[1:] == [[ONE, TWO]]


def test_a_list_holds_what_was_asked_and_no_answer(tmp_path: Path) -> None:
    """What this run did not need is not asked ahead by the next one."""
    path = tmp_path / "web-1.json"
    path.write_text(json.dumps([ONE, TWO]))
    shell = Shell()
    shell.answers.expect(path)
    shell.answers.of(TWO)
    shell.answers.save(path)
    assert path.read_text() == json.dumps([TWO])


@pytest.mark.parametrize("text", [None, "", "{", "[]", "7"])
def test_without_a_usable_list_nothing_is_asked(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "web-1.json"
    if text is not None:
        path.write_text(text)
    shell = Shell()
    shell.answers.expect(path)
    assert shell.trips == []
    assert shell.answers.of(ONE).out == "one\n"


def test_an_old_answer_is_asked_again_with_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = Shell()
    shell.answers.of(ONE)
    shell.answers.of(TWO)
    monkeypatch.setattr(module, "FRESH_SECONDS", -1.0)
    shell.answers.of(TWO)
    assert shell.trips[2:] == [[ONE, TWO]]


def test_every_host_of_every_inventory_has_a_list_of_its_own(tmp_path: Path) -> None:
    paths = {list_path(tmp_path / file, host) for file in ("a.yml", "b.yml") for host in ("web-1", "web-2")}
    assert len(paths) == 4


# Together

SYSTEMCTL = """#!/bin/sh
# Says what systemctl of Debian 13 says: one block for each unit, in the order of the call.
names= properties=
while [ $# -gt 0 ]; do
  case $1 in
    --property) properties="$properties $2"; shift ;;
    show | --all) ;;
    *) names="$names $1" ;;
  esac
  shift
done
first=yes
for name in $names; do
  [ -n "$first" ] || echo
  first=
  for property in $properties; do
    case $property in
      Id) echo "Id=$name" ;;
      SubState) case $name in nginx*) echo SubState=running ;; *) echo SubState=dead ;; esac ;;
      ActiveState) echo ActiveState=active ;;
      UnitFileState) case $name in none*) echo UnitFileState= ;; *) echo UnitFileState=enabled ;; esac ;;
    esac
  done
done
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell with a systemctl that answers everywhere."""
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    return Shell(f"{program.parent}:")


@pytest.fixture
def facts(make_context: Make, shell: Shell) -> Callable[[Iterable[tuple[Any, dict[str, str]]]], list[Any]]:
    """Facts of pyinfra by Roadbed's connector, as operations get them."""
    inventory = make_context().inventory
    inventory._path = Path("/nowhere/prod.yml")
    fleet = Fleet(inventory)
    fleet.sessions["web-1"] = SimpleNamespace(answers=shell.answers)  # type: ignore[assignment]

    def get(wanted: Iterable[tuple[Any, dict[str, str]]]) -> list[Any]:
        run = Run(fleet, "phase1", {}, Report())
        run._start_pyinfra()
        host = run.hosts["web-1"]
        with ctx_state.use(run.state), ctx_host.use(host):
            return [host.get_fact(fact, **arguments) for fact, arguments in wanted]

    return get


def wanted(folder: Path) -> list[tuple[Any, dict[str, str]]]:
    """Two or more questions of each kind: what is there, what is not, and what is something else."""
    (folder / "file").write_text("text\n")
    (folder / "empty").touch(mode=0o600)
    (folder / "folder").mkdir(mode=0o750)
    (folder / "link").symlink_to("file")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "with space").write_text("is asked by itself")
    names = ("file", "empty", "folder", "link", "dangling", "missing", "with space")
    found = [(fact, {"path": str(folder / name)}) for fact in (FileState, File, Directory, Link) for name in names]
    units = ("nginx.service", "none.timer", "shop@a-0.service")
    found += [(fact, {"services": unit}) for fact in (SystemdStatus, SystemdEnabled) for unit in units]
    return [*found, (UnitState, {"unit": "shop.target"})]


def test_facts_asked_together_are_those_asked_alone(
    tmp_path: Path, shell: Shell, facts: Callable[[Any], list[Any]]
) -> None:
    """Also that the installed pyinfra writes its commands in the form that is recognised."""
    questions = wanted(tmp_path)
    alone = facts(questions)
    texts = [trip[0] for trip in shell.trips]
    shell.answers.save(tmp_path / "list.json")
    shell.answers.forget()
    shell.trips.clear()
    shell.answers.expect(tmp_path / "list.json")
    odd = [text for text in texts if "with space" in text]
    assert len(odd) == 2
    assert shell.trips[0][len(KINDS) :] == odd
    assert facts(questions) == alone
    assert len(shell.trips) == 1
    assert [state and state[0] for state in alone[:7]] == ["644", "600", None, None, None, None, "644"]


def test_an_answer_that_does_not_fit_is_asked_again_alone(tmp_path: Path, shell: Shell) -> None:
    """A file that vanishes between two commands, say: nobody gets the answer of another file."""
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    fact = FileState()  # type: ignore[no-untyped-call]
    inner = [fact.command(str(tmp_path / name)).get_raw_value() for name in ("one", "two")]
    texts = ["sh -c '" + text.replace("'", "'\"'\"'") + "' </dev/null" for text in inner]

    def ask(questions: list[str]) -> list[Result]:
        results = shell.ask(questions)
        if len(shell.trips) == 1:
            (tmp_path / "one").unlink()
            lines = results[0].out.splitlines(keepends=True)
            return [Result(0, "".join(lines[:-1]), "")]
        return results

    known = answer_all(ask, texts)
    assert shell.trips[1] == texts
    assert known[texts[0]].out == ""
    assert known[texts[1]].out.startswith("644 ")


# The start

START = """
import gc, sys, threading
from importlib import metadata
before = metadata.entry_points
from roadbed.engine.start import ready, start
start()
import paramiko, pyinfra.api, pyinfra.operations.apt
from gevent.monkey import is_module_patched
assert is_module_patched("threading") and is_module_patched("socket")
assert metadata.entry_points is before
left_out = {"invoke", "asyncio", "unittest.mock", "pyinfra.operations.server"}
assert not left_out & set(sys.modules), left_out & set(sys.modules)
assert not gc.isenabled()
ready()
assert gc.isenabled()
from unittest.mock import Mock
assert Mock().anything() is not None
"""


def test_a_start_loads_and_searches_nothing_without_need() -> None:
    subprocess.run([sys.executable, "-c", START], check=True)


@pytest.mark.slow
def test_a_converge_loads_no_network_client_and_no_parser_of_certificates() -> None:
    code = (
        "import sys; from roadbed.engine.start import start; start(); import roadbed.cli.phase, roadbed.engine.load, "
        "roadbed.engine.converge, roadbed.releases.release_step, roadbed.releases.build; "
        "print(*({'httpx', 'asyncio', 'pytest', 'cryptography.x509', 'pyinfra_cli'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
