"""Firewall: the rules in the kernel are the inventory's, and what listens is declared."""

import ipaddress
import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from testinfra.host import Host

from roadbed.deploys.context import Context
from roadbed.deploys.firewall import IN_FORCE, UNIT, openings

DHCP = {("udp", 68), ("udp", 546)}
"""A DHCP client listens for the answers to its own questions."""


def applies(ctx: Context) -> bool:
    """Only where the inventory wants the firewall."""
    return ctx.inventory.firewall.enabled


def _chain(host: Host) -> list[dict[str, Any]]:
    listing = json.loads(host.check_output("nft -j list chain inet roadbed input"))
    return list(listing["nftables"])


def test_policy_is_drop(host: Host) -> None:
    """What no rule accepts is dropped."""
    chains = [item["chain"] for item in _chain(host) if "chain" in item]
    assert [(chain["hook"], chain["policy"]) for chain in chains] == [("input", "drop")]


def test_rules_are_those_that_were_loaded(host: Host) -> None:
    """Nobody has changed the rules since Roadbed loaded them."""
    assert host.run(IN_FORCE).rc == 0


def _openings_in(lines: list[str]) -> list[tuple[str, str, list[str]]]:
    """(protocol, ports, sources) of each rule; nftables lists a single source without braces and without /32."""
    found = []
    for line in lines:
        match = re.match(r"(?:ip6? saddr (?:\{ (?P<many>[^}]*) \}|(?P<one>\S+)) )?(tcp|udp) dport (\S+)", line)
        assert match, f"not a rule of Roadbed: {line}"
        sources = [item for item in (match["many"] or match["one"] or "").split(", ") if item]
        found.append((match[3], match[4], sorted(str(network) for item in sources for network in _networks(item))))
    return sorted(found)


def _networks(text: str) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """nftables lists neighbours that are no network together as a range."""
    first, _, last = text.partition("-")
    if last:
        return ipaddress.summarize_address_range(ipaddress.ip_address(first), ipaddress.ip_address(last))
    return iter((ipaddress.ip_network(text),))


def test_rules_are_the_inventory(host: Host, ctx: Context) -> None:
    """Exactly the declared ports are open, each for the declared sources."""
    text = host.check_output("nft -n -s list chain inet roadbed input")
    loaded = [line.strip() for line in text.splitlines() if " dport " in line and " sport 547 " not in line]
    wanted = [f"{match}{rule.protocol} dport {rule.ports}" for rule in openings(ctx) for match in rule.matches]
    assert _openings_in(loaded) == _openings_in(wanted)


def test_listeners_are_declared(host: Host, ctx: Context) -> None:
    """Every socket that listens on more than the loopback interface is declared in the inventory."""
    declared = {(rule.protocol, port) for rule in openings(ctx) for port in range(rule.first, rule.last + 1)} | DHCP
    surprises = []
    for line in host.check_output("ss -H -l -n -t -u -p").splitlines():
        protocol, _, _, _, local, *_ = line.split()
        address, _, port = local.rpartition(":")
        plain = address.partition("%")[0].strip("[]").replace("*", "0.0.0.0")  # noqa: S104
        if not ipaddress.ip_address(plain).is_loopback and (protocol, int(port)) not in declared:
            surprises.append(line)
    assert surprises == []


def test_loads_at_boot(host: Host) -> None:
    """The rules are loaded at every boot, before the network is up."""
    assert host.check_output(f"systemctl is-enabled {UNIT}; systemctl is-active {UNIT}") == "enabled\nactive"
    assert "network-pre.target" in host.check_output(f"systemctl show -p Before --value {UNIT}").split()


def test_no_change_is_unconfirmed(host: Host) -> None:
    """No change of firewall or sshd is waiting to be undone."""
    assert host.check_output("ls -A /var/lib/roadbed/revert") == ""
    assert host.check_output("systemctl list-units --all --plain --no-legend 'roadbed-revert-*.timer'") == ""


def test_undo_at_boot_is_ready(host: Host) -> None:
    """A host that is rebooted in the middle of a change undoes it before sshd and the network start."""
    assert host.check_output("systemctl is-enabled roadbed-revert.service") == "enabled"
    before = host.check_output("systemctl show -p Before --value roadbed-revert.service").split()
    assert {"network-pre.target", "ssh.service", UNIT} <= set(before)


@pytest.fixture
def listener(host: Host, ctx: Context) -> Iterator[int]:
    """A port that is not declared, with a program that listens on it on all addresses.

    No connection may have it, not even one that has ended: the kernel gives ports of this range to those that leave.
    """
    declared = {port for rule in openings(ctx) for port in range(rule.first, rule.last + 1)}
    used = {line.split()[3].rpartition(":")[2] for line in host.check_output("ss -H -a -n -t").splitlines()}
    port = next(port for port in range(47000, 48000) if port not in declared and str(port) not in used)
    host.check_output(
        f"systemd-run --quiet --collect --unit=roadbed-check-listener -p DynamicUser=yes "
        f"systemd-socket-activate --inetd -a -l {port} /bin/cat"
    )
    yield port
    host.run("systemctl stop roadbed-check-listener.service")


def _answers(address: str, port: int, seconds: float) -> bool:
    try:
        with closing(socket.create_connection((address, port), timeout=seconds)):
            return True
    except OSError:
        return False


def test_undeclared_port_is_closed(host: Host, ctx: Context, listener: int, from_here: Callable[[int], bool]) -> None:
    """A program that listens on a port nobody declared cannot be reached from outside."""
    local = host.run(
        f"for i in $(seq 50); do bash -c ': < /dev/tcp/127.0.0.1/{listener}' && exit 0; sleep 0.1; done; exit 1"
    )
    assert local.rc == 0, "the listener itself does not answer"
    assert from_here(ctx.inventory.ssh.port), "the control machine cannot reach the host directly"
    assert not from_here(listener)


@pytest.fixture
def from_here(ctx: Context) -> Callable[[int], bool]:
    """Whether a port of the host can be connected to from the control machine."""
    return lambda port: _answers(ctx.host.address, port, 1.5)
