"""Images of the running release through nginx: which there are, and how often one was resized in the whole fleet."""

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import quote

import httpx
from testinfra.host import Host

from roadbed.checks.web import LOG, client, sni
from roadbed.deploys.context import Context

WIDTHS = (640, 828, 1080, 384, 750, 1200, 256, 1920, 128, 96, 64, 48)
"""Among the widths that Next.js allows unless a project says otherwise (images.deviceSizes and imageSizes)."""
QUALITY = 75
"""The one quality that Next.js 16 allows by default."""
LEAST_BYTES = 4096
ACCEPT = ("image/webp,*/*", "image/avif,image/webp,*/*", "*/*")
SETTLE_SECONDS = 2
"""Within this time an instance has written a new image to disk, and nginx its log."""


@dataclass(frozen=True)
class Variant:
    """One image in one size, and the formats that the browser takes."""

    path: str
    accept: str


@dataclass(frozen=True)
class Work:
    """What became of many equal requests: which instances ran Sharp, which files that left, what was not answered."""

    variant: Variant
    instances: set[str]
    files: int
    refused: int


def kept_here(ctx: Context) -> bool:
    """Whether this web host keeps images of the app's own, and the release has some."""
    edge, images = ctx.inventory.edge, ctx.inventory.app.images
    return ctx.reached("phase2") and edge.images and images.service is None and bool(sources(ctx))


def sources(ctx: Context) -> list[str]:
    """URL paths of the release's photographs: in public, and imported ones with a hash in their name."""
    manifest = ctx.manifest
    if not manifest:
        return []
    folders = {
        f"app/{manifest['server']}/public/".replace("//", "/"): "/",
        f"app/{manifest['server']}/{manifest['dist']}/static/media/".replace("//", "/"): "/_next/static/media/",
    }
    return [
        manifest["base_path"] + url + path.removeprefix(folder)
        for path, entry in manifest["files"].items()
        for folder, url in folders.items()
        if path.startswith(folder) and path.endswith((".jpg", ".jpeg", ".png")) and entry["size"] >= LEAST_BYTES
    ]


def variants(ctx: Context) -> Iterator[Variant]:
    """Variants of all photographs, in an order of their own for each moment: the first ones are likely new."""
    base, found = ctx.manifest["base_path"], sources(ctx)
    combined = [(width, accept, source) for width, accept in itertools.product(WIDTHS, ACCEPT) for source in found]
    begin = int(time.time()) % max(1, len(combined))
    for width, accept, source in combined[begin:] + combined[:begin]:
        yield Variant(f"{base}/_next/image?url={quote(source, safe='')}&w={width}&q={QUALITY}", accept)


def served(ctx: Context) -> Variant | None:
    """A variant that the app makes; None for an app that resizes no images of its own."""
    tried = itertools.islice(variants(ctx), 3 * len(sources(ctx)))
    with client(ctx) as session:
        for variant in tried:
            answer = session.get(variant.path, headers={"Accept": variant.accept}, extensions=sni(ctx))
            if answer.status_code == 200:
                return variant
    return None


def files_made(ctx: Context, hosts: Mapping[str, Host]) -> int:
    """How many variants the app hosts have on disk: one file each."""
    app = ctx.inventory.app.name
    count = f"find /var/cache/{app} -mindepth 1 -path '*/cache/images/*' -type f | wc -l"
    return sum(int(hosts[name].check_output(count)) for name in ctx.inventory.with_role("app"))


def ask_everywhere(contexts: list[Context], hosts: Mapping[str, Host], variant: Variant, times: int) -> Work:
    """Asks every web host ``times`` at once for a variant.

    An instance resizes once what it is asked for at the same time, and says MISS; from then on its host has the
    file. So the instances that said MISS, as the access logs have it, are the runs of Sharp.
    """
    before = files_made(contexts[0], hosts)
    with ThreadPoolExecutor(len(contexts) * times) as pool, ExitStack() as stack:
        sessions = [stack.enter_context(client(ctx, http2=True)) for ctx in contexts]
        asked = [
            (ctx.name, pool.submit(_ask, session, ctx, variant))
            for ctx, session in zip(contexts, sessions, strict=True)
            for _ in range(times)
        ]
        answers = [(name, task.result()) for name, task in asked]
    time.sleep(SETTLE_SECONDS)
    ids = {name: {one.headers["x-request-id"] for web, one in answers if web == name} for name, _ in answers}
    instances = set().union(*(_resized(hosts[name], name, ids[name]) for name in ids))
    refused = sum(answer.status_code != 200 for _, answer in answers)
    return Work(variant, instances, files_made(contexts[0], hosts) - before, refused)


def _ask(session: httpx.Client, ctx: Context, variant: Variant) -> httpx.Response:
    return session.get(variant.path, headers={"Accept": variant.accept}, extensions=sni(ctx))


def _resized(host: Host, name: str, ids: set[str]) -> set[str]:
    """The instances that this web host has got a new image from, for these requests."""
    lines = host.check_output(f"tail -n 5000 {LOG} | grep -F '/_next/image' || true").splitlines()
    found = [line for line in map(json.loads, lines) if line["request_id"] in ids and line["upstream"]]
    made = {str(line["upstream"]).rpartition(", ")[2] for line in found if line["cache"] == "MISS"}
    return {f"{name} {address}" if address.startswith("127.") else address for address in made}
