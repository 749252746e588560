"""The command line without a host: help with examples, its price, mistakes with their exit codes."""

import os
import resource
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

from roadbed.engine.secrets import Secrets

PROVISION = str(Path(sys.executable).with_name("provision"))
COMMANDS = [
    ["phase1"],
    ["check"],
    ["verify"],
    ["rehearse"],
    ["patch"],
    ["backup"],
    ["restore"],
    ["status"],
    ["logs"],
    ["exec"],
    ["ssh"],
    ["init"],
    ["inventory", "show"],
    ["inventory", "schema"],
    ["secrets", "list"],
    ["secrets", "set"],
    ["secrets", "remove"],
    *(["machines", verb] for verb in ("up", "down", "reset", "list", "ssh", "cut", "heal", "slow")),
]
GOOD = "app: {name: shop, source: app, domain: shop.example.com}\nhosts: {one: {address: 192.0.2.1}}\n"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def provision(folder: Path, *words: str) -> Done:
    """Runs the command in a child of this process: the imports, a second each time, are there already."""
    import roadbed.engine.load  # noqa: F401
    from roadbed.cli import main

    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.update(ROADBED_IDENTITY=str(folder / "identity.age"), COLUMNS="100")
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = ["provision", *words]
        code = 1
        try:
            main.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    said = {name: (folder / name).read_text() for name in ("stdout", "stderr")}
    return Done(os.waitstatus_to_exitcode(status), **said)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(tmp_path: Path, words: list[str]) -> None:
    from typer.testing import CliRunner

    from roadbed.cli.main import app

    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    assert "provision " + " ".join(words) in result.output.split("Example", 1)[1]


@pytest.mark.parametrize("command", [[], ["phase1"], ["machines", "up"]])
def test_help_is_quick(command: list[str]) -> None:
    """`--help` takes less than 0.3 s of CPU (user + system)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([PROVISION, *command, "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


MISTAKES = [
    (["phase1"], "There is no inventory in inventories/. Write one: provision init", 2),
    (["phase1", "-i", "prod"], "there is no file inventories/prod.yml", 2),
    (["phase1", "-i", "bad.yml"], "app/nam: unknown key. Did you mean name?", 2),
    (["machines", "reset", "two", "-i", "good.yml"], "has no host two. Hosts: one. Another inventory: -i NAME", 2),
    (["machines", "up", "two", "-i", "good.yml"], "has no host two", 2),
    (["phase1", "-i", "good.yml", "--limit", "two"], "--limit: there is no host two. Hosts: one", 2),
    (["phase1", "-i", "good.yml", "--limit", ""], "--limit: names no host. Hosts: one", 2),
    (["phase1", "-i", "good.yml"], "app/source: ", 2),
    (["verify", "phase9", "-i", "good.yml"], "phase: there is no phase9. Phases: phase1", 2),
    (["phase9"], "No such command 'phase9'", 2),
    (["check", "-i", "broken.yml"], "broken.yml line 2, column 1: not valid YAML", 2),
    (["init"], "--host: is required", 2),
    (["logs", "two", "-i", "good.yml"], "HOST: there is no host two. Hosts: one", 2),
    (["logs", "--nginx", "--redis", "-i", "good.yml"], "--nginx and --redis: choose one", 2),
    (["logs", "--since", "soon", "-i", "good.yml"], "--since: 'soon' is no time. Write a span such as 30s", 2),
    (["logs", "--instance", "d-0", "-i", "good.yml"], "--instance: 'd-0' is none. Write slot and number", 2),
    (["logs", "--redis", "--release", "x", "-i", "good.yml"], "--release: is for --app and --nginx", 2),
    (["logs", "--lines", "0", "-i", "good.yml"], "0 is not in the range 1<=x<=100000", 2),
    (["exec", "one", "uptime", "-i", "good.yml"], "Write it after two dashes: provision exec app-1 -- uptime", 2),
    (["exec", "two", "-i", "good.yml", "--", "uptime"], "HOST: there is no host two. Hosts: one", 2),
    (["exec", "--role", "db", "-i", "good.yml", "--", "uptime"], "--role: 'db' is not a role. Roles: web, app", 2),
    (["ssh", "two", "-i", "good.yml", "--", "uptime"], "HOST: there is no host two. Hosts: one", 2),
    (["secrets", "remove", "X", "-i", "good.yml"], "X: is not in good.secrets.age. Names: none", 2),
]


@pytest.mark.parametrize(("words", "message", "code"), MISTAKES, ids=[" ".join(words) for words, _, _ in MISTAKES])
def test_a_mistake_has_a_message_and_an_exit_code(tmp_path: Path, words: list[str], message: str, code: int) -> None:
    (tmp_path / "good.yml").write_text(GOOD)
    (tmp_path / "bad.yml").write_text(GOOD.replace("name", "nam"))
    (tmp_path / "broken.yml").write_text("app: [\n")
    done = provision(tmp_path, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder that `init` takes for a Next.js project."""
    (tmp_path / "package.json").write_text('{"dependencies": {"next": "16.0.0"}}')
    return tmp_path


INIT = ["init", "prod", "--host", "admin@203.0.113.9", "--domain", "www.example.com"]


def test_init_writes_an_inventory_that_loads_and_never_overwrites(project: Path) -> None:
    done = provision(project, *INIT)
    assert done.returncode == 0, done.stderr
    shown = provision(project, "inventory", "show", "-i", "prod")
    assert shown.returncode == 0, shown.stderr
    assert "address: 203.0.113.9" in shown.stdout
    assert "source: ..\n" in shown.stdout
    again = provision(project, *INIT)
    assert again.returncode == 6
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["init", "../evil", *INIT[2:]], "'../evil' is not a name for an inventory"),
        ([*INIT[:2], "--host", "ro ot@@x", *INIT[4:]], "ssh/user: "),
        ([*INIT[:4]], "--domain: is required"),
        ([*INIT[:5], "https://shop.example.com/"], "app/domain: 'https://shop.example.com/' is not a host name"),
        ([*INIT, "--source", "nowhere"], "--source: there is no folder nowhere"),
    ],
)
def test_init_writes_nothing_that_would_be_refused(project: Path, words: list[str], message: str) -> None:
    done = provision(project, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (project / "inventories").exists()


def test_secrets_say_what_becomes_of_them(tmp_path: Path) -> None:
    (tmp_path / "good.yml").write_text(GOOD)
    secret(tmp_path, "TOKEN")
    done = provision(tmp_path, "secrets", "remove", "TOKEN", "-i", "good.yml")
    assert (done.returncode, done.stderr) == (0, "TOKEN is forgotten\n")
    secret(tmp_path, "action_key")
    listed = provision(tmp_path, "secrets", "list", "-i", "good.yml")
    assert (listed.stdout, listed.stderr) == ("action_key\n", "made by Roadbed: action_key\n")
    done = provision(tmp_path, "secrets", "remove", "action_key", "-i", "good.yml")
    assert done.returncode == 6
    assert "action_key: Roadbed has made it, and the next run makes another" in done.stderr
    assert provision(tmp_path, "secrets", "remove", "action_key", "--yes", "-i", "good.yml").returncode == 0


def secret(folder: Path, name: str) -> None:
    """Stores a secret of the stack ``good``, as a run would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROADBED_IDENTITY", str(folder / "identity.age"))
        Secrets(folder / "good.secrets.age").set(name, "x")
