"""The app component without a host: settings, environment, units, launcher."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from roadbed.deploys import app
from roadbed.deploys.environment import (
    app_address,
    askers,
    environment,
    environment_file,
    instance_addresses,
    jemalloc,
    listeners,
)
from roadbed.deploys.render import render

MakeContext = Callable[..., Any]
UNIT = "/etc/systemd/system/app@.service"
SPLIT = {
    "web-1": {"address": "192.0.2.10", "private": "10.0.0.10", "roles": ["web"]},
    "app-1": {"address": "192.0.2.11", "private": "10.0.0.11", "roles": ["app"]},
}


def unit(ctx: Any) -> list[str]:
    """Lines of the rendered unit."""
    values = {"launcher": app.LAUNCHER, "sizing": ctx.sizing(), "margin": app.DRAIN_MARGIN}
    return render("app", UNIT, ctx, **values).splitlines()


@pytest.fixture
def launcher(make_context: MakeContext, tmp_path: Path) -> Path:
    """The rendered launcher."""
    file = tmp_path / "launch"
    values = {"slots": app.SLOTS, "per_slot": app.MAX_REPLICAS}
    file.write_text(render("app", app.LAUNCHER, make_context(), **values))
    return file


def launch(launcher: Path, name: str, instance: str) -> "subprocess.CompletedProcess[str]":
    """Runs the launcher for an app that no machine has."""
    return subprocess.run(["sh", launcher, name, "5000", instance], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"env": {"NOT A NAME": "1"}}, "is not the name of an environment variable"),
        ({"secrets": ["1ST"]}, "is not the name of an environment variable"),
        ({"env": {"PORT": "80"}}, "is set by the service itself"),
        ({"env": {"TOKEN": "1"}, "secrets": ["TOKEN"]}, "in env and in secrets"),
        ({"env": {"TITLE": "a\rb"}}, "the value of TITLE in env has a control character"),
        ({"port": 64990}, None),
        ({"name": "nginx"}, "is the name of a system user"),
    ],
)
def test_settings(make_context: MakeContext, block: dict[str, Any], said: str | None) -> None:
    if said is None:
        assert make_context(app=block).inventory.app.ports("c", 20)[-1] <= 65535
        return
    with pytest.raises(ValidationError, match=said):
        make_context(app=block)


def test_ports_of_slots_do_not_touch(make_context: MakeContext) -> None:
    settings = make_context().inventory.app
    ports = [port for slot in app.SLOTS for port in settings.ports(slot, app.MAX_REPLICAS)]
    assert len(set(ports)) == len(app.SLOTS) * app.MAX_REPLICAS


def test_environment(make_context: MakeContext) -> None:
    ctx = make_context(cpus=8, app={"env": {"NODE_ENV": "test", "A": "b"}, "secrets": ["DATABASE_URL"], "drain": 45})
    values = environment(ctx)
    assert values["DATABASE_URL"] == "postgres://secret"
    assert (values["NODE_ENV"], values["A"]) == ("test", "b")
    assert values["UV_THREADPOOL_SIZE"] == "8"
    assert values["ROADBED_DRAIN_SECONDS"] == "45"
    assert values["ROADBED_NODE_FLAGS"] == f"--max-old-space-size={ctx.sizing().heap_mb}"
    assert int(values["KEEP_ALIVE_TIMEOUT"]) > 60_000


def test_an_unknown_secret_is_an_error(make_context: MakeContext) -> None:
    with pytest.raises(KeyError):
        environment(make_context(app={"secrets": ["ABSENT"]}))


def test_instances_listen_on_loopback_and_where_other_web_hosts_ask(make_context: MakeContext) -> None:
    assert instance_addresses(make_context(), "web-1") == ("127.0.0.1",)
    assert instance_addresses(make_context(hosts=SPLIT, name="app-1"), "app-1") == ("127.0.0.1", "10.0.0.11")
    both = {**SPLIT, "app-1": {**SPLIT["app-1"], "roles": ["app", "web"]}}
    assert instance_addresses(make_context(hosts=both, name="app-1"), "app-1") == ("127.0.0.1", "10.0.0.11")


def test_own_instances_are_reached_by_loopback_and_others_by_the_inside_address(make_context: MakeContext) -> None:
    assert app_address(make_context(hosts=SPLIT, name="app-1"), "app-1") == "127.0.0.1"
    assert app_address(make_context(hosts=SPLIT, name="web-1"), "app-1") == "10.0.0.11"


def test_from_phase3_on_every_web_host_asks_every_instance(make_context: MakeContext) -> None:
    hosts = {name: {"address": f"192.0.2.{n}", "roles": ["web", "app"]} for n, name in enumerate(("a", "b", "c"), 20)}
    for phase, names, addresses in (
        ("phase2", [], ("127.0.0.1",)),
        ("phase3", ["a", "c"], ("127.0.0.1", "192.0.2.21")),
    ):
        ctx = make_context(hosts=hosts, name="b", phase=phase, redis={"external": True}, postgres={"external": True})
        assert askers(ctx, "b") == names
        assert instance_addresses(ctx, "b") == addresses


def test_the_environment_names_more_addresses_only_where_there_are_some(make_context: MakeContext) -> None:
    assert listeners(make_context()) == {"HOSTNAME": "127.0.0.1"}
    assert listeners(make_context(hosts=SPLIT, name="app-1")) == {
        "HOSTNAME": "127.0.0.1",
        "ROADBED_LISTEN": "10.0.0.11",
        "ROADBED_PEERS": "10.0.0.10",
    }


def test_environment_file_keeps_every_value() -> None:
    text = environment_file({"B": 'a "b" $c `d` \\e', "A": "two\nlines #'x'"})
    assert text == 'A="two\nlines #\'x\'"\nB="a \\"b\\" \\$c \\`d\\` \\\\e"\n'


def test_environment_file_refuses_control_characters_by_name() -> None:
    with pytest.raises(ValueError, match="value of TOKEN has a control character") as error:
        environment_file({"TOKEN": "abc\x00def"})
    assert "abc" not in str(error.value)


@pytest.mark.parametrize(("arch", "triplet"), [("x86_64", "x86_64-linux-gnu"), ("aarch64", "aarch64-linux-gnu")])
def test_jemalloc(arch: str, triplet: str) -> None:
    assert jemalloc(arch) == f"/usr/lib/{triplet}/libjemalloc.so.2"


def test_unit_follows_the_settings(make_context: MakeContext) -> None:
    ctx = make_context(app={"drain": 45, "memory": 700})
    lines = unit(ctx)
    assert "TimeoutStopSec=50" in lines
    assert "MemoryMax=700M" in lines
    assert "ExecStart=/usr/local/lib/roadbed/launch shop 5000 %i" in lines
    assert "EnvironmentFile=/etc/roadbed/shop/env" in lines


def test_unit_has_no_secret(make_context: MakeContext) -> None:
    ctx = make_context(app={"env": {"A": "visible-value"}, "secrets": ["DATABASE_URL"]})
    assert not any("secret" in line or "visible-value" in line for line in unit(ctx))


def test_growing_delay_only_where_systemd_knows_it(make_context: MakeContext) -> None:
    ctx = make_context()
    newer = replace(ctx, facts={"web-1": replace(ctx.me, systemd=257)})
    assert "RestartSteps=6" in unit(newer)
    assert not any(line.startswith("RestartSteps=") for line in unit(ctx))


def test_v8_is_left_its_executable_memory(make_context: MakeContext) -> None:
    assert not any(line.startswith("MemoryDenyWriteExecute=") for line in unit(make_context()))


@pytest.mark.parametrize("instance", ["d-0", "a-20", "a-x", "a", "a-1-2", "a-", "a-01"])
def test_launcher_refuses_other_instances(launcher: Path, instance: str) -> None:
    result = launch(launcher, "absent", instance)
    assert result.returncode == 64
    assert "as in a-0" in result.stderr


def test_launcher_says_that_a_release_is_missing(launcher: Path) -> None:
    result = launch(launcher, "no-such-app", "b-19")
    assert result.returncode == 78
    assert "/srv/no-such-app/slots/b does not lead to a release" in result.stderr


def test_launcher_is_clean(launcher: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, launcher], check=True)
