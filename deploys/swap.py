"""The swap file: a buffer against the OOM killer on small machines, as a systemd swap unit (systemd.swap(5))."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

from pyinfra import context
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation

from .system import InContainer

SWAP_FILE = "/var/lib/roadbed/swap"
SWAP_UNIT = "var-lib-roadbed-swap.swap"
"""systemd requires the name to be the escaped path of the file."""
SMALL_MB = 4096
AUTO_MB = 2048
SPARE_MB = 2048
"""Disk space in MiB that must be left beside a swap file of size auto."""


def swap_mb(setting: Literal["auto", "off"] | int, memory_mb: int) -> int:
    """Size of the swap file in MiB for a host with ``memory_mb`` MiB; 0: none."""
    if isinstance(setting, int):
        return setting
    return AUTO_MB if setting == "auto" and memory_mb < SMALL_MB else 0


@dataclass(frozen=True)
class Swap:
    """What a host has: MiB of Roadbed's file, whether it is in use, whether there is other swap, MiB free."""

    size: int
    active: bool
    others: bool
    free: int


class SwapState(FactBase[Swap]):
    """The swap of a host."""

    def command(self) -> str:
        return f"stat -c %s {SWAP_FILE} 2>/dev/null || echo 0; df -Pm /var/lib; cat /proc/swaps"

    def process(self, output: list[str]) -> Swap:
        size, _, disk, *areas = output
        names = [line.split()[0] for line in areas if not line.startswith("Filename")]
        others = any(name != SWAP_FILE for name in names)
        return Swap(int(size) // 2**20, SWAP_FILE in names, others, int(disk.split()[3]))


@operation()
def ensure_swap(size: int, unless_present: bool) -> Generator[str, None, None]:
    """A swap file of ``size`` MiB in use, or none for 0.

    ``unless_present``: leave a host alone that has other swap or lacks the disk space. Nothing is
    done in a container. Fails when a size that was asked for does not fit the disk.
    """
    if context.host.get_fact(InContainer):  # where swapon(2) is not permitted
        context.host.noop("a container uses the swap of its machine")
        return
    swap = context.host.get_fact(SwapState)
    if size == 0:
        yield from _remove(swap)
    elif swap.size == size and swap.active:
        context.host.noop(f"{size} MiB of swap are in use")
    elif unless_present and swap.others and not swap.size:
        context.host.noop("the host has swap of its own")
    elif unless_present and swap.free + swap.size < size + SPARE_MB:
        context.host.noop(f"{swap.free} MiB of disk are too few for {size} MiB of swap")
    else:
        yield from _remove(swap)
        yield from _make(size)


def _make(size: int) -> Generator[str, None, None]:
    part = f"{SWAP_FILE}.partial"
    yield (
        f"free=$(df -Pm /var/lib | awk 'END {{ print $4 }}'); [ $free -gt {size} ] || "
        f'{{ echo "base/swap: {size} MiB do not fit, $free MiB are free. Lower it or set it to off" >&2; exit 1; }}'
    )
    # chattr +C: btrfs can only swap to a file without copy-on-write (btrfs(5), swapfile support).
    yield (
        f"rm -f {part} && (umask 077; : > {part}) && {{ chattr +C {part} 2>/dev/null || true; }} && "
        f"{{ fallocate -l {size}M {part} || dd if=/dev/zero of={part} bs=1M count={size} status=none; }} && "
        f"mkswap -q {part} >/dev/null && mv -f {part} {SWAP_FILE}"
    )
    yield f"systemctl enable --now {SWAP_UNIT}"


def _remove(swap: Swap) -> Generator[str, None, None]:
    if swap.active or swap.size:
        yield f"systemctl disable --now {SWAP_UNIT} && rm -f {SWAP_FILE}"
    else:
        context.host.noop("no swap file is wanted")
