"""A port of a machine, reached from here by ssh alone, without Roadbed."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from roadbed.machines import nspawn


@contextmanager
def tunnel(machine: str, port: int) -> Iterator[int]:
    """A local port that leads to ``127.0.0.1:<port>`` on the machine, as long as the block runs."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        here = int(free.getsockname()[1])
    ssh = [*nspawn.ssh_command(machine, user="root")]
    words = [ssh[0], "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{here}:127.0.0.1:{port}", *ssh[1:]]
    with subprocess.Popen(words) as process:
        try:
            for _ in range(100):
                with closing(socket.socket()) as probe:
                    if probe.connect_ex(("127.0.0.1", here)) == 0:
                        break
                time.sleep(0.05)
            yield here
        finally:
            process.terminate()
