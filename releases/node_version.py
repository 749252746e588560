"""The exact version of a Node.js program."""

import subprocess
from pathlib import Path

from roadbed.engine.errors import OperationFailed


def node_version(node: Path) -> str:
    """``24.21.0``. Raises OperationFailed when ``node`` does not run."""
    try:
        done = subprocess.run([str(node), "--version"], capture_output=True, check=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise OperationFailed(
            f"{node}: does not run: {error}. Remove its folder, so that it is fetched again"
        ) from None
    return done.stdout.strip().removeprefix("v")
