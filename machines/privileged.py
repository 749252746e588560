"""The half that needs root: one process per verb, started by nspawn.py, with sudo where it must.

    python -m roadbed.machines.privileged VERB < request.json

The request comes on standard input, because proxy addresses may hold passwords. Every line of the output is
a JSON object: {"say": text} for progress, and {"result": ...} or {"error": text} at the end.
"""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from roadbed.machines import base, cgroups, commands, disk, link, network, registry
from roadbed.machines.carried import Carried
from roadbed.machines.model import MachinesError, MachineSpec

_BOOT_TIMEOUT = 90  # seconds, for a control machine with all CPUs busy
_LOCK = "lock"


def say(text: str) -> None:
    """Report progress to the front."""
    print(json.dumps({"say": text}), flush=True)


@dataclasses.dataclass(frozen=True)
class Request:
    """What `up` and `reset` need besides the machines' names."""

    public_key: str
    mirror: str
    carried: Carried

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Request":
        return cls(data["public_key"], data["mirror"], Carried(**data["carried"]))


def up(data: dict[str, Any]) -> list[str]:
    """Create and boot data["specs"]; a machine that runs already is left alone. Returns their names."""
    request = Request.of(data)
    specs = [MachineSpec(**spec) for spec in data["specs"]]
    _check_distinct(specs)
    images = _images({spec.suite for spec in specs}, request)
    with registry.lock(_LOCK, say):
        idle = [spec for spec in specs if not _already_running(spec)]
        started = _start(idle, images, request, fresh=False)
    _wait(started)
    return [spec.name for spec in specs]


def reset(data: dict[str, Any]) -> list[str]:
    """Boot the machines data["names"] on fresh disks with new host keys. Returns their names."""
    request = Request.of(data)
    specs = [registry.load(name).spec for name in data["names"]]
    images = _images({spec.suite for spec in specs}, request)
    with registry.lock(_LOCK, say):
        for spec in specs:
            _stop(registry.load(spec.name))
        started = _start(specs, images, request, fresh=True)
    _wait(started)
    return [spec.name for spec in specs]


def down(data: dict[str, Any]) -> list[str]:
    """Remove the machines data["names"], or all for None; the network goes with the last. Returns their names."""
    with registry.lock(_LOCK, say):
        records = [registry.load(name) for name in data["names"]] if data["names"] else registry.records()
        for record in records:
            _stop(record)
        for record in records:
            _remove(record.spec)
        if not registry.names():
            network.remove()
            cgroups.remove_folder()
    return [record.spec.name for record in records]


def cut(data: dict[str, Any]) -> None:
    """Pull the network cable of data["name"]."""
    link.cut(_running(data["name"]).spec)


def heal(data: dict[str, Any]) -> None:
    """Put the network cable of data["name"] back."""
    link.heal(_running(data["name"]).spec)


def slow(data: dict[str, Any]) -> None:
    """Delay data["name"] by data["milliseconds"] in each direction; 0 ends the delay."""
    with registry.lock(_LOCK, say):
        record = _running(data["name"])
        _end(record.delay)
        link.straighten(record.spec)
        delay = link.slow(record.spec, data["milliseconds"]) if data["milliseconds"] else None
        registry.save(dataclasses.replace(record, delay=delay))


def _running(name: str) -> registry.Record:
    record = registry.load(name)
    if not record.running():
        raise MachinesError(f"{name}: is stopped; start it with `provision machines up`")
    return record


def _check_distinct(specs: list[MachineSpec]) -> None:
    wanted = {spec.name: spec for spec in specs}
    everyone = specs + [record.spec for record in registry.records() if record.spec.name not in wanted]
    for number, spec in enumerate(specs):
        for other in everyone[number + 1 :]:
            if other.name == spec.name:
                raise MachinesError(f"{spec.name}: named twice; machines need different names")
            if other.address == spec.address:
                raise MachinesError(f"{spec.name}: {spec.address} belongs to {other.name} already; choose another")
            if other.subnet != spec.subnet:
                raise MachinesError(
                    f"{spec.name}: {spec.address} is outside {other.subnet}, the network of {other.name}; "
                    "all machines share one /24 network"
                )


def _already_running(spec: MachineSpec) -> bool:
    if spec.name not in registry.names():
        return False
    record = registry.load(spec.name)
    there = record.spec
    if (there.address, there.suite) != (spec.address, spec.suite):
        raise MachinesError(
            f"{spec.name}: exists as {there.suite} at {there.address}, but {spec.suite} at {spec.address} is "
            f"wanted; remove it first with `provision machines down {spec.name}`"
        )
    if not record.running():
        return False
    if there != spec:
        cgroups.limit(spec.name, spec.memory, spec.cpus)
        registry.save(dataclasses.replace(record, spec=spec))
    return True


def _images(suites: set[str], request: Request) -> dict[str, Path]:
    environment = request.carried.environment | {
        f"{scheme}_proxy": proxy for scheme, proxy in request.carried.apt_proxies.items()
    }

    def ensure(suite: str) -> tuple[str, Path]:
        return suite, base.ensure(suite, request.mirror, environment, say)

    with ThreadPoolExecutor() as pool:
        return dict(pool.map(ensure, sorted(suites)))


def _start(
    specs: list[MachineSpec], images: dict[str, Path], request: Request, *, fresh: bool
) -> list[tuple[MachineSpec, float]]:
    """Boot `specs`, each on its own disk if that is there and not `fresh`; returns them with their start times."""
    if specs:
        network.ensure(specs[0].subnet, say)
    started = []
    for spec in specs:
        begin = time.monotonic()
        record = registry.load(spec.name) if spec.name in registry.names() else registry.Record(spec)
        _stop(record)
        record = registry.save(registry.Record(spec, host_key=record.host_key))
        if fresh or not disk.mounted(spec.name):
            key = disk.create(spec, images[spec.suite], request.carried, request.public_key)
            record = registry.save(dataclasses.replace(record, host_key=key))
        link.plug(spec)
        registry.save(dataclasses.replace(record, supervisor=_supervise(spec)))
        started.append((spec, begin))
    return started


def _supervise(spec: MachineSpec) -> registry.Process:
    with (disk.folder(spec.name) / "console.log").open("ab") as console:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "roadbed.machines.supervise", spec.name],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    return registry.Process.of(process.pid)


def _wait(started: list[tuple[MachineSpec, float]]) -> None:
    with ThreadPoolExecutor(max_workers=len(started) or 1) as pool:
        for waiting in [pool.submit(_wait_for_ssh, spec, begin) for spec, begin in started]:
            waiting.result()


def _wait_for_ssh(spec: MachineSpec, begin: float) -> None:
    while not _ssh_answers(spec.address):
        ended = not registry.load(spec.name).running()
        if ended or time.monotonic() - begin > _BOOT_TIMEOUT:
            console = disk.folder(spec.name) / "console.log"
            tail = "\n".join(console.read_text(errors="replace").strip().splitlines()[-15:])
            why = "stopped while booting" if ended else f"does not answer SSH after {_BOOT_TIMEOUT} s"
            raise MachinesError(f"{spec.name}: {why}; the end of {console}:\n{tail}")
        time.sleep(0.03)
    seconds = round(time.monotonic() - begin, 2)
    registry.save(dataclasses.replace(registry.load(spec.name), boot_seconds=seconds))
    say(f"{spec.name} answers SSH after {seconds:.1f} s")


def _ssh_answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), 0.3) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _end(process: registry.Process | None) -> None:
    """Kill `process` if it is still the one we started, and wait until it is gone."""
    deadline = time.monotonic() + 5
    while process and process.alive():
        if time.monotonic() > deadline:
            raise MachinesError(f"process {process.pid}: does not end after SIGKILL")
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.01)


def _stop(record: registry.Record) -> None:
    """Pull the plug: the supervisor first, so that it starts nothing again."""
    _end(record.supervisor)
    _end(record.delay)
    cgroups.remove(record.spec.name)


def _remove(spec: MachineSpec) -> None:
    link.unplug(spec)
    disk.remove(spec.name)
    registry.forget(spec.name)


VERBS: dict[str, Callable[[dict[str, Any]], object]] = {
    "up": up,
    "down": down,
    "reset": reset,
    "cut": cut,
    "heal": heal,
    "slow": slow,
}


def main(verb: str, request: str) -> int:
    """Run `verb`; returns the exit status."""
    os.environ["PATH"] = commands.SEARCH_PATH
    try:
        print(json.dumps({"result": VERBS[verb](json.loads(request))}), flush=True)
    except MachinesError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1], sys.stdin.read()))
