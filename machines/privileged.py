"""The half that needs root: one process per verb, started by nspawn.py, with sudo where it must.

    python -m roadbed.machines.privileged VERB < request.json

The request comes on standard input, because proxy addresses may hold passwords. Every line of the output is
a JSON object: {"say": text} for progress, and {"result": ...} or {"error": text} at the end.
"""

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from roadbed.machines import base, boot, commands, link, network, registry
from roadbed.machines.carried import Carried
from roadbed.machines.model import MachinesError, MachineSpec

_LOCK = "lock"
_BUSY = "Waiting for another run that is changing the machines"


def _write(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Report progress to the front."""
    _write({"say": text})


@dataclasses.dataclass(frozen=True)
class Request:
    """What `up` and `reset` need besides the machines: the key that may log in, the Debian mirror, and what is
    carried in from the control machine."""

    public_key: str
    mirror: str
    carried: Carried

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Request":
        return cls(data["public_key"], data["mirror"], Carried(**data["carried"]))


def up(data: dict[str, Any]) -> list[str]:
    """Create and boot data["specs"]; a machine that runs already is left alone. Returns their names."""
    specs = [MachineSpec(**spec) for spec in data["specs"]]
    check(specs, registry.records())
    images = _images({spec.suite for spec in specs}, Request.of(data))
    with registry.lock(_LOCK, _BUSY, say):
        records = {record.spec.name: record for record in registry.records()}
        check(specs, records.values())
        idle = [spec for spec in specs if spec.name not in records or not records[spec.name].running()]
        started = _start(idle, images, Request.of(data), fresh=False)
    boot.wait(started, say)
    return [spec.name for spec in specs]


def reset(data: dict[str, Any]) -> list[str]:
    """Boot the machines data["names"] on fresh disks with new host keys. Returns their names."""
    specs = [registry.load(name).spec for name in dict.fromkeys(data["names"])]
    images = _images({spec.suite for spec in specs}, Request.of(data))
    with registry.lock(_LOCK, _BUSY, say):
        started = _start(specs, images, Request.of(data), fresh=True)
    boot.wait(started, say)
    return [spec.name for spec in specs]


def _start(
    specs: list[MachineSpec], images: dict[str, Path], request: Request, *, fresh: bool
) -> dict[MachineSpec, float]:
    if specs:
        network.ensure(specs[0].subnet, say)
    settings = (request.carried, request.public_key)
    return dict(boot.start(spec, images[spec.suite], *settings, fresh=fresh, say=say) for spec in specs)


def down(data: dict[str, Any]) -> list[str]:
    """Remove the machines data["names"], or all for None; the network goes with the last. Returns their names."""
    with registry.lock(_LOCK, _BUSY, say):
        names = registry.names() if data["names"] is None else list(dict.fromkeys(data["names"]))
        records = [registry.load(name) for name in names]
        for record in records:
            boot.stop(record)
            boot.remove(record.spec)
        boot.remove_shared()
    return names


def cut(data: dict[str, Any]) -> None:
    """Pull the network cable of data["name"]."""
    link.cut(_running(data["name"]).spec)


def heal(data: dict[str, Any]) -> None:
    """Put the network cable of data["name"] back."""
    link.heal(_running(data["name"]).spec)


def slow(data: dict[str, Any]) -> None:
    """Delay data["name"] by data["milliseconds"] in each direction; 0 ends the delay."""
    with registry.lock(_LOCK, _BUSY, say):
        record = _running(data["name"])
        boot.end(record.delay)
        link.straighten(record.spec)
        delay = link.slow(record.spec, data["milliseconds"]) if data["milliseconds"] else None
        registry.save(dataclasses.replace(record, delay=delay))


def _running(name: str) -> registry.Record:
    record = registry.load(name)
    if not record.running():
        raise MachinesError(f"{name}: is stopped; start it with `provision machines up`")
    return record


def check(specs: list[MachineSpec], records: Iterable[registry.Record]) -> None:
    """Refuse `specs` that contradict one another or the machines of `records`, with a MachinesError."""
    there = {record.spec.name: record.spec for record in records}
    for number, spec in enumerate(specs):
        known = there.get(spec.name, spec)
        if known != spec:
            changed = [
                f"{field.name} is {getattr(known, field.name)}, not {getattr(spec, field.name)}"
                for field in dataclasses.fields(spec)
                if getattr(known, field.name) != getattr(spec, field.name)
            ]
            raise MachinesError(
                f"{spec.name}: this machine exists, but its {' and its '.join(changed)}; "
                f"remove it first with `provision machines down {spec.name}`"
            )
        others = [other for name, other in there.items() if name != spec.name]
        for other in specs[number + 1 :] + others:
            _check_pair(spec, other)


def _check_pair(spec: MachineSpec, other: MachineSpec) -> None:
    if other.name == spec.name:
        raise MachinesError(f"{spec.name}: named twice; machines need different names")
    if other.address == spec.address:
        raise MachinesError(f"{spec.name}: {spec.address} belongs to {other.name} already; choose another address")
    if other.subnet != spec.subnet:
        raise MachinesError(
            f"{spec.name}: {spec.address} is outside {other.subnet}, the network of {other.name}; "
            "all machines share one /24 network"
        )


def _images(suites: set[str], request: Request) -> dict[str, Path]:
    apt = {f"{scheme}_proxy": proxy for scheme, proxy in request.carried.apt_proxies.items()}
    environment = request.carried.environment | apt
    ordered = sorted(suites)
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda suite: base.ensure(suite, request.mirror, environment, say), ordered)
        return dict(zip(ordered, found, strict=True))


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
    # Ctrl-C ends this process at once, threads and all; `down` cleans up what it leaves.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o022)
    os.environ["PATH"] = commands.SEARCH_PATH
    try:
        _write({"result": VERBS[verb](json.loads(request))})
    except MachinesError as error:
        _write({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.stdin.read()))
