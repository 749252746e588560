"""Inventories around a tiny Next.js project, for tests in which the app itself is not the point."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from roadbed.machines.model import MachineSpec

from .conftest import Stack, make_stack

PROJECT = Path(__file__).with_name("projects") / "tiny"
DOMAIN = "shop.example.test"
MARKS = (
    "dpkg-query -f '${Package} ${Version}\\n' -W | sha256sum; "
    "find /etc /srv /opt /usr/local /var/lib/roadbed -xdev -printf '%p %i %m %U:%G %s %C@\\n' 2>/dev/null | sort"
)
"""All that a run could have left: packages, files and folders with their times."""


def tiny_stack(folder: Path, specs: list[MachineSpec], **blocks: Any) -> Stack:
    """A stack whose app is a copy of the tiny project in ``folder/tiny``; one instance, health page ``/``."""
    shutil.copytree(PROJECT, folder / "tiny")
    app = {"name": "tiny", "source": str(folder / "tiny"), "health": "/", "streaming": None, "replicas": 1}
    return make_stack(folder, specs, app={**app, "memory": 256, **blocks.pop("app", {})}, **blocks)


def page(stack: Stack, name: str) -> str:
    """What a visitor of a machine sees on ``/``, or curl's complaint."""
    here = f"--resolve {DOMAIN}:443:127.0.0.1 https://{DOMAIN}/"
    return stack.ssh(name, f"curl -ksS -m 10 {here} 2>&1", check=False)


def operations(result: dict[str, Any], status: str, host: str | None = None) -> list[str]:
    """Names of the operations of a run with a status."""
    found = [item for item in result["operations"] if item["status"] == status]
    return [item["name"] for item in found if host in (None, item["host"])]


@contextmanager
def untouched(stack: Stack, name: str) -> Iterator[None]:
    """Inside, no package of the machine changes and no file is written."""
    before = stack.ssh(name, MARKS)
    yield
    assert stack.ssh(name, MARKS) == before
