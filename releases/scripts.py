"""The shell scripts that do a release's work on a host (``host/*.sh``): POSIX sh, coreutils, findutils and tar."""

import shlex
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "host"


def script(name: str, **values: str) -> str:
    """The text of ``host/<name>.sh``, preceded by its values as quoted variables."""
    given = "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items())
    return given + (FOLDER / f"{name}.sh").read_text()
