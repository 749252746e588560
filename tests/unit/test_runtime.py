"""A door to the tests of the JavaScript that goes into releases, and the part of them that needs Python.

Node.js comes from `ROADBED_NODE` or the search path.
"""

import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

import pytest

from roadbed.deploys.node import NodeSettings
from roadbed.releases.node_builds import resolve
from roadbed.releases.toolchain import fetch_node

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "runtime"
STOREFRONT = ROOT / "examples" / "storefront"


@pytest.fixture(scope="module")
def node() -> str:
    """ROADBED_NODE, or the Node.js that releases are built with: fetched and verified once, then cached."""
    if given := os.environ.get("ROADBED_NODE"):
        return given
    settings = NodeSettings(source="npm")
    return str(fetch_node(resolve(settings, platform.machine(), sys.platform)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_the_javascript_tests_pass(node: str) -> None:
    done = subprocess.run(
        [node, "--test", "--test-concurrency=4"], cwd=RUNTIME, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"^\S+ pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed
    assert int(passed.group(1)) > 20


def test_systemd_is_told_ready_and_stopping(node: str, tmp_path: Path) -> None:
    """The real systemd-notify, against a datagram socket in the place of systemd's."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(10)
        env = {"PORT": str(free_port()), "HOSTNAME": "127.0.0.1", "NOTIFY_SOCKET": str(path)}
        command = [node, "--require", str(RUNTIME / "server.cjs"), str(RUNTIME / "tests/plain-server.cjs")]
        with subprocess.Popen(command, env=env) as server:
            try:
                assert told.recv(4096).decode().splitlines()[0] == "READY=1"
                server.terminate()
                messages = [told.recv(4096).decode()]
                while "STOPPING=1" not in messages[-1]:
                    messages.append(told.recv(4096).decode())
                assert server.wait(10) == 143
            finally:
                server.kill()


@pytest.mark.slow
def test_systemd_is_told_that_the_event_loop_turns(node: str, tmp_path: Path) -> None:
    """Three times in the time that the unit gives, and no longer when the process hangs."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(10)
        env = {
            "PORT": str(free_port()),
            "HOSTNAME": "127.0.0.1",
            "NOTIFY_SOCKET": str(path),
            "WATCHDOG_USEC": "1500000",
        }
        command = [node, "--require", str(RUNTIME / "server.cjs"), str(RUNTIME / "tests/plain-server.cjs")]
        with subprocess.Popen(command, env=env) as server:
            try:
                moments: list[float] = []
                while len(moments) < 3:
                    if told.recv(4096).startswith(b"WATCHDOG=1"):
                        moments.append(time.monotonic())
                assert moments[2] - moments[0] < 1.5
                server.send_signal(signal.SIGSTOP)
                time.sleep(0.5)  # what is on its way arrives; then nothing does
                told.setblocking(False)
                with suppress(BlockingIOError):
                    while told.recv(4096):
                        pass
                told.settimeout(1)
                with pytest.raises(TimeoutError):
                    told.recv(4096)
            finally:
                server.kill()


def test_the_sample_app_locks_packages_of_the_public_registry_only() -> None:
    packages = json.loads((STOREFRONT / "package-lock.json").read_text())["packages"]
    hosts = {urlparse(entry["resolved"]).hostname for entry in packages.values() if "resolved" in entry}
    assert hosts <= {"registry.npmjs.org"}
    linux = [entry for name, entry in packages.items() if name and "linux" in entry.get("os", ["linux"])]
    assert len(linux) > 30
    assert all("integrity" in entry for entry in linux)


def test_the_sample_app_explains_every_route() -> None:
    readme = (STOREFRONT / "README.md").read_text()
    files = [*STOREFRONT.glob("app/**/page.tsx"), *STOREFRONT.glob("app/**/route.ts")]
    routes = {f"/{file.parent.relative_to(STOREFRONT / 'app')}".replace("/.", "/") for file in files}
    assert len(routes) > 15
    assert {route for route in routes if not re.search(rf"`(POST )?{re.escape(route)}[`?]", readme)} == set()
