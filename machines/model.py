"""What a rehearsal machine is: the words shared by every provider."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

# Debian releases a machine can run: suite name -> what people call it.
SUITES = {"bookworm": "Debian 12", "trixie": "Debian 13"}

# One DNS label (RFC 1123), short enough to be a host name of Linux (64) behind the prefix "roadbed-".
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,53}[a-z0-9])?")
_LEAST_MEMORY = 64


class MachinesError(Exception):
    """A rehearsal machine cannot do what was asked; the text says why and what to do about it."""


class NoMachineError(MachinesError):
    """There is no machine of that name."""


@dataclass(frozen=True)
class MachineSpec:
    """A machine as the user wants it.

    name: one DNS label, its host name. address: its IPv4 address; the /24 around it becomes the
    machines' network and .1 in it the gateway. suite: "bookworm" or "trixie". memory: MiB the machine
    may use, None for no limit. cpus: CPU time it may use, in CPUs (1.5 = one and a half), None for no limit.

    Raises MachinesError when a value is not usable.
    """

    name: str
    address: str
    suite: str = "trixie"
    memory: int | None = None
    cpus: float | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise MachinesError(f"{self.name!r}: not a machine name; use lower-case letters, digits and inner hyphens")
        if self.suite not in SUITES:
            raise MachinesError(f"{self.name}: unknown suite {self.suite!r}; use one of {', '.join(SUITES)}")
        if self.memory is not None and self.memory < _LEAST_MEMORY:
            raise MachinesError(f"{self.name}: memory is in MiB and at least {_LEAST_MEMORY}, not {self.memory}")
        if self.cpus is not None and not self.cpus > 0:
            raise MachinesError(f"{self.name}: cpus must be more than 0, not {self.cpus}")
        self._check_address()

    def _check_address(self) -> None:
        try:
            address = ipaddress.IPv4Address(self.address)
        except ValueError as error:
            raise MachinesError(f"{self.name}: {self.address!r} is not an IPv4 address") from error
        if not address.is_private or address.is_loopback or address.is_link_local:
            raise MachinesError(
                f"{self.name}: {address} is not a private address; use one of 10.0.0.0/8, 172.16.0.0/12 "
                "or 192.168.0.0/16, for example 192.168.60.11"
            )
        if self.octet in (0, 1, 255):
            raise MachinesError(
                f"{self.name}: {address} is the network's own (.0), the gateway's (.1) or the broadcast "
                "address (.255); use .2 to .254"
            )

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        """The /24 the machine lives in."""
        return ipaddress.IPv4Network(f"{self.address}/24", strict=False)

    @property
    def octet(self) -> int:
        """The last number of the address, unique among the machines of one subnet."""
        return int(self.address.rsplit(".", 1)[1])


@dataclass(frozen=True)
class Machine:
    """A machine as it is. boot_seconds: from the start of its last `up` to the SSH banner."""

    name: str
    address: str
    suite: str
    state: Literal["running", "stopped"]
    boot_seconds: float | None = None
