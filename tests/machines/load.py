"""Constant load on a site whose instances fail: every request is written down, with its time and how it ended."""

import asyncio
import contextlib
import itertools
import json
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import httpx

from .visitors import _Here

LAST_LINE = "line 20\n"
"""The end of a stream of projects/orders."""


@dataclass(frozen=True)
class Sample:
    """One request. ``began`` is of ``time.monotonic``, ``seconds`` is until its first byte; ``error`` empty if good."""

    kind: str
    began: float
    seconds: float
    error: str
    order: str = ""


@dataclass
class Load:
    """``with Load(address, domain) as load: ...`` sends about 30 requests a second to the project ``orders``.

    GETs with keep-alive (HTTP/1.1, HTTP/2) and without, POSTs of 50 ms and of 1 s, each with an id of its own, and
    streams of 2 s. Each kind has a client of its own, and nothing is tried twice.
    """

    address: str
    domain: str
    samples: list[Sample] = field(default_factory=list)
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    """Orders are called ``<name>-<number>``."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __enter__(self) -> "Load":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=90)

    def since(self, moment: float, until: float = float("inf")) -> list[Sample]:
        """Requests that began after ``moment`` and before ``until``."""
        return [sample for sample in self.samples if moment <= sample.began < until]

    async def _run(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self._client(http2=http2)) for http2 in (False, True, False)]
            h1, h2, posts = clients
            kinds: list[tuple[str, float, Callable[[], Awaitable[tuple[float, str]]]]] = [
                ("GET", 0.1, lambda: self._get(h1)),
                ("GET h2", 0.1, lambda: self._get(h2)),
                ("GET new", 0.25, self._fresh),
                ("POST", 0.25, lambda: self._post(posts, 50)),
                ("POST h2", 0.5, lambda: self._post(h2, 1000)),
                ("stream", 1.0, lambda: self._stream(h1)),
            ]
            await asyncio.gather(*(self._repeat(*kind) for kind in kinds))

    async def _repeat(self, kind: str, pause: float, request: Callable[[], Awaitable[tuple[float, str]]]) -> None:
        """One request every ``pause`` seconds, whether or not the one before has ended."""
        running: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self._stop.is_set():
            task = asyncio.create_task(self._note(kind, request))
            running.add(task)
            task.add_done_callback(running.discard)
            due += pause
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*running)

    async def _note(self, kind: str, request: Callable[[], Awaitable[tuple[float, str]]]) -> None:
        began = time.monotonic()
        try:
            first, order = await request()
        except (httpx.HTTPError, AssertionError) as error:
            order = error.args[1] if len(error.args) > 1 else ""
            self.samples.append(Sample(kind, began, time.monotonic() - began, f"{type(error).__name__} {error}", order))
        else:
            self.samples.append(Sample(kind, began, first - began, "", order))

    @staticmethod
    async def _get(client: httpx.AsyncClient) -> tuple[float, str]:
        response = await client.get("/info")
        assert response.status_code == 200, f"HTTP {response.status_code}"
        return time.monotonic(), ""

    async def _fresh(self) -> tuple[float, str]:
        async with self._client() as client:
            return await self._get(client)

    async def _post(self, client: httpx.AsyncClient, milliseconds: int) -> tuple[float, str]:
        order = f"{self.name}-{next(self._numbers)}"
        response = await client.post("/orders", content=json.dumps({"id": order, "ms": milliseconds}))
        assert response.status_code == 200, f"HTTP {response.status_code}"
        return time.monotonic() - milliseconds / 1000, order

    @staticmethod
    async def _stream(client: httpx.AsyncClient) -> tuple[float, str]:
        async with client.stream("GET", "/stream") as response:
            assert response.status_code == 200, f"HTTP {response.status_code}"
            first, text = 0.0, ""
            async for piece in response.aiter_text():
                first, text = first or time.monotonic(), text + piece
        assert text.endswith(LAST_LINE), f"the stream ended after {len(text)} characters"
        return first, ""

    def _client(self, *, http2: bool = False) -> httpx.AsyncClient:
        transport = _Here(self.address, self.domain, verify=False, http2=http2)
        return httpx.AsyncClient(transport=transport, base_url=f"https://{self.domain}", timeout=90)


def table(samples: list[Sample]) -> dict[str, tuple[int, int, float]]:
    """Kind -> (requests, failed, longest in seconds)."""
    kinds = dict.fromkeys(sample.kind for sample in samples)
    return {
        kind: (
            len(mine := [sample for sample in samples if sample.kind == kind]),
            sum(1 for sample in mine if sample.error),
            max(sample.seconds for sample in mine),
        )
        for kind in kinds
    }


def failures(samples: list[Sample], epoch: float = 0.0) -> list[str]:
    """A line for each request that failed; times count from ``epoch``."""
    return [
        f"{sample.began - epoch:.2f} s, {sample.kind}: {sample.error} after {sample.seconds:.2f} s"
        for sample in samples
        if sample.error
    ]
