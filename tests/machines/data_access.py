"""Converge components of the data tier alone, for tests."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
