"""Rehearsal machines on Linux: systemd-nspawn, an overlay disk and a network namespace each.

The front that everyone uses, without privileges; what needs root happens in one child process per call
(privileged.py), with sudo where the caller is not root.

    machines = nspawn.up([MachineSpec("web-1", "192.168.60.11")])
    subprocess.run([*nspawn.ssh_command("web-1"), "uptime"])
    nspawn.down()
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roadbed.machines import base, carried, registry
from roadbed.machines.model import Machine, MachinesError, MachineSpec
from roadbed.machines.preflight import preflight

__all__ = [
    "cut",
    "down",
    "heal",
    "host_key",
    "key_path",
    "listing",
    "preflight",
    "reset",
    "settings",
    "slow",
    "ssh_command",
    "up",
]

Say = Callable[[str], None]


def up(specs: list[MachineSpec], *, say: Say = print) -> list[Machine]:
    """Create and boot `specs`, in parallel, and wait until each answers SSH; builds missing base images first.

    A machine that runs already is left alone; one that was powered off boots again with its disk.
    Raises MachinesError when this platform cannot do it or a machine does not come up.
    """
    if problems := preflight():
        raise MachinesError("\n".join(problems))
    request = {"specs": [dataclasses.asdict(spec) for spec in specs], **settings(say)}
    return _machines(_privileged("up", request, say))


def reset(names: list[str], *, say: Say = print) -> list[Machine]:
    """Boot `names` on fresh disks; each gets a new SSH host key, as a new machine would.

    Raises MachinesError when one does not exist or does not come up.
    """
    return _machines(_privileged("reset", {"names": names, **settings(say)}, say))


def down(names: list[str] | None = None, *, say: Say = print) -> list[str]:
    """Remove `names`, or all machines for None, and return the names of those removed.

    With the last machine go the bridge, the firewall table and every other trace but the base images.
    Raises MachinesError when one does not exist.
    """
    if not registry.STATE.exists() and not names:
        return []
    removed: list[str] = _privileged("down", {"names": names}, say)
    return removed


def listing() -> list[Machine]:
    """All machines there are, by name."""
    return [record.machine() for record in registry.records()]


def cut(name: str) -> None:
    """Pull the machine's network cable. Raises MachinesError when it is not running."""
    _privileged("cut", {"name": name}, print)


def heal(name: str) -> None:
    """Put the machine's network cable back. Raises MachinesError when it is not running."""
    _privileged("heal", {"name": name}, print)


def slow(name: str, milliseconds: float) -> None:
    """Delay all the machine sends and gets by `milliseconds` in each direction, so the round trip takes twice
    that; 0 ends it. Raises MachinesError when the machine is not running or the number is negative."""
    if not 0 <= milliseconds <= 60_000:
        raise MachinesError(f"{name}: cannot delay by {milliseconds} ms; use 0 to 60000")
    _privileged("slow", {"name": name, "milliseconds": milliseconds}, print)


def key_path() -> Path:
    """The private SSH key that admin and root of every machine accept; made on first use."""
    key = Path.home() / ".local/state/roadbed/machines/id_ed25519"  # inventories name this path
    if not key.exists():
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "roadbed rehearsal machines", "-f", str(key)],
            check=True,
            stdin=subprocess.DEVNULL,
        )
    return key


def host_key(name: str) -> str:
    """The machine's public SSH host key ("ssh-ed25519 AAAA..."). Raises MachinesError for an unknown machine."""
    return registry.load(name).host_key


def ssh_command(name: str, user: str = "admin") -> list[str]:
    """The ssh command line that logs in to `name` as `user`, sure of the machine's host key.

    Raises MachinesError for an unknown machine.
    """
    record = registry.load(name)
    address = record.spec.address
    known_hosts = key_path().with_name("known_hosts")
    draft = known_hosts.with_name(f"known_hosts.{os.getpid()}")
    draft.write_text("".join(f"{each.spec.address} {each.host_key}\n" for each in registry.records()))
    draft.replace(known_hosts)
    options = {
        "UserKnownHostsFile": f'"{known_hosts}"',  # a blank would end the name
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "10",
        "LogLevel": "ERROR",
    }
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-i", str(key_path()), *flags, f"{user}@{address}"]


def settings(say: Say) -> dict[str, Any]:
    """What a request for new machines carries from the caller: key, Debian mirror, certificates, proxies."""
    return {
        "public_key": key_path().with_suffix(".pub").read_text(),
        "mirror": os.environ.get("ROADBED_DEBIAN_MIRROR", base.MIRROR).rstrip("/"),
        "carried": dataclasses.asdict(carried.collect(os.environ, say)),
    }


def _machines(names: list[str]) -> list[Machine]:
    return [registry.load(name).machine() for name in names]


def _privileged(verb: str, request: dict[str, Any], say: Say) -> Any:
    """Run `verb` as root and return its result. Raises MachinesError with the child's error."""
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    command = [*sudo, sys.executable, "-I", "-m", "roadbed.machines.privileged", verb]
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd="/"
        )
        outcome = _converse(child, request, say)
        errors.seek(0)
        tail = "\n".join(errors.read().strip().splitlines()[-15:])
    if "result" in outcome:
        return outcome["result"]
    raise MachinesError(outcome.get("error") or tail or f"machines {verb}: ended with status {child.returncode}")


def _converse(child: "subprocess.Popen[str]", request: dict[str, Any], say: Say) -> dict[str, Any]:
    outcome: dict[str, Any] = {}
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(request))
            child.stdin.close()
        except BrokenPipeError:  # sudo refused; its standard error says why
            return outcome
        for line in child.stdout:
            message = json.loads(line)
            if "say" in message:
                say(message["say"])
            else:
                outcome = message
    return outcome
