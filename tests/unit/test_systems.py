"""Debian and Ubuntu, amd64 and arm64, by what each prints of itself and calls its packages: no machine is asked."""

import ast
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from roadbed.deploys import base, nginx, pgbouncer, postgres, redis_users, sentinel, sshd
from roadbed.deploys.context import HostFacts
from roadbed.deploys.environment import jemalloc
from roadbed.engine import preflight
from roadbed.engine.become import become_root
from roadbed.engine.errors import HostUnreachable
from roadbed.engine.facts import SCRIPT, parse_facts
from roadbed.engine.preflight_data import sums
from roadbed.releases.remove import PACKAGES

Make = Callable[..., Any]
HERE = Path(__file__).parent / "systems"
ARCHIVES = yaml.safe_load((HERE / "archives.yml").read_text())
SYSTEMS: dict[str, dict[str, Any]] = ARCHIVES["systems"]
CODENAMES = {"debian-12": "bookworm", "debian-13": "trixie"} | {
    "ubuntu-22.04": "jammy",
    "ubuntu-24.04": "noble",
    "ubuntu-26.04": "resolute",
}
ALL_ROLES = ["web", "app", "cache", "pooler", "database"]
ROOT = Path(__file__).resolve().parents[2]


def facts(system: str, arch: str = "x86_64") -> HostFacts:
    """What the script makes of the system's own os-release(5) on a machine of an architecture."""
    script = SCRIPT.replace("/etc/os-release", str(HERE / f"{system}.os-release"))
    output = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    lines = [f"arch={arch}" if line.startswith("arch=") else line for line in output.splitlines()]
    return parse_facts("web-1", "\n".join(lines))


def number(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_facts_of_every_system_are_read_and_supported(system: str, arch: str) -> None:
    found = facts(system, arch)
    assert (f"{found.os_id}-{found.os_version}", found.codename) == (system, CODENAMES[system])
    assert preflight._system(found) == ("system", "ok", f"{found.os_id} {found.os_version}")
    assert preflight._architecture(found) == ("architecture", "ok", arch)


@pytest.mark.parametrize("system", SYSTEMS)
def test_versions_are_those_of_the_systems_archive(make_context: Make, system: str) -> None:
    """Templates and access rules depend on them; a newer one than assumed is fine, an older one is not."""
    archive, codename = SYSTEMS[system], CODENAMES[system]
    ctx = make_context(codename=codename, phase="phase2", hosts={"web-1": {"address": "10.0.0.1", "roles": ALL_ROLES}})
    assert nginx.VERSIONS.get(codename, (1, 26)) <= number(archive["nginx"])
    assert redis_users.redis_version(ctx) == number(archive["redis"])
    assert pgbouncer.version(ctx) <= number(archive["pgbouncer"])
    assert (pgbouncer.version(ctx) >= pgbouncer.PREPARED_SINCE) == (
        number(archive["pgbouncer"]) >= pgbouncer.PREPARED_SINCE
    )
    assert postgres.version(ctx) == archive["postgresql"]
    assert ("br" in nginx.encodings(ctx)) == archive["brotli"]


def installed() -> Iterator[tuple[str, str]]:
    """(module, package) of every literal name that a deploy gives to apt."""
    for path in sorted((ROOT / "deploys").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "packages" and isinstance(node.value, ast.List):
                yield from ((path.name, item.value) for item in node.value.elts if isinstance(item, ast.Constant))
    yield from (("base.py", name) for name in base.PACKAGES)
    source = ast.parse((ROOT / "deploys/nginx.py").read_text())
    for node in ast.walk(source):
        if isinstance(node, ast.Assign | ast.AugAssign) and ast.unparse(node).startswith("wanted"):
            names = [item for part in ast.walk(node.value) if isinstance(part, ast.List) for item in part.elts]
            yield from (("nginx.py", ast.literal_eval(item)) for item in names)


def test_remove_knows_every_package() -> None:
    assert {name for _, name in installed()} - set(PACKAGES) == set()


def test_every_package_has_that_name_on_every_system() -> None:
    known = {*ARCHIVES["common"].split(), "libnginx-mod-http-brotli-filter"}  # the latter where `brotli` is true
    found = set(installed())
    assert len(found) > 20
    assert sorted((module, name) for module, name in found if name not in known) == []


@pytest.mark.parametrize(("arch", "folder"), [("x86_64", "x86_64-linux-gnu"), ("aarch64", "aarch64-linux-gnu")])
def test_jemalloc_is_where_the_architecture_has_it(arch: str, folder: str) -> None:
    assert jemalloc(arch) == f"/usr/lib/{folder}/libjemalloc.so.2"


# What `provision check` says cannot be had, and why


def test_brotli_that_the_system_does_not_have_is_told(make_context: Make) -> None:
    ((what, level, message),) = preflight._nginx(make_context(codename="jammy"))
    assert (what, level) == ("nginx", "warning")
    assert "no Brotli: ubuntu 22.04 has no module for it" in message
    assert "nginx/brotli: false" in message
    assert list(preflight._nginx(make_context(codename="jammy", nginx={"brotli": False}))) == []
    assert list(preflight._nginx(make_context(codename="noble"))) == []


def row(ctx: Any, name: str) -> tuple[str, str]:
    return next((level, message) for what, level, message in sums(ctx) if what == name)


def test_sentinel_with_a_redis_that_is_too_old_is_an_error(make_context: Make) -> None:
    hosts = {f"data-{n}": {"address": f"10.0.0.{n}", "roles": ["cache"]} for n in (1, 2, 3)}
    hosts["web-1"] = {"address": "10.0.0.9", "roles": ["web", "app"]}
    ctx = make_context(codename="jammy", name="data-1", phase="phase2", hosts=hosts)
    assert sentinel.grouped(ctx)
    assert row(ctx, "redis") == (
        "error",
        "hosts/data-1: its Redis is older than 7.0. Use Debian 12, Ubuntu 24.04 or later",
    )


def test_the_postgresql_projects_packages_where_it_has_none(make_context: Make) -> None:
    hosts = {"web-1": {"address": "10.0.0.1", "roles": ALL_ROLES}}
    make = {"phase": "phase2", "hosts": hosts, "pgbouncer": {"source": "pgdg"}}
    level, message = row(make_context(codename="resolute", **make), "pool")
    assert level == "error"
    assert "pgdg has no packages for 'resolute'. Write distro" in message
    assert row(make_context(codename="jammy", **make), "pool")[0] == "ok"


def test_prepared_statements_that_do_not_work_are_told(make_context: Make) -> None:
    hosts = {"web-1": {"address": "10.0.0.1", "roles": ALL_ROLES}}
    assert row(make_context(codename="jammy", phase="phase2", hosts=hosts), "pgbouncer")[0] == "warning"
    assert row(make_context(codename="noble", phase="phase2", hosts=hosts), "pgbouncer")[0] == "ok"


# What else differs


class Client:
    """An SSH client whose sudo gives one answer after another: exit code and standard error."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.answers = list(answers)

    def exec_command(self, command: str, timeout: float) -> tuple[Any, Any, Any]:
        code, said = self.answers.pop(0)
        return Stream(), Stream(code), Stream(code, said)


class Stream:
    def __init__(self, code: int = 0, said: str = "") -> None:
        self.code, self.said, self.channel = code, said, self

    def write(self, text: str) -> None: ...
    def shutdown_write(self) -> None: ...
    def recv_exit_status(self) -> int:
        return self.code

    def read(self) -> bytes:
        return self.said.encode()


WANTED = (1, "sudo-rs: interactive authentication is required\n")
BARRED = (1, "sudo-rs: I'm sorry clerk. I'm afraid I can't do that\n")
WRONG = (1, "\nsudo: Authentication failed, try again.\n\nsudo-rs: Maximum 3 incorrect authentication attempts\n")


@pytest.mark.parametrize(
    ("answers", "password", "told"),
    [
        ((WANTED,), None, "sudo of clerk wants a password"),
        ((BARRED,), None, "clerk may not use sudo"),
        ((WANTED, BARRED), "x", "clerk may not use sudo"),
        ((WANTED, WRONG), "x", "sudo did not accept the password of clerk"),
    ],
)
def test_the_words_of_sudo_rs_are_understood(answers: tuple[Any, ...], password: str | None, told: str) -> None:
    """As version 0.2.5 says them; it is the sudo of Ubuntu 26.04. tests/machines/test_bad_input.py has the real one."""
    with pytest.raises(HostUnreachable, match=told):
        become_root(Client(*answers), "web-1", "clerk", password)  # type: ignore[arg-type]


def test_sshd_reads_our_settings_before_those_of_cloud_images() -> None:
    """The first value counts (sshd_config(5)); cloud-init and Ubuntu's images write theirs beside ours."""
    ours = Path(sshd.SETTINGS).name
    assert ours < min("50-cloud-init.conf", "60-cloudimg-settings.conf")


def test_what_netplan_and_cloud_init_write_is_left_to_them() -> None:
    """Addresses, routes and the host's name belong to the machine: no template takes a file of theirs."""
    theirs = ("etc/netplan/", "etc/network/", "etc/systemd/network/", "etc/cloud/", "etc/hosts", "etc/hostname")
    places = [
        path.relative_to(ROOT / "templates").as_posix().partition("/")[2] for path in (ROOT / "templates").rglob("*.j2")
    ]
    assert len(places) > 40
    assert [place for place in places if place.startswith(theirs)] == []
