"""Hosts that take no connection are told before anything is built."""

import json
import socket
from pathlib import Path

import pytest

from roadbed.cli import style
from roadbed.cli.build import tell_unreachable
from roadbed.engine.errors import HostUnreachable
from roadbed.engine.load import parse

from .test_cli import provision

TEXT = """
app: {{name: shop, source: app, domain: shop.example.com}}
ssh: {{port: {port}}}
hosts: {{one: {{address: 127.0.0.1, roles: [web, app]}}, two: {{address: 127.0.0.2, roles: [app]}}}}
"""


@pytest.fixture
def port() -> int:
    """A port of loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_all_away_ends_it(port: int) -> None:
    stack = parse(TEXT.format(port=port), Path("prod.yml"))
    with pytest.raises(HostUnreachable) as raised:
        tell_unreachable(stack, list(stack.hosts))
    assert f"one: cannot reach 127.0.0.1 port {port}: Connection refused\ntwo: cannot reach" in str(raised.value)
    assert "Nothing was built" in str(raised.value)


def test_some_away_is_told(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    stack = parse(TEXT.format(port=port), Path("prod.yml"))
    with socket.create_server(("127.0.0.1", port)):
        tell_unreachable(stack, list(stack.hosts))
    said = capsys.readouterr().err
    assert f"! two: cannot reach 127.0.0.2 port {port}" in said
    assert "one:" not in said


def test_one_way_through_a_jump_host(port: int) -> None:
    text = TEXT.format(port=port).replace("{port:", f"{{jump: admin@127.0.0.1:{port}, port:")
    stack = parse(text, Path("prod.yml"))
    with pytest.raises(HostUnreachable, match="two: ssh/jump: cannot reach 127"):
        tell_unreachable(stack, list(stack.hosts))


def test_an_error_is_json_too_where_json_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "_told", False)  # other tests of this process may have printed
    done = provision(tmp_path, "status", "-i", "none", "--json")
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert told["exit_code"] == 2
    assert told["error"] in done.stderr.replace("\n", "") or told["error"] == done.stderr.strip()
