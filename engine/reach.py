"""Does a host take connections at all? Asked before a build, so that nobody waits minutes to learn that one is off."""

import socket
from collections.abc import Iterable

from .inventory import Inventory
from .parallel import each

SECONDS = 4.0
"""Longest wait for one TCP connection: a SYN and two retransmissions (RFC 6298, 1 s and 2 s)."""


def unreachable(inventory: Inventory, names: Iterable[str]) -> dict[str, str]:
    """The hosts whose sshd takes no connection now -> why. Behind a jump host only that one can be asked."""
    if inventory.ssh.jump:
        place = inventory.ssh.jump.rpartition("@")[2]
        address, _, port = place.partition(":")
        reason = _refused(address, int(port or 22))
        return dict.fromkeys(names, f"ssh/jump: {reason}") if reason else {}
    answers = each(list(names), lambda name: _refused(inventory.hosts[name].address, inventory.ssh.port))
    return {name: str(answer) for name, answer in answers.items() if answer}


def _refused(address: str, port: int) -> str:
    """Why there is no connection; empty when there is one."""
    try:
        with socket.create_connection((address, port), timeout=SECONDS):
            return ""
    except OSError as error:
        why = f"no answer within {SECONDS:.0f} s" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return f"cannot reach {address} port {port}: {why}"
