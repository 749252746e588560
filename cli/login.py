"""`provision ssh`: the user's own ssh program, told what the inventory says."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .hosts import one_host

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory


def login(inventory: str | None, name: str | None, command: Sequence[str]) -> NoReturn:
    """Becomes ssh(1). Raises InventoryError (2): no such host, no key file, no ssh."""
    from roadbed.engine.errors import InventoryError
    from roadbed.engine.load import load

    stack = load(inventory)
    host = one_host(stack, name)
    words = ssh_words(stack, host, command, terminal=sys.stdin.isatty() and sys.stdout.isatty())
    if shutil.which("ssh") is None:
        raise InventoryError("ssh: this machine has no ssh program. Install it: apt install openssh-client")
    sys.stdout.flush()
    os.execvp("ssh", words)  # noqa: S606


def ssh_words(stack: "Inventory", host: str, command: Sequence[str], *, terminal: bool) -> list[str]:
    """The command line of ssh(1) for a host: user, key, port, way, and the keys that this inventory knows.

    As everywhere in Roadbed a host that was never seen is recorded, and one whose key has changed is refused. Each
    word of ``command`` is one argument on the host. Raises InventoryError when the key file is missing.
    """
    ssh = stack.ssh
    options = _options(stack, host)
    words = ["ssh", *options, "-p", str(ssh.port)]
    if ssh.jump:
        words += ["-o", f"ProxyCommand={_jump(stack, _options(stack, None))}"]
    if command and terminal:
        words.append("-t")
    words.append(f"{ssh.user}@{stack.hosts[host].address}")
    return [*words, shlex.join(command)] if command else words


def _options(stack: "Inventory", host: str | None) -> list[str]:
    from roadbed.engine.connect import key_file

    settings = {
        "UserKnownHostsFile": _written(stack.beside(".known_hosts")),
        "StrictHostKeyChecking": "accept-new",
        "HashKnownHosts": "no",
        "UpdateHostKeys": "no",
    }
    if key := key_file(stack, host):
        settings |= {"IdentityFile": _written(key), "IdentitiesOnly": "yes"}
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _jump(stack: "Inventory", options: Sequence[str]) -> str:
    """ProxyCommand= instead of -J: that would know neither the key nor the known hosts of this inventory."""
    user, _, place = (stack.ssh.jump or "").rpartition("@")
    address, _, port = place.partition(":")
    words = ["ssh", *options, "-p", port or "22", f"{user or stack.ssh.user}@{address}"]
    return shlex.join(words).replace("%", "%%") + " -W '[%h]:%p'"


def _written(path: Path) -> str:
    """A path as ssh_config(5) wants it: a blank would end it, and % stands for something else (TOKENS)."""
    return '"' + str(path.resolve()).replace("%", "%%") + '"'
