"""Strict host keys with a known_hosts file of the inventory's own.

The first key a host shows is recorded (trust on first use); a key that changed is refused. The
file is plain OpenSSH known_hosts(5), so that ``ssh -o UserKnownHostsFile=...`` reads it too.
"""

import os
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeys

from .errors import Refused


def entry_name(address: str, port: int) -> str:
    """How known_hosts(5) names a host: ``address``, or ``[address]:port`` for another port than 22."""
    return address if port == 22 else f"[{address}]:{port}"


def changed_key(host: str, entry: str, key: paramiko.PKey, path: Path) -> str:
    """What the user reads when a known host shows another key."""
    return (
        f"{host}: the host key of {entry} has changed (now {key.get_name()} {key.fingerprint}). "
        "Either the machine was installed again or somebody is in between. "
        f"If it was installed again: ssh-keygen -R '{entry}' -f '{path}'"
    )


class KnownHosts:
    """The known_hosts file of one inventory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys = HostKeys(str(path)) if path.exists() else HostKeys()

    def known(self, address: str, port: int) -> bool:
        """Whether a key of this host was recorded."""
        return self._keys.lookup(entry_name(address, port)) is not None

    def check(self, host: str, address: str, port: int, key: paramiko.PKey) -> None:
        """Records the key of a new host. Raises Refused when a known host shows another key."""
        name = entry_name(address, port)
        recorded = self._keys.lookup(name)
        if recorded is None:
            self._keys.add(name, key.get_name(), key)
            _append(self.path, f"{name} {key.get_name()} {key.get_base64()}\n")
        elif key.get_name() not in recorded or recorded[key.get_name()] != key:
            raise Refused(changed_key(host, name, key, self.path))

    def forget(self, address: str, port: int = 22) -> None:
        """Removes the keys of a host, such as a rehearsal machine that was made anew."""
        name = entry_name(address, port)
        if self._keys.lookup(name) is None:
            return
        kept = [line for line in self.path.read_text().splitlines() if line.split(" ", 1)[0] != name]
        temporary = self.path.with_suffix(".known_hosts.new")
        temporary.unlink(missing_ok=True)
        _append(temporary, "".join(line + "\n" for line in kept))
        temporary.replace(self.path)
        self._keys = HostKeys(str(self.path))


def _append(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a") as file:
        file.write(text)
