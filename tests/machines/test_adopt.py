"""A machine that has a life already: conflicts are listed, nothing changes without --adopt, remove gives it back."""

import urllib.request
from collections.abc import Callable

import pytest

from roadbed.machines.model import MachineSpec

from .conftest import Stack, spec
from .tiny import page, tiny_stack, untouched

HOST = spec("lived-in", 244, "trixie")
LIFE = """
export DEBIAN_FRONTEND=noninteractive
apt-get -q update && apt-get -q -y --no-install-recommends install nginx redis-server
rm /etc/nginx/sites-enabled/default && mkdir -p /var/www/diary && echo 'Dear diary' > /var/www/diary/index.html
cat > /etc/nginx/sites-enabled/diary << 'SITE'
server { listen 80 default_server; root /var/www/diary; }
SITE
systemctl reload nginx
redis-cli set kept yes
useradd --system tiny
systemctl disable --now --quiet ssh.service && systemctl enable --now --quiet ssh.socket
"""
"""A site, a Redis with data, a user of the app's name, and sshd by socket activation, as on Ubuntu since 22.10."""


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    booted([HOST])
    stack = tiny_stack(tmp_path_factory.mktemp("adopt"), [HOST], redis={"cache_memory": 64, "durable_memory": 32})
    stack.data["hosts"][HOST.name]["roles"] = ["web", "app", "cache"]
    stack.write()
    stack.ssh(HOST.name, f"{{ {LIFE} }} >/dev/null 2>&1")
    return stack


def diary() -> str:
    """What a visitor of the machine's own site sees."""
    with urllib.request.urlopen(f"http://{HOST.address}/", timeout=10) as answer:
        return str(answer.read().decode())


def test_what_is_there_already_is_listed_and_left_alone(stack: Stack) -> None:
    with untouched(stack, HOST.name):
        found = stack.provision("check", "phase2", code=4).stderr
        refused = stack.provision("phase2", code=4).stderr
    for said in (found, refused):
        assert "serves /etc/nginx/sites-enabled/diary, and nginx.conf would be replaced" in said
        assert "there is a user tiny already" in said
        assert "redis-server.service runs here, and would be stopped" in said
        assert "say --adopt: what is replaced is kept, and provision remove puts it back" in said
    assert diary() == "Dear diary\n"


def test_adopted_it_serves_the_app(stack: Stack) -> None:
    said = stack.provision("phase2", "--adopt").stderr
    assert "diary" in said
    assert "Edition one" in page(stack, HOST.name)
    again = stack.provision("phase2").stderr
    assert "0 changes" in again or "0 changed" in again


def test_status_tells_what_does_not_run(stack: Stack) -> None:
    assert "does not run" not in stack.provision("status").stderr
    stack.ssh(HOST.name, "systemctl stop nginx redis-server@cache")
    said = stack.provision("status").stderr
    stack.ssh(HOST.name, "systemctl start nginx redis-server@cache")
    for unit in ("nginx", "redis-server@cache"):
        assert f"lived-in: {unit}.service does not run (inactive)" in said


def test_sshd_behind_a_socket_is_hardened_and_answers(stack: Stack) -> None:
    assert stack.ssh(HOST.name, "systemctl is-active ssh.socket").strip() == "active"
    effective = stack.ssh(HOST.name, "sshd -T -C user=root,host=localhost,addr=127.0.0.1")
    assert "passwordauthentication no\n" in effective


def test_remove_gives_it_back(stack: Stack) -> None:
    stack.provision("remove", "--yes", "--with-data")
    assert diary() == "Dear diary\n"
    assert stack.ssh(HOST.name, "redis-cli get kept").strip() == "yes"
    assert stack.ssh(HOST.name, "systemctl is-enabled nginx redis-server").split() == ["enabled", "enabled"]
    assert stack.ssh(HOST.name, "getent passwd tiny") != ""
    assert stack.ssh(HOST.name, "systemctl --failed --no-legend; true").strip() == ""
