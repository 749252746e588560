"""Time the pieces of an answer as a browser reads them."""

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import brotli  # type: ignore[import-untyped]
import httpx


@dataclass(frozen=True)
class Timing:
    """When a stream could be read; times are in milliseconds since the request."""

    version: str
    status: int
    encoding: str
    first_ms: float
    last_ms: float
    gap_ms: float
    """The longest silence between two readable pieces."""
    pieces: int

    @property
    def spread_ms(self) -> float:
        """From the first readable piece to the last: what a server or proxy that holds back loses."""
        return self.last_ms - self.first_ms


def time_stream(session: httpx.Client, url: str, encoding: str, extensions: dict[str, str] | None = None) -> Timing:
    """GETs ``url`` and notes when each piece could be decoded.

    Compressed bytes that give no text yet do not count: a gzip header on its own shows nobody anything.
    """
    decode = _decoder(encoding)
    times = []
    started = time.perf_counter()
    with session.stream("GET", url, headers={"Accept-Encoding": encoding}, extensions=extensions or {}) as answer:
        for piece in answer.iter_raw():
            if decode(piece):
                times.append((time.perf_counter() - started) * 1000)
    assert times, f"{url}: an empty answer with status {answer.status_code}"
    received = answer.headers.get("content-encoding", "identity")
    gap = max((after - before for before, after in pairwise(times)), default=0.0)
    return Timing(answer.http_version, answer.status_code, received, times[0], times[-1], gap, len(times))


def _decoder(encoding: str) -> Callable[[bytes], bytes]:
    if encoding == "gzip":
        return zlib.decompressobj(wbits=31).decompress
    if encoding == "br":
        process: Callable[[bytes], bytes] = brotli.Decompressor().process
        return process
    return bytes
