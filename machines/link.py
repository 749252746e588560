"""A machine's own network: its namespace, its cable to the bridge, and what can be wrong with the cable.

The cable is a veth pair: `roadbed0-11` on the bridge, `eth0` in the machine. When it is slowed, the bridge end
leaves the bridge for a process (delay.py) that hands the frames on later through a second pair,
`roadbed0-11a` and `roadbed0-11b`; `eth0` notices nothing.
"""

import ipaddress
import subprocess
import sys
import time
from pathlib import Path

from roadbed.machines import commands, registry
from roadbed.machines.model import MachinesError, MachineSpec
from roadbed.machines.network import BRIDGE, hardware_address

# Off the bridge, an interface would answer ARP for this machine's own addresses, past the delay.
_SILENT = ("arp", "off", "addrgenmode", "none")


def namespace(spec: MachineSpec) -> str:
    """The name of the machine's network namespace, as `ip netns` lists it."""
    return f"roadbed-{spec.name}"


def cable(spec: MachineSpec) -> str:
    """The bridge's end of the cable; interface names have at most 15 characters, so it goes by the address."""
    return f"{BRIDGE}-{spec.octet}"


def plug(spec: MachineSpec) -> None:
    """Make the cable; its other end waits in this machine's namespace as `roadbed0-11p` until the boot."""
    unplug(spec)
    end = cable(spec)
    own = hardware_address(ipaddress.IPv4Address(spec.address))
    commands.run("ip", "link", "add", end, "type", "veth", "peer", "name", f"{end}p", "address", own)
    commands.run("ip", "link", "set", end, *_SILENT, "master", BRIDGE, "up")


def new_namespace(spec: MachineSpec) -> None:
    """Give the machine a fresh network namespace, as a boot does: no firewall rules, default net.* settings."""
    here, end = namespace(spec), f"{cable(spec)}p"
    if Path("/run/netns", here).exists():
        if not Path("/sys/class/net", end).exists():
            _batch(f"link set eth0 down\nlink set eth0 name {end} netns 1\n", here)
        commands.run("ip", "netns", "delete", here)
    commands.run("ip", "netns", "add", here)
    commands.run("ip", "link", "set", end, "netns", here, "name", "eth0")
    gateway = spec.subnet[1]
    _batch(
        f"link set lo up\naddress add {spec.address}/24 dev eth0\nlink set eth0 up\nroute add default via {gateway}\n",
        here,
    )


def _batch(lines: str, inside: str) -> None:
    commands.run("ip", "-netns", inside, "-batch", "-", text=lines)


def unplug(spec: MachineSpec) -> None:
    """Remove the cable, the delay's pair and the namespace; what is missing is fine."""
    for end in (cable(spec), f"{cable(spec)}a"):
        if Path("/sys/class/net", end).exists():
            commands.run("ip", "link", "delete", end)
    if Path("/run/netns", namespace(spec)).exists():
        commands.run("ip", "netns", "delete", namespace(spec))


def cut(spec: MachineSpec) -> None:
    """Pull the cable: nothing goes in or out, and nobody is told."""
    commands.run("ip", "link", "set", cable(spec), "down")


def heal(spec: MachineSpec) -> None:
    """Put the cable back."""
    commands.run("ip", "link", "set", cable(spec), "up")


def slow(spec: MachineSpec, milliseconds: float) -> registry.Process:
    """Delay every frame by `milliseconds` in each direction; the process that does it is returned."""
    end = cable(spec)
    commands.run("ip", "link", "add", f"{end}a", "type", "veth", "peer", "name", f"{end}b")
    commands.run("ip", "link", "set", end, "nomaster")
    commands.run("ip", "link", "set", f"{end}b", *_SILENT, "up")
    commands.run("ip", "link", "set", f"{end}a", "master", BRIDGE, "up")
    started = subprocess.Popen(
        [sys.executable, "-I", "-m", "roadbed.machines.delay", end, f"{end}b", str(milliseconds)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(0.2)
    if started.poll() is not None:
        straighten(spec)
        raise MachinesError(f"{spec.name}: the delay ended at once; is AF_PACKET available in this kernel?")
    return registry.Process.of(started.pid)


def straighten(spec: MachineSpec) -> None:
    """Connect the cable to the bridge again, without the delay's pair."""
    end = cable(spec)
    if Path("/sys/class/net", f"{end}a").exists():
        commands.run("ip", "link", "delete", f"{end}a")
    commands.run("ip", "link", "set", end, "master", BRIDGE)
