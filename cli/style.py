"""How Roadbed talks: people read standard error, programs read standard output."""

import json
import sys

from rich.console import Console

console = Console(stderr=True, highlight=False)
"""For people. Honours NO_COLOR and the width of the terminal; plain text in a pipe."""


def say(text: str = "") -> None:
    """A line for people. Not broken by us, so that a command in it can be copied."""
    console.print(text, markup=False, soft_wrap=True)


def complain(text: str) -> None:
    """An error: what, the rule, the way out."""
    console.print(text, style="red" if console.is_terminal else None, markup=False, soft_wrap=True)


_told = False


def output(text: str) -> None:
    """Machine-readable result."""
    global _told
    _told = True
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def output_error(text: str, code: int) -> None:
    """The error as the result of a command that was asked for JSON and has not printed any."""
    if not _told:
        output(json.dumps({"error": text, "exit_code": code}))


def myself() -> str:
    """How the user called this command, for the commands we tell them: ``.venv/bin/provision`` or ``provision``."""
    called = sys.argv[0]
    return called if called.startswith((".venv/", "./")) else "provision"


def seconds(value: float) -> str:
    """``4.2 s`` or ``2 min 05 s``."""
    if value < 100:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60):02d} s"
