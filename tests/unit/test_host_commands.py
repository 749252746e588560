"""`logs`, `exec`, `ssh`: which hosts, which command lines, and how lines of several hosts become one log."""

import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadbed.cli.execute import MOST_CHARACTERS, Kept, as_app
from roadbed.cli.host_commands import COMMAND, WithCommand
from roadbed.cli.hosts import chosen_hosts, one_host, some_failed
from roadbed.cli.login import ssh_words
from roadbed.cli.logs import since
from roadbed.cli.main import app as provision
from roadbed.deploys.app import AppSettings
from roadbed.deploys.environment import environment_file
from roadbed.engine import log_reading, tied
from roadbed.engine.errors import HostUnreachable, InventoryError, OperationFailed, RoadbedError
from roadbed.engine.load import parse
from roadbed.engine.log_entries import NGINX_ERROR, POSTGRES, Entry, FileLog, access_entry, journal_entry, plain
from roadbed.engine.log_reading import Event, Follower, gather
from roadbed.engine.log_sources import ACCESS, Asked, Source, _file, _literal, _slots, sources
from roadbed.engine.parallel import each
from roadbed.engine.tied import MOST_LINE, Lines

STACK = """
app: {name: shop, source: project, domain: shop.example.com}
ssh: {user: admin}
hosts:
  web-1: {address: 192.0.2.1, roles: [web]}
  app-1: {address: 192.0.2.2, roles: [app]}
  app-2: {address: "2001:db8::2", roles: [app]}
"""


def stack(folder: Path = Path("/nowhere"), **ssh: Any) -> Any:
    """Three hosts; ``ssh`` is merged over its block."""
    words = {"user": "admin", **ssh}
    return parse(STACK.replace("{user: admin}", json.dumps(words)), folder / "prod.yml")


# Which hosts


def test_hosts_are_all_those_with_the_role_or_those_that_are_named() -> None:
    assert chosen_hosts(stack(), [], None, "HOST") == ["web-1", "app-1", "app-2"]
    assert chosen_hosts(stack(), [], "app", "--app") == ["app-1", "app-2"]
    assert chosen_hosts(stack(), ["app-2", "app-2"], "app", "--app") == ["app-2"]


@pytest.mark.parametrize(
    ("names", "role", "message"),
    [
        (["app-3"], None, "HOST: there is no host app-3. Hosts: web-1, app-1, app-2"),
        (["web-1"], "app", "HOST: web-1 does not have the role app, which --x is about. Hosts with it: app-1, app-2"),
        ([], "cache", "--x: no host of this inventory has the role cache"),
    ],
)
def test_a_wrong_host_is_told_with_the_right_ones(names: list[str], role: str | None, message: str) -> None:
    with pytest.raises(InventoryError) as error:
        chosen_hosts(stack(), names, role, "--x")
    assert str(error.value) == message


def test_the_only_host_need_not_be_named() -> None:
    single = parse("app: {name: a, source: b, domain: c.de}\nhosts: {one: {address: 192.0.2.1}}", Path("x.yml"))
    assert one_host(single, None) == "one"
    with pytest.raises(InventoryError, match="HOST: which one"):
        one_host(stack(), None)


def test_the_exit_code_is_3_when_a_host_was_out_of_reach_and_else_4() -> None:
    failed: dict[str, RoadbedError] = {"one": OperationFailed("x")}
    assert (some_failed(failed, ["one", "two"]).exit_code, str(some_failed(failed, ["one", "two"]))) == (
        4,
        "failed on 1 of 2 hosts: one",
    )
    assert some_failed({**failed, "two": HostUnreachable("y")}, ["one", "two"]).exit_code == 3


# provision exec


def parsed(*words: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the command line of `provision exec` means."""
    import typer

    command: Any = typer.main.get_command(provision)
    context = command.commands["exec"].make_context("exec", list(words))
    return context.params, context.meta[COMMAND]


def test_what_stands_after_the_dashes_is_the_command_as_it_is() -> None:
    params, command = parsed("app-1", "-i", "prod", "--role", "app", "--", "grep", "-i", "a b", "--", "-K")
    assert (list(params["hosts"]), params["inventory"], params["role"]) == (["app-1"], "prod", "app")
    assert command == ("grep", "-i", "a b", "--", "-K")
    assert parsed("app-1", "uptime")[1] == ()
    assert issubclass(WithCommand, object)


def test_the_app_s_environment_is_what_systemd_would_make_of_the_file(tmp_path: Path) -> None:
    """The shell reads it as systemd does: every character that could be special arrives."""
    values = {"PLAIN": "1", "HARD": "a b'\"$HOME `id` \\ \\n ; # \t\nsecond line", "EMPTY": ""}
    app = AppSettings(name="shop", source=".", domain="shop.example.com")
    (tmp_path / "etc/roadbed/shop").mkdir(parents=True)
    (tmp_path / "etc/roadbed/shop/env").write_text(environment_file(values))
    (tmp_path / "srv/shop/current/app").mkdir(parents=True)
    script = as_app(app, shlex.join(["env", "-0"]))
    script = script.replace("/srv/", f"{tmp_path}/srv/").replace("/etc/", f"{tmp_path}/etc/")
    script = script.replace("runuser -u shop --", "")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    seen = dict(item.partition("=")[::2] for item in done.stdout.split("\0"))
    assert {name: seen[name] for name in values} == values
    assert seen["PATH"].startswith(f"{tmp_path}/srv/shop/current/.roadbed:")
    assert seen["PWD"] == f"{tmp_path}/srv/shop/current/app"


def test_json_keeps_the_end_of_a_long_output() -> None:
    kept = Kept()
    for number in range(200_000):
        kept.add(f"line {number:06d}")
    assert kept.cut
    assert len(kept.text) <= MOST_CHARACTERS
    assert kept.text.endswith("line 199999\n")


# A command that ends with its connection


def test_bytes_become_lines_however_they_come() -> None:
    told: list[str] = []
    lines = Lines(told.append)
    for piece in (b"on", b"e\ntwo \xc3", b"\xa9\n\n", b"x" * (MOST_LINE * 2 + 5), b"\nlast"):
        lines.take(piece)
    assert told == ["one", "two é", "", "x" * MOST_LINE, "x" * MOST_LINE, "x" * 5]
    lines.end()
    assert told[-1] == "last"


def run_script(command: str) -> "subprocess.Popen[bytes]":
    """Runs a command as the host would."""
    script = tied.SCRIPT.format(command=shlex.quote(command), grace=1)
    return subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_its_exit_code_and_its_outputs_are_its_own() -> None:
    process = run_script("echo out; echo err >&2; cat; exit 7")
    assert process.stdout
    assert process.stderr
    assert (process.stdout.read(), process.stderr.read(), process.wait(timeout=10)) == (b"out\n", b"err\n", 7)


@pytest.mark.slow
def test_it_ends_with_all_it_has_started_when_the_connection_ends() -> None:
    """Here that is the end of standard input. Even what does not heed SIGTERM ends."""
    process = run_script("trap '' TERM; sleep 4713 & echo $$; sleep 4713; sleep 4713")
    assert process.stdin
    assert process.stdout
    group = int(process.stdout.readline())
    process.stdin.close()
    began = time.monotonic()
    process.wait(timeout=10)
    assert time.monotonic() - began < 4
    assert living(group) == []


def living(group: int) -> list[str]:
    """The processes of a group, without those that are dead and not yet buried (proc(5), stat)."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp, *_ = file.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        found += [file.parent.name] if int(pgrp) == group and state != "Z" else []
    return found


# Lines of logs


def test_an_entry_of_the_journal() -> None:
    record = {"__REALTIME_TIMESTAMP": "1764128400123456", "__CURSOR": "s=1", "MESSAGE": "ready"}
    entry = journal_entry(json.dumps({**record, "_SYSTEMD_UNIT": "shop@a-0.service"}), "shop")
    assert entry
    assert (entry.at, entry.label, entry.text, entry.cursor) == ("2025-11-26T03:40:00.123Z", "a-0", "ready", "s=1")
    told = journal_entry(json.dumps({**record, "_SYSTEMD_UNIT": "init.scope", "UNIT": "shop@a-0.service"}), "shop")
    assert told
    assert (told.label, told.text) == ("a-0", "systemd: ready")
    coloured = journal_entry(
        json.dumps({**record, "MESSAGE": list("\x1b[31mé".encode()), "_SYSTEMD_UNIT": "nginx.service"})
    )
    assert coloured
    assert (coloured.label, plain(coloured.text)) == ("nginx", "é")
    assert journal_entry("-- Boot 1 --") is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain", "red plain"),
        ("a\x1b[2Jb\rc\x9b2Jd\x00", "ab?c?2Jd?"),
        ("tab\tand é 漢", "tab\tand é 漢"),
    ],
)
def test_a_log_line_cannot_give_orders_to_the_terminal(text: str, shown: str) -> None:
    assert plain(text) == shown


REQUEST = {
    "status": 200,
    "seconds": 0.012,
    "time": "2025-11-26T04:40:00+01:00",
    "client": "203.0.113.9",
    "method": "GET",
}


def test_a_request_in_the_access_log() -> None:
    entry = access_entry(json.dumps({**REQUEST, "method": "GET", "path": "/cart", "instance": "a-0", "release": ""}))
    assert entry
    assert (entry.at, entry.text) == ("2025-11-26T03:40:00.000Z", "203.0.113.9 GET /cart 200, 0.012 s, a-0")


def test_lines_of_a_file_have_the_time_of_the_host_s_zone() -> None:
    log = FileLog("postgres", POSTGRES)
    assert log.take("1764128400 +0130 1764128395") is None
    assert log.take("2025-11-26 05:09:54.000 CET [1] LOG:  too old") is None
    lines = ["2025-11-26 05:09:56.250 CET [1] LOG:  duration: 1 s", "\tstatement: SELECT"]
    first, second = (log.take(line) for line in lines)
    assert first
    assert second
    assert (first.at, first.text) == ("2025-11-26T03:39:56.250Z", "[1] LOG:  duration: 1 s")
    assert (second.at, second.text) == (first.at, "\tstatement: SELECT")
    errors = FileLog("error", NGINX_ERROR, access_entry)
    errors.take("1764128400 +0000")
    entry = errors.take("2025/11/26 03:39:00 [error] 1#1: upstream prematurely closed")
    assert entry
    assert (entry.at, entry.text) == ("2025-11-26T03:39:00.000Z", "[error] 1#1: upstream prematurely closed")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", "$(($(date +%s) - 600))"),
        ("7d", "$(($(date +%s) - 604800))"),
        ("2025-11-26T03:40", "1764128400"),
        ("2025-11-26 04:40:00+01:00", "1764128400"),
    ],
)
def test_since(text: str, expected: str) -> None:
    assert since(text) == expected


@pytest.mark.parametrize("text", ["", "10", "m", "yesterday", "1h30m", "$(reboot)"])
def test_since_refuses_what_it_does_not_know(text: str) -> None:
    with pytest.raises(InventoryError, match="--since: "):
        since(text)


# What a host is asked


APP = AppSettings(name="shop", source=".", domain="shop.example.com")


def commands(component: str, unit: str | None = None, cursor: str | None = None, **asked: Any) -> dict[str, str]:
    """Name of a source -> what the host runs."""
    wanted = Asked(**{"lines": 10, **asked})
    return {source.name: source.command(cursor, False) for source in sources(component, APP, wanted, unit)}


def test_the_journal_is_asked_for_the_last_lines_or_for_what_comes() -> None:
    last = commands("redis")["journal"]
    assert "--reverse --lines=10" in last
    assert "--unit=redis-server@cache.service" in last
    assert "--follow" not in last
    assert "--follow --lines=10" in commands("redis", follow=True)["journal"]
    assert "--follow --no-tail --after-cursor=s=1" in commands("redis", follow=True, cursor="s=1")["journal"]
    assert "--unit='a b.service'" in commands("unit", "a b.service")["journal"]


def test_the_app_s_log_has_its_lines_and_what_systemd_says_of_every_instance_there_can_be() -> None:
    command = commands("app")["journal"]
    assert "SYSLOG_IDENTIFIER=shop + UNIT=shop@a-0.service" in command
    assert command.count("UNIT=") == 60
    assert "_SYSTEMD_UNIT=shop@b-1.service + UNIT=shop@b-1.service _PID=1" in commands("app", instance="b-1")["journal"]


def test_nginx_and_postgres_have_files_too() -> None:
    assert list(commands("nginx")) == ["journal", "access", "error"]
    assert list(commands("postgres")) == ["journal", "postgres"]
    narrowed = commands("nginx", instance="a-0", release="r1")
    assert list(narrowed) == ["access"]
    assert (
        """grep -h -F -e '"instance":"a-0"' "$f.1" "$f" 2>/dev/null | grep -F -e '"release":"r1"'"""
        in narrowed["access"]
    )
    assert ACCESS in narrowed["access"]


@pytest.mark.parametrize("text", ["a.b*c", "[error] \\E $x '", "größe 漢", "-v"])
def test_grep_is_for_text_and_not_for_a_pattern(text: str) -> None:
    """grep -P has the regular expressions of journalctl (PCRE2)."""
    done = subprocess.run(["grep", "-c", "-P", "-e", _literal(text)], input=f"x{text}y\na-b_c\n", text=True,
                          capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})  # fmt: skip
    assert done.stdout == "1\n"


def ran(script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"lines": 3}, ["old 4", "new 1", "new 2"]),
        ({"lines": 1}, ["new 2"]),
        ({"lines": 9, "grep": "2"}, ["old 2", "new 2"]),
        ({"lines": 9, "grep": "nothing"}, []),
    ],
)
def test_a_file_is_read_together_with_the_one_before_it(tmp_path: Path, asked: Any, found: list[str]) -> None:
    path = tmp_path / "access.log"
    path.with_name("access.log.1").write_text("".join(f"old {number}\n" for number in (1, 2, 3, 4)))
    path.write_text("new 1\nnew 2\n")
    source = _file("access", str(path), Asked(**asked, since="$(date +%s)"), [], None)
    first, *lines = ran(source.command(None, False)).stdout.splitlines()
    now, zone, begin = first.split()
    assert (now, zone[0] in "+-") == (begin, True)
    assert lines == found


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = ran(_file("postgres", f"$(ls -t {tmp_path}/*.log 2>/dev/null)", Asked(9), [], None).command(None, False))
    assert (done.returncode, done.stderr) == (0, "there is no log file\n")


def test_a_file_is_followed_over_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    path.write_text("one\ntwo\n")
    source = _file("error", str(path), Asked(1, follow=True, grep="o"), [], None)
    process = subprocess.Popen(
        ["sh", "-c", source.command(None, False)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout
        process.stdout.readline()
        assert process.stdout.readline() == "two\n"
        path.rename(tmp_path / "error.log.1")
        path.write_text("skipped\nover\n")
        assert process.stdout.readline() == "over\n"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def test_a_release_is_found_in_its_slot(tmp_path: Path) -> None:
    slots = tmp_path / "srv/shop/slots"
    slots.mkdir(parents=True)
    for slot, release in (("a", "r1"), ("b", "r2"), ("c", "r2")):
        (slots / slot).symlink_to(f"../releases/{release}")
    os.utime(slots / "b", (1000, 1000), follow_symlinks=False)
    os.utime(slots / "c", (2000, 2000), follow_symlinks=False)

    def shell(release: str, begin: str = "") -> "subprocess.CompletedProcess[str]":
        script = _slots(APP, release).replace("/srv/", f"{tmp_path}/srv/")
        return ran(f"since={begin}\n{script}echo $slots at $since")

    assert shell("r2").stdout == "b c at 1000\n"
    assert shell("r2", "1500").stdout == "b c at 1500\n"
    missing = shell("r9")
    assert (missing.returncode, missing.stderr) == (66, "release r9 is in no slot; there are a: r1 b: r2 c: r2\n")


# Several hosts


def entry(seconds: float, text: str = "x") -> Entry:
    return Entry(seconds, "a-0", text, {}, f"s={seconds}")


class Hosts:
    """Connected hosts; what each source of each gives is in ``given``: entries, or an error with which it ends."""

    def __init__(self, *names: str) -> None:
        self.sessions: dict[str, Any] = {name: SimpleNamespace(name=name, close=lambda: None) for name in names}
        self.failures: dict[str, RoadbedError] = {}
        self.connects: list[str] = []

    def session(self, name: str) -> Any:
        return self.sessions[name]

    def each(self, names: Iterable[str], work: Callable[[Any, str], Any]) -> dict[str, Any]:
        return each(names, lambda name: work(self.sessions[name], name))

    def connect(self, names: list[str]) -> None:
        self.connects += names
        if len(self.connects) > 1:
            self.sessions[names[0]] = SimpleNamespace(name=names[0], close=lambda: None)


SOURCE = Source("journal", lambda cursor, again: f"{cursor} {again}", lambda: lambda line: entry(float(line), line))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Host -> what its command gives, a list for each time it is run: lines, an exit code, an error."""
    given: dict[str, list[Any]] = {}
    asked: list[str] = []

    def run(session: Any, command: str, line: Any, stop: threading.Event | None = None) -> int:
        asked.append(command)
        for item in given[session.name].pop(0):
            if isinstance(item, Exception):
                raise item
            if isinstance(item, int):
                return item
            line("err" if item.startswith("!") else "out", item)
        return 0

    given["asked"] = asked
    monkeypatch.setattr(log_reading, "run_tied", run)
    monkeypatch.setattr(log_reading, "PAUSE", 0.01)
    return given


def shown(events: Iterable[Event]) -> list[str]:
    return [f"{event.host} {event.entry.text}" if event.entry else event.notice or str(event.error) for event in events]


def test_the_last_lines_of_all_hosts_are_merged_by_time(given: dict[str, list[Any]]) -> None:
    given.update(one=[["5", "3", "1"]], two=[["2", "4", "6"]], three=[[OperationFailed("three: no")]])
    fleet: Any = Hosts("one", "two", "three")
    events = gather(fleet, ["one", "two", "three"], [SOURCE], 4)
    assert shown(events) == ["three: no", "one 3", "two 4", "one 5", "two 6"]


def test_nothing_found_is_no_error_and_a_complaint_is(given: dict[str, list[Any]]) -> None:
    given.update(one=[[1]], two=[["! Failed to open", 1]])
    fleet: Any = Hosts("one", "two")
    assert shown(gather(fleet, ["one", "two"], [SOURCE], 4)) == ["two: ! Failed to open"]


def test_what_is_there_is_sorted_before_what_comes(given: dict[str, list[Any]]) -> None:
    given.update(one=[["3", "5", OperationFailed("one: ended")]], two=[["2", "4", OperationFailed("two: ended")]])
    fleet: Any = Hosts("one", "two")
    events = shown(Follower(fleet, [SOURCE]).events(["one", "two"], settle=0.1))
    assert [text for text in events if "ended" not in text] == ["two 2", "one 3", "two 4", "one 5"]


def test_a_host_that_drops_is_said_and_followed_again_from_where_it_was(given: dict[str, list[Any]]) -> None:
    lost = HostUnreachable("one: the connection broke")
    given.update(one=[["1", "2", lost], ["3", OperationFailed("one: ended")]])
    fleet: Any = Hosts("one")
    events = list(Follower(fleet, [SOURCE]).events(["one"], settle=0.05))
    assert sorted(shown(events)) == sorted(
        [
            "one 1",
            "one 2",
            "one: the connection broke. Trying again for 120 s",
            "one: connected again",
            "one 3",
            "one: ended",
        ]
    )
    assert given["asked"] == ["None False", "s=2.0 True"]
    assert fleet.connects == ["one", "one"]


def test_a_host_that_does_not_come_back_is_left_and_the_others_go_on(
    given: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reading, "RETRY_SECONDS", 0)
    given.update(one=[[HostUnreachable("one: gone")]], two=[["1", OperationFailed("two: ended")]])
    fleet: Any = Hosts("one", "two")
    events = list(Follower(fleet, [SOURCE]).events(["one", "two"], settle=0.05))
    assert {str(event.error) for event in events if event.error} == {"one: gone", "two: ended"}
    assert "two 1" in shown(events)


# provision ssh


def understood(words: list[str]) -> dict[str, list[str]]:
    """What ssh(1) makes of a command line, as ``ssh -G`` prints it."""
    done = subprocess.run([words[0], "-F", "none", "-G", *words[1:]], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value)
    return found


def test_ssh_is_told_what_the_inventory_says(tmp_path: Path) -> None:
    folder = tmp_path / "my stacks 100%"
    folder.mkdir()
    (folder / "key").write_text("")
    words = ssh_words(stack(folder, user="deploy", port=2222, key="key"), "app-2", (), terminal=True)
    is_ = understood(words)
    assert (is_["user"], is_["hostname"], is_["port"]) == (["deploy"], ["2001:db8::2"], ["2222"])
    assert is_["stricthostkeychecking"] == ["accept-new"]
    assert (is_["hashknownhosts"], is_["updatehostkeys"], is_["identitiesonly"]) == (["no"], ["false"], ["yes"])
    assert is_["identityfile"] == [str(folder / "key").replace("%", "%%")]
    assert is_["userknownhostsfile"] == [str(folder / "prod.known_hosts")]  # as ssh has read it
    assert "-t" not in words


def test_without_a_key_ssh_uses_the_agent_and_the_user_s_own(tmp_path: Path) -> None:
    words = ssh_words(stack(tmp_path), "web-1", (), terminal=True)
    assert "IdentityFile" not in " ".join(words)
    assert words[-1] == "admin@192.0.2.1"
    with pytest.raises(InventoryError, match="ssh/key: "):
        ssh_words(stack(tmp_path, key="none"), "web-1", (), terminal=True)


def test_the_words_of_a_command_arrive_as_they_are(tmp_path: Path) -> None:
    words = ssh_words(stack(tmp_path), "web-1", ("printf", "%s|", "a b", "$HOME;", "'"), terminal=True)
    assert "-t" in words
    assert ran(words[-1]).stdout == "a b|$HOME;|'|"
    assert "-t" not in ssh_words(stack(tmp_path), "web-1", ("true",), terminal=False)


def test_the_way_through_a_jump_host_knows_the_same_keys(tmp_path: Path) -> None:
    folder = tmp_path / "my stacks 100%"
    folder.mkdir()
    (folder / "key").write_text("")
    words = ssh_words(stack(folder, key="key", jump="gate@192.0.2.9:2022"), "web-1", (), terminal=True)
    [way] = understood(words)["proxycommand"]
    expanded = way.replace("%%", "\0").replace("%h", "192.0.2.1").replace("%p", "22").replace("\0", "%")
    jump = shlex.split(expanded)
    assert jump[-3:] == ["gate@192.0.2.9", "-W", "[192.0.2.1]:22"]
    is_ = understood(jump)
    assert (is_["user"], is_["hostname"], is_["port"]) == (["gate"], ["192.0.2.9"], ["2022"])
    assert is_["identityfile"] == [str(folder / "key").replace("%", "%%")]
    assert is_["stricthostkeychecking"] == ["accept-new"]


def test_without_ssh_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roadbed.cli.login import login

    (tmp_path / "prod.yml").write_text(STACK)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InventoryError, match=r"this machine has no ssh program\. Install it"):
        login(str(tmp_path / "prod.yml"), "web-1", ())
