"""Hands frames from one network interface to another and back, each after a delay: `slow` runs it as a process.

    python -m roadbed.machines.delay INTERFACE INTERFACE MILLISECONDS

A stand-in for `tc netem`, which many kernels lack. Frames keep their virtio-net header (PACKET_VNET_HDR,
packet(7)), so that segments and checksums which the kernel left for a network card survive the way.
"""

import contextlib
import selectors
import socket
import sys
import time
from collections import deque

from roadbed.machines import cgroups

_SOL_PACKET = 263  # linux/socket.h
_PACKET_VNET_HDR = 15  # linux/if_packet.h
_PACKET_IGNORE_OUTGOING = 23  # linux/if_packet.h, Linux 4.20
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_ALL_PROTOCOLS = 3  # ETH_P_ALL, linux/if_ether.h
_LARGEST = 1 << 17  # bytes: a segment of 64 KiB with its headers, and room
_BUFFER = 16 << 20  # bytes


def _open(interface: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    raw.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    raw.bind((interface, _ALL_PROTOCOLS))
    raw.setblocking(False)
    return raw


def forward(first: str, second: str, seconds: float) -> None:
    """Forward between the interfaces `first` and `second`, `seconds` late, until the process is killed.

    Raises OSError when an interface does not exist or the kernel has no packet sockets.
    """
    one, other = _open(first), _open(second)
    peer = {one: other, other: one}
    ready = selectors.DefaultSelector()
    for end in peer:
        ready.register(end, selectors.EVENT_READ, data=end)
    waiting: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for key, _ in ready.select(pause):
            end = key.data
            due = time.monotonic() + seconds
            waiting.extend((due, peer[end], frame) for frame in _arrived(end))
        while waiting and waiting[0][0] <= time.monotonic():
            _, to, frame = waiting.popleft()
            # A cut cable (ENETDOWN) or a full queue loses the frame, as a network does.
            with contextlib.suppress(OSError):
                to.send(frame)


def _arrived(end: socket.socket) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < 64:
        try:
            frames.append(end.recv(_LARGEST))
        except BlockingIOError:
            break
        except OSError:  # the cable was cut: reported once, frames come again after it is healed
            break
    return frames


if __name__ == "__main__":
    cgroups.keep()
    forward(sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000)
