"""Visitors of a site under test: constant requests of several kinds, every failure written down."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

import httpx

Kind = tuple[str, float, Callable[[], Awaitable[httpx.Response]]]
"""Name, seconds between two requests, the request."""
STREAM = "/streaming?chunks=10&delay=500"
LAST_CHUNK = "chunk 10 after 5000 ms"
BODY = b"x" * 4096


@dataclass
class Visitors:
    """``with Visitors(address, domain) as visitors: ...`` sends about 28 requests a second until the end.

    Keep-alive HTTP/1.1, HTTP/2, a new connection each time, streams of 5 s and POSTs; nothing is
    tried twice. ``failures`` has a line for each request that failed, ``releases`` those that answered.
    """

    address: str
    domain: str
    total: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """How long each request took that was answered, by kind."""
    releases: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Visitors":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._visit()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    async def _visit(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            h1 = await stack.enter_async_context(self._client())
            h2 = await stack.enter_async_context(self._client(http2=True))
            await asyncio.gather(*(self._repeat(*kind) for kind in self._kinds(h1, h2)))

    def _kinds(self, h1: httpx.AsyncClient, h2: httpx.AsyncClient) -> list[Kind]:
        return [
            ("GET, HTTP/1.1", 0.1, lambda: self._ask(h1, "GET", "/api/info")),
            ("GET, HTTP/2", 0.1, lambda: self._ask(h2, "GET", "/api/info")),
            ("GET, new connection", 0.25, self._fresh),
            ("POST, HTTP/1.1", 0.5, lambda: self._ask(h1, "POST", "/api/upload", content=BODY)),
            ("POST, HTTP/2", 0.5, lambda: self._ask(h2, "POST", "/api/upload", content=BODY)),
            ("stream, HTTP/1.1", 1.0, lambda: self._stream(h1)),
            ("stream, HTTP/2", 1.0, lambda: self._stream(h2)),
        ]

    async def _repeat(self, kind: str, pause: float, request: Callable[[], Awaitable[httpx.Response]]) -> None:
        """One request every ``pause`` seconds, whether or not the one before has ended."""
        running: set[asyncio.Task[None]] = set()
        while not self._stop.is_set():
            task = asyncio.create_task(self._count(kind, request))
            running.add(task)
            task.add_done_callback(running.discard)
            await asyncio.sleep(pause)
        await asyncio.gather(*running)

    async def _count(self, kind: str, request: Callable[[], Awaitable[httpx.Response]]) -> None:
        self.total += 1
        began, clock = f"{datetime.now():%H:%M:%S.%f} {kind}", time.monotonic()
        try:
            response = await request()
        except httpx.HTTPError as error:
            self.failures.append(f"{began}: {type(error).__name__} {error}")
            return
        self.seconds.setdefault(kind, []).append(time.monotonic() - clock)
        if response.status_code != 200:
            self.failures.append(f"{began}: HTTP {response.status_code}")
        elif response.url.path == "/api/info":
            self.releases.append(str(response.json().get("release", "")))

    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, content: bytes | None = None
    ) -> httpx.Response:
        return await client.request(method, path, content=content)

    async def _fresh(self) -> httpx.Response:
        async with self._client() as client:
            return await self._ask(client, "GET", "/api/info")

    async def _stream(self, client: httpx.AsyncClient) -> httpx.Response:
        response = await self._ask(client, "GET", STREAM)
        if LAST_CHUNK not in response.text:
            raise httpx.RemoteProtocolError(f"the stream ended after {len(response.text)} characters")
        return response

    def _client(self, *, http2: bool = False) -> httpx.AsyncClient:
        """A client that finds the domain at the machine's address, and trusts its self-signed certificate."""
        transport = _Here(self.address, self.domain, verify=False, http2=http2)
        return httpx.AsyncClient(transport=transport, base_url=f"https://{self.domain}", timeout=30)


@dataclass
class Crowd(Visitors):
    """About 70 requests a second over pages (ISR), route handlers, database queries, files, streams and POSTs."""

    def _kinds(self, h1: httpx.AsyncClient, h2: httpx.AsyncClient) -> list[Kind]:
        return [
            *super()._kinds(h1, h2),
            ("page, HTTP/1.1", 0.1, lambda: self._ask(h1, "GET", "/products/1")),
            ("page, HTTP/2", 0.1, lambda: self._ask(h2, "GET", "/flash-sale")),
            ("page made on demand", 0.2, lambda: self._ask(h2, "GET", f"/products/{100 + self.total % 900}")),
            ("page over fetch", 0.2, lambda: self._ask(h1, "GET", "/prices/5")),
            ("database", 0.2, lambda: self._ask(h1, "GET", "/api/stock")),
            ("file", 0.2, lambda: self._ask(h2, "GET", "/images/gauge.png")),
        ]

    def by_kind(self) -> dict[str, int]:
        """Failed requests, by kind."""
        kinds = [failure.split(" ", 1)[1].partition(":")[0] for failure in self.failures]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def slowest(self, *kinds: str) -> float:
        """The longest answer in seconds of these kinds, or of all but the streams."""
        wanted = kinds or [kind for kind in self.seconds if not kind.startswith("stream")]
        return max((max(self.seconds.get(kind, [0.0])) for kind in wanted), default=0.0)


class _Here(httpx.AsyncHTTPTransport):
    """Connects to ``address`` for ``domain``: name of the certificate and Host header stay those of the domain."""

    def __init__(self, address: str, domain: str, **options: bool) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._address, self._domain = address, domain

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host=self._address)
        request.headers["host"] = self._domain
        request.extensions["sni_hostname"] = self._domain
        return await super().handle_async_request(request)
