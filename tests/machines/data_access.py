"""Ways to the data tier for tests: converge its components, and reach its ports through SSH."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from roadbed.machines import nspawn

from .conftest import Stack

SCRIPT = str(Path(__file__).with_name("data_tier.py"))


def converge(stack: Stack, *components: str) -> dict[str, Any]:
    """Converges components of phase2; what ``data_tier.py`` prints."""
    words = [sys.executable, SCRIPT, str(stack.path), *components]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=600, cwd=stack.folder, env=stack.environment
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextmanager
def tunnel(host: str, port: int) -> Iterator[int]:
    """A local port that leads to a loopback port of a machine."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        here = int(free.getsockname()[1])
    ssh = [*nspawn.ssh_command(host, user="root")]
    words = [ssh[0], "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{here}:127.0.0.1:{port}", *ssh[1:]]
    with subprocess.Popen(words) as forwarding:
        try:
            for _ in range(100):
                with closing(socket.socket()) as probe:
                    if probe.connect_ex(("127.0.0.1", here)) == 0:
                        break
                time.sleep(0.05)
            yield here
        finally:
            forwarding.terminate()
