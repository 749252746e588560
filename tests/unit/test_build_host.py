"""A build on a host: what it may take, and the unit it runs in."""

import os
import shlex
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import pytest
from pydantic import ValidationError

from roadbed.deploys.build import Budget, budget
from roadbed.engine.errors import HostUnreachable
from roadbed.releases import build_host, host_files, scripts
from roadbed.releases.build_env import host_environment
from roadbed.releases.build_host import BuildHost
from roadbed.releases.command import BuildFailed
from roadbed.releases.unit import ACCOUNT, ended, unit_command

Make = Callable[..., Any]
APP = {"replicas": 2, "memory": 512}


def at(phase: str, ctx: Any, **facts: Any) -> Any:
    """The context of a host that was brought to ``phase`` before; empty: of a bare one."""
    return replace(ctx, facts={name: replace(fact, phase=phase, **facts) for name, fact in ctx.facts.items()})


def test_the_instances_that_serve_keep_their_memory(make_context: Make) -> None:
    found = budget(at("phase1", make_context(app=APP, memory_mb=4096)), 3000)
    assert (found.memory_mb, found.cpu_percent) == (4096 - 384 - 2 * 512, 100)
    assert found.sum == (
        "4096 MiB less 384 MiB for the system, 1024 MiB for the instances (2 x 512) leave 2688 MiB: "
        "the build may take 2688 MiB"
    )


def test_no_more_than_what_is_free(make_context: Make) -> None:
    found = budget(at("phase1", make_context(app=APP, memory_mb=4096)), 2000)
    assert found.memory_mb == 2000 - 128
    assert "leave 2688 MiB, of which 2000 MiB less 128 MiB to spare are free now: the build may take 1872" in found.sum


def test_what_redis_and_postgres_may_take_is_theirs_from_phase2_on(make_context: Make) -> None:
    hosts = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app", "cache", "database", "pooler"]}}
    ctx = make_context(app=APP, memory_mb=8192, hosts=hosts)
    assert budget(at("phase1", ctx), 8000).memory_mb == 8192 - 384 - 1024
    found = budget(at("phase2", ctx), 8000)
    assert found.memory_mb == 8192 - 384 - 1024 - 7808 // 7 - 7808 * 2 // 7
    assert "for Redis" in found.sum
    assert "for PostgreSQL" in found.sum
    own = make_context(app=APP, memory_mb=8192, hosts=hosts, redis={"external": True}, postgres={"external": True})
    assert budget(at("phase2", own), 8000).memory_mb == 8192 - 384 - 1024


def test_a_host_that_only_builds_and_a_bare_one_give_all_they_have(make_context: Make) -> None:
    bare = budget(at("", make_context(app=APP, memory_mb=2048)), 1900)
    assert (bare.memory_mb, bare.cpu_percent) == (2048 - 384, 200)
    hosts = {
        "web-1": {"address": "192.0.2.10", "roles": ["web", "app"]},
        "build-1": {"address": "192.0.2.11"},
    }
    ctx = make_context(name="build-1", app=APP, memory_mb=2048, hosts=hosts, build={"host": "build-1"})
    only = budget(at("phase1", ctx), 1900)
    assert (only.memory_mb, only.cpu_percent) == (2048 - 384, 200)


@pytest.mark.parametrize(("cpus", "percent"), [(1, 50), (2, 100), (8, 700)])
def test_a_core_is_left_to_what_serves(make_context: Make, cpus: int, percent: int) -> None:
    assert budget(at("phase1", make_context(app=APP, memory_mb=4096, cpus=cpus)), 4000).cpu_percent == percent


@pytest.mark.parametrize(
    ("memory", "asked", "free", "sum_"),
    [
        (2440, "auto", 400, r"leave 1032 MiB, of which 400 MiB less 128 MiB to spare are free now, and a build needs"),
        (
            2432,
            "auto",
            1000,
            r"2432 MiB less 384 .* leave 1024 MiB, of which 1000 MiB .* a build needs 1024 MiB. Use a host with",
        ),
        (4096, "auto", 1000, r"leave 2688 MiB, of which 1000 MiB less 128 .* free now, and a build needs 1024 MiB"),
        (4096, 3000, 4000, r"leave 2688 MiB, and build/memory is 3000 MiB. Use a host .*: remove build/host"),
        (4096, 512, 4000, r"leave 2688 MiB, and a build needs 1024 MiB"),
    ],
)
def test_too_little_is_refused_with_the_sum(make_context: Make, memory: int, asked: Any, free: int, sum_: str) -> None:
    ctx = make_context(app=APP, memory_mb=memory, build={"memory": asked})
    with pytest.raises(ValueError, match=sum_):
        budget(at("phase1", ctx), free)


def test_build_host_is_a_host_of_the_inventory(make_context: Make) -> None:
    with pytest.raises(ValidationError, match=r"build/host: there is no host build-1. Hosts: web-1"):
        make_context(build={"host": "build-1"})


def test_hooks_of_the_build_belong_to_this_machine(make_context: Make) -> None:
    with pytest.raises(ValidationError, match=r"app/hooks/before_build: runs on this machine, and build/host builds"):
        make_context(app={"hooks": {"before_build": "true", "on_failure": "true"}}, build={"host": "web-1"})


def test_only_the_host_that_builds_may_have_no_role(make_context: Make) -> None:
    hosts = {"web-1": {"address": "192.0.2.10", "roles": ["web", "app"]}, "build-1": {"address": "192.0.2.11"}}
    with pytest.raises(ValidationError, match=r"hosts/build-1/roles: has no role"):
        make_context(hosts=hosts)
    assert make_context(hosts=hosts, build={"host": "build-1"}).inventory.build.host == "build-1"


LIMITS = Budget(1500, 100, "")


def command(**changes: Any) -> list[str]:
    given: dict[str, Any] = {"folder": "/var/lib/x/source", "writable": ("/var/lib/x", "/var/lib/y"), "npmrc": True}
    text = unit_command(
        ["npm", "ci", "--cache", "/a b", "${HOME%/*}"], budget=LIMITS, minutes=30, **{**given, **changes}
    )
    return shlex.split(text)


def test_a_step_runs_as_a_bounded_sandboxed_unit() -> None:
    words = command()
    assert words[:4] == ["systemd-run", "--pipe", "--wait", "--collect"]
    properties = [word.removeprefix("--property=") for word in words if word.startswith("--property=")]
    for wanted in (
        "User=roadbed-build",
        "MemoryMax=1500M",
        "MemorySwapMax=0",
        "CPUQuota=100%",
        "CPUWeight=20",
        "IOWeight=20",
        "RuntimeMaxSec=30min",
        "ProtectSystem=strict",
        "ReadWritePaths=/var/lib/x /var/lib/y",
        "PrivateTmp=yes",
        "EnvironmentFile=/run/roadbed-build/env",
        "LoadCredential=npmrc:/run/roadbed-build/npmrc",
        "ExecStopPost=+/bin/rm -f /run/roadbed-build/env /run/roadbed-build/npmrc",
    ):
        assert wanted in properties
    assert words[words.index("--") :] == [
        "--",
        "/bin/sh",
        "/run/roadbed-build/run",
        "30",
        "npm",
        "ci",
        "--cache",
        "/a b",
        "$${HOME%/*}",
    ]
    assert not [word for word in command(npmrc=False) if "LoadCredential" in word]


@pytest.mark.parametrize(
    ("code", "account", "systemd", "said", "why"),
    [
        (0, "roadbed-build: peak=900000000 killed=1", "", "", ""),
        (1, "roadbed-build: peak=900000000 killed=0", "Finished with result: exit-code", "Type error", ""),
        (137, "roadbed-build: peak=1572864000 killed=2", "", "", "hit its memory cap of 1500 MB: the kernel killed it"),
        (1, "", "Finished with result: oom-kill\n", "", "hit its memory cap of 1500 MB: the kernel killed it"),
        (134, "roadbed-build: peak= killed=", "", "FATAL ERROR: JavaScript heap out of memory", "Node.js has 1125 MB"),
        (
            1,
            "",
            "Running as unit\nFinished with result: timeout\n",
            "",
            "it was ended after 30 minutes (build/minutes)",
        ),
        (1, "", "Unit roadbed-build.service already exists.", "", "Unit roadbed-build.service already exists."),
        (1, "", "Finished with result: signal", "", "the unit did not run to its end: signal"),
    ],
)
def test_how_a_step_ended(code: int, account: str, systemd: str, said: str, why: str) -> None:
    found = ended(code, account, systemd, said, LIMITS, 30)
    assert found.code == code
    assert why in found.why
    assert bool(why) == bool(found.why)


def start_run(folder: Path, silence: str, *words: str) -> "subprocess.Popen[str]":
    """``host/build-run.sh`` as its unit runs it, but without a unit."""
    return subprocess.Popen(
        ["sh", str(scripts.FOLDER / "build-run.sh"), silence, *words],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_step_passes_on_output_and_exit_code_and_accounts_for_its_memory(tmp_path: Path) -> None:
    run = start_run(tmp_path, "20", "sh", "-c", "cat; echo out; echo err >&2; exit 3")
    assert run.stdout is not None
    lines = run.stdout.read().split("\n")
    assert run.wait() == 3
    assert lines[:3] == ["out", "err", ""]
    assert ACCOUNT.match(lines[3])
    os.killpg(run.pid, signal.SIGKILL)  # the unit does this


@pytest.mark.slow
@pytest.mark.parametrize(("silence", "closes"), [("60", True), ("1", False)], ids=["line closed", "no sign of life"])
def test_a_step_ends_when_the_control_machine_is_gone(tmp_path: Path, silence: str, closes: bool) -> None:
    run = start_run(tmp_path, silence, "sleep", "50")
    try:
        assert run.stdin is not None
        for _ in range(4):  # longer than the silence, with signs of life
            run.stdin.write(".")
            run.stdin.flush()
            time.sleep(0.4)
        assert run.poll() is None
        if closes:
            run.stdin.close()
        assert run.wait(timeout=10) == -signal.SIGKILL
    finally:
        os.killpg(run.pid, signal.SIGKILL)


def shell(name: str, **given: str) -> str:
    done = subprocess.run(["sh", "-c", scripts.script(name, **given)], check=True, capture_output=True, text=True)
    return done.stdout


def sums_of(root: Path, *names: str) -> str:
    return "".join(f"{sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in names)


def test_only_files_that_changed_are_sent(tmp_path: Path) -> None:
    """The scripts of the host: what the last build left of a file that it changed is not taken for the source."""
    here, work = tmp_path / "here", tmp_path / "work"
    for name, text in {"a b.txt": "one", "app/page.js": "two", "run": "#!/bin/sh"}.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text)
    work.mkdir()
    names = ["a b.txt", "app/page.js", "run"]
    given = {"work": str(work), "sums": str(tmp_path / "sums")}
    (tmp_path / "programs").write_text("run\n")

    def send() -> list[str]:
        (tmp_path / "sums").write_text(sums_of(here, *names))
        lacking = shell("build-receive", **given).splitlines()
        with tarfile.open(tmp_path / "files", "w:gz") as tar:
            for name in lacking:
                tar.add(here / name, name)
        shell("build-unpack", **given, archive=str(tmp_path / "files"), programs=str(tmp_path / "programs"))
        return lacking

    assert send() == names
    assert os.access(work / "source/run", os.X_OK)
    assert not os.access(work / "source/app/page.js", os.X_OK)
    assert send() == []
    (work / "source/app/page.js").write_text("changed by a build")
    (work / "source/node_modules").mkdir()
    (here / "a b.txt").write_text("changed here")
    assert send() == ["a b.txt", "app/page.js"]
    assert {path.name for path in (work / "source").iterdir()} == {"a b.txt", "app", "run"}
    assert (work / "source/app/page.js").read_text() == "two"


def test_a_finished_build_is_listed(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("required-server-files.json", "roadbed-build.json", "standalone/server.js", "static/a.js"):
        (project / ".next" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / ".next" / name).write_text(name)
    (project / ".next/standalone/tool").write_text("x")
    (project / ".next/standalone/tool").chmod(0o755)
    (project / ".next/standalone/link").symlink_to("server.js")
    (project / "public").mkdir()
    (project / "public/robots.txt").write_text("x")
    listing = shell("build-list", dist=f"{project}/.next", project=str(project))
    files, links, programs = host_files._listed(listing, PurePosixPath(project))
    assert files == {name: sha256((project / name).read_bytes()).hexdigest() for name in files}
    assert sorted(files) == [
        ".next/required-server-files.json",
        ".next/roadbed-build.json",
        ".next/standalone/server.js",
        ".next/standalone/tool",
        ".next/static/a.js",
        "public/robots.txt",
    ]
    assert (links, programs) == ({".next/standalone/link": "server.js"}, {".next/standalone/tool"})
    (project / "public/a\nb").write_text("x")
    with pytest.raises(BuildFailed, match="cannot be carried"):
        host_files._listed(shell("build-list", dist=f"{project}/.next", project=str(project)), PurePosixPath(project))


def test_a_build_on_a_host_sees_nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".npmrc").write_text("//npm.lan/:_authToken=${NPM_TOKEN}\n")
    for name, value in {
        "NPM_TOKEN": "t",
        "npm_config_registry": "https://npm.lan/",
        "npm_config_cache": "/home/me/.npm",
        "HTTPS_PROXY": "http://127.0.0.1:3128",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    env = host_environment(["/opt/bin", "/bin"], "/var/lib/x/home", tmp_path, {"NEXT_PUBLIC_A": "1"}, {"KEY": "k"})
    assert env["NPM_TOKEN"] == "t"  # noqa: S105
    assert env["npm_config_registry"] == "https://npm.lan/"
    assert (env["PATH"], env["HOME"], env["NEXT_PUBLIC_A"], env["KEY"]) == (
        "/opt/bin:/bin",
        "/var/lib/x/home",
        "1",
        "k",
    )
    assert not {"npm_config_cache", "HTTPS_PROXY", "AWS_SECRET_ACCESS_KEY", "USER"} & env.keys()


def test_the_platform_of_a_host_that_is_away_is_remembered(
    make_context: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ctx = make_context(build={"host": "web-1"})
    ctx.inventory._path = tmp_path / "prod.yml"

    def away() -> BuildHost:
        host = BuildHost(ctx.inventory, "web-1", {}, print, print)

        def unreachable() -> NoReturn:
            raise HostUnreachable("web-1: cannot reach 192.0.2.10")

        monkeypatch.setattr(BuildHost, "facts", property(lambda _: unreachable()))
        return host

    with pytest.raises(HostUnreachable):
        _ = away().platform
    build_host._remember("192.0.2.10", "linux-aarch64")
    assert away().platform == "linux-aarch64"


@pytest.mark.parametrize(
    ("links", "good"),
    [
        ({"node_modules/a": "../other/a"}, True),
        ({"public/x": "/etc/passwd"}, False),
        ({"public/x": "../../secret"}, False),
        ({"deep/down/up": "../..", "public/x": "../deep/down/up/../../secret"}, False),
        ({"out": "/usr", "out/x": "y"}, False),
    ],
    ids=["inside", "absolute", "above", "above by another link", "behind a link"],
)
def test_no_link_of_a_build_leads_out_of_it(tmp_path: Path, links: dict[str, str], good: bool) -> None:
    target = tmp_path / "one/two/build"
    target.mkdir(parents=True)
    with nullcontext() if good else pytest.raises(BuildFailed, match=r"out of it|outside of itself"):
        for name, link in links.items():
            host_files._link(target, name, link)
