"""The machines' network: one bridge with the gateway address, NAT to the outside, and nothing left behind.

Everything made here has a name of its own (bridge roadbed0, nftables table roadbed_machines) and is written
down in network.json before it is made, with the id of this boot: what is found but not written down there
was made by someone else and is refused, never touched.
"""

import ipaddress
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roadbed.machines import commands, registry
from roadbed.machines.model import MachinesError

BRIDGE = "roadbed0"
TABLE = "roadbed_machines"
_STATE = registry.STATE / "network.json"
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_NAMESPACES = Path("/run/netns")


def ruleset(subnet: ipaddress.IPv4Network) -> str:
    """The nftables table: masquerade what leaves `subnet` through another interface than the bridge."""
    return f"""table ip {TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} oifname != "{BRIDGE}" masquerade
  }}
}}
"""


def collision(routes: list[dict[str, Any]], subnet: ipaddress.IPv4Network) -> str | None:
    """The route among `ip -json -4 route show table all` that `subnet` would cut into, as text, or None.

    Default routes do not count, nor the two halves of the address space that VPNs use instead of one.
    """
    for route in routes:
        if route["dst"] == "default" or route.get("dev") == BRIDGE:
            continue
        there = ipaddress.ip_network(route["dst"], strict=False)
        if there.prefixlen > 1 and there.overlaps(subnet):
            return f"{route['dst']} on {route.get('dev', 'no device')}"
    return None


def forward_blockers(ruleset_json: dict[str, Any]) -> list[str]:
    """Chains of other programs that drop what is forwarded, from `nft --json list ruleset`; a table with a
    rule that names the bridge is taken to let it through."""
    entries = ruleset_json["nftables"]
    chains = [entry["chain"] for entry in entries if "chain" in entry]
    aware = {
        (entry["rule"]["family"], entry["rule"]["table"])
        for entry in entries
        if "rule" in entry and BRIDGE in json.dumps(entry["rule"])
    }
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == "forward"
        and chain.get("policy") == "drop"
        and (chain["family"], chain["table"]) not in aware
    ]


def hardware_address(address: ipaddress.IPv4Address) -> str:
    """The MAC address of who has `address`: the same over resets, so that no ARP cache goes stale."""
    return "02:00:" + address.packed.hex(":")


def ensure(subnet: ipaddress.IPv4Network, say: Callable[[str], None]) -> None:
    """Make the bridge and NAT for `subnet`, unless they are there.

    Raises MachinesError when the subnet collides with a route, when another subnet is in use by machines,
    or when the bridge or the table was made by someone else.
    """
    state = _state()
    if state and state["subnet"] != str(subnet):
        raise MachinesError(
            f"{subnet}: machines in {state['subnet']} exist, and all machines share one /24 network; "
            "take them down first (`provision machines down`) or choose addresses in that network"
        )
    if not state:
        _check_free(subnet)
        state = {
            "subnet": str(subnet),
            "boot": _boot_id(),
            "ip_forward": _FORWARD.read_text().strip(),
            "netns_mounted": str(_NAMESPACES) in map(str, commands.mounts_below(_NAMESPACES)),
        }
        registry.write_json(_STATE, state)
    _make(subnet)
    _warn_of_blockers(say)


def _state() -> dict[str, Any] | None:
    """What was made since this machine booted; a file from before means that nothing is left of it."""
    try:
        state: dict[str, Any] = json.loads(_STATE.read_text())
    except FileNotFoundError:
        return None
    return state if state["boot"] == _boot_id() else None


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _check_free(subnet: ipaddress.IPv4Network) -> None:
    if _link_exists(BRIDGE):
        raise MachinesError(
            f"{BRIDGE}: a network interface of this name exists and was not made by `provision machines`; "
            f"if nothing uses it, remove it with `ip link delete {BRIDGE}`"
        )
    if _table_exists():
        raise MachinesError(
            f"nftables table ip {TABLE}: exists and was not made by `provision machines`; "
            f"if nothing uses it, remove it with `nft delete table ip {TABLE}`"
        )
    routes = json.loads(commands.run("ip", "-json", "-4", "route", "show", "table", "all") or "[]")
    if taken := collision(routes, subnet):
        raise MachinesError(
            f"{subnet}: this machine already has a route into that network ({taken}); "
            "give the machines addresses in another private /24"
        )


def _link_exists(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def _table_exists() -> bool:
    listing = json.loads(commands.run("nft", "--json", "list", "tables"))
    tables = [entry["table"] for entry in listing["nftables"] if "table" in entry]
    return any(table["family"] == "ip" and table["name"] == TABLE for table in tables)


def _make(subnet: ipaddress.IPv4Network) -> None:
    if not _link_exists(BRIDGE):
        # Left to itself a bridge changes its address with its ports, and every machine's ARP cache is wrong.
        own = ("address", hardware_address(subnet[1]))
        commands.run("ip", "link", "add", BRIDGE, *own, "type", "bridge", "stp_state", "0", "forward_delay", "0")
    commands.run("ip", "address", "replace", f"{subnet[1]}/24", "dev", BRIDGE)
    commands.run("ip", "link", "set", BRIDGE, "up")
    if not _table_exists():
        commands.run("nft", "--file", "-", text=ruleset(subnet))
    if _FORWARD.read_text().strip() != "1":
        _FORWARD.write_text("1\n")


def _warn_of_blockers(say: Callable[[str], None]) -> None:
    # An accept in a table of our own would not help: a packet is dropped when any chain on the hook drops it
    # (nft(8), "accept"). Rules of other programs are not ours to change.
    try:
        listing = json.loads(commands.run("nft", "--json", "list", "ruleset"))
    except (MachinesError, ValueError):  # rules that nft cannot show are not judged
        return
    for chain in forward_blockers(listing):
        say(
            f"Warning: the chain `{chain}` drops forwarded packets (Docker sets this), so the machines may reach "
            f"nothing outside; allow them with `iptables -I FORWARD -i {BRIDGE} -j ACCEPT` and "
            f"`iptables -I FORWARD -o {BRIDGE} -j ACCEPT`"
        )


def remove() -> None:
    """Remove what ensure() made and put ip_forward back to what it was. Does nothing when nothing was made."""
    state = _state()
    if state:
        if _link_exists(BRIDGE):
            commands.run("ip", "link", "delete", BRIDGE)
        if _table_exists():
            commands.run("nft", "delete", "table", "ip", TABLE)
        if _FORWARD.read_text().strip() != state["ip_forward"]:
            _FORWARD.write_text(state["ip_forward"] + "\n")
        if not state["netns_mounted"]:
            _remove_namespace_folder()
    _STATE.unlink(missing_ok=True)


def _remove_namespace_folder() -> None:
    # `ip netns add` mounts /run/netns onto itself, and leaves it so; others may have begun to use it.
    if _NAMESPACES.exists() and not list(_NAMESPACES.iterdir()):
        commands.unmount(_NAMESPACES)
        _NAMESPACES.rmdir()
