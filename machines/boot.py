"""Starting and stopping machines: what `up`, `reset` and `down` are made of. Needs root."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from roadbed.machines import cgroups, disk, link, network, registry, supervise
from roadbed.machines.carried import Carried
from roadbed.machines.model import MachinesError, MachineSpec

_BOOT_TIMEOUT = 90  # seconds, for a control machine with all CPUs busy

Say = Callable[[str], None]


def start(
    spec: MachineSpec, image: Path, settings: Carried, public_key: str, *, fresh: bool, say: Say
) -> tuple[MachineSpec, float]:
    """Boot `spec`: on the disk it has, or on a new one if it has none or `fresh` is asked for.

    Returns the spec and when the work began (time.monotonic()). Every step is written down before it is
    taken, so that `down` finds what an interrupted run has left.
    """
    began = time.monotonic()
    known = spec.name in registry.names()
    record = registry.load(spec.name) if known else registry.Record(spec)
    stop(record)
    record = registry.save(registry.Record(spec, host_key=record.host_key))
    if fresh or not disk.mounted(spec.name):
        if known and not fresh:
            say(f"{spec.name}: its disk is gone (this machine was restarted?), so it gets a new one")
        key = disk.create(spec, image, settings, public_key)
        record = registry.save(dataclasses.replace(record, host_key=key))
    link.plug(spec)
    registry.save(dataclasses.replace(record, supervisor=_supervise(spec)))
    return spec, began


def _supervise(spec: MachineSpec) -> registry.Process:
    with console(spec.name).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "roadbed.machines.supervise", spec.name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    return registry.Process.of(process.pid)


def console(name: str) -> Path:
    """The file with what the machine wrote to its console since its last boot."""
    return disk.folder(name) / "console.log"


def wait(started: Mapping[MachineSpec, float], say: Say) -> None:
    """Wait until all of `started` (with the times they began) answer SSH.

    Raises MachinesError with the end of the console log for the first that does not.
    """
    with ThreadPoolExecutor(max_workers=len(started) or 1) as pool:
        for waiting in [pool.submit(_wait_for_ssh, spec, began, say) for spec, began in started.items()]:
            waiting.result()


def _wait_for_ssh(spec: MachineSpec, began: float, say: Say) -> None:
    while not _ssh_answers(spec.address):
        ended = not registry.load(spec.name).running()
        if ended or time.monotonic() - began > _BOOT_TIMEOUT:
            tail = "\n".join(console(spec.name).read_text(errors="replace").strip().splitlines()[-15:])
            why = "stopped while booting" if ended else f"does not answer SSH after {_BOOT_TIMEOUT} s"
            raise MachinesError(f"{spec.name}: {why}; the end of {console(spec.name)}:\n{tail}")
        time.sleep(0.03)
    seconds = round(time.monotonic() - began, 2)
    registry.save(dataclasses.replace(registry.load(spec.name), boot_seconds=seconds))
    say(f"{spec.name} answers SSH after {seconds:.1f} s")


def _ssh_answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), 0.3) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def stop(record: registry.Record) -> None:
    """Pull the plug: the supervisor first, so that it starts nothing again."""
    end(record.supervisor)
    end(record.delay)
    cgroups.remove(record.spec.name)
    supervise.remove_leftovers(record.spec)


def end(process: registry.Process | None) -> None:
    """Kill `process` if it is still the one we started, and wait until it is gone.

    Raises MachinesError when it is still there after 5 seconds.
    """
    deadline = time.monotonic() + 5
    while process and process.alive():
        if time.monotonic() > deadline:
            raise MachinesError(f"process {process.pid}: does not end after SIGKILL")
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.01)


def remove(spec: MachineSpec) -> None:
    """Remove all that a stopped machine has: cable, namespace, disk and record."""
    link.unplug(spec)
    disk.remove(spec.name)
    registry.forget(spec.name)


def remove_shared() -> None:
    """Remove what all machines share, once there is none left."""
    if not registry.names():
        network.remove()
        cgroups.remove_folder()
