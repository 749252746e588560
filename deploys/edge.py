"""Edge: what nginx answers by itself. Pages for seconds, images until they end; flag files switch both."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pyinfra import context
from pyinfra.api.facts import FactBase
from pyinfra.operations import files

from .model import Settings

if TYPE_CHECKING:
    from .context import Context

ROLES = ("web",)
NEEDS = ("nginx",)
FLAGS = {"pages": "edge.pages", "images": "edge.images"}
"""Files in the folder ``app.route``: nginx looks at them with every request, so a switch takes no reload."""
PAGE_SECONDS = 5
"""Seconds after which a page is gone, whatever happens: see docs/adr/0006. It is fresh for 1 s; then it is made anew
while visitors still get the old one. The template cuts the time of a request to this, by its last digit."""
STORAGE = "/var/cache/nginx"
IMAGES = f"{STORAGE}/images"
PAGES = f"{STORAGE}/pages"
"""On disk and not in /run: nginx looks at their size only every few seconds, and a full /run would stop the host."""
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
MIN_FREE_SINCE = (1, 20)
"""nginx has min_free= since 1.19.1."""


class EdgeSettings(Settings):
    """What nginx answers without asking the app, from phase2 on."""

    pages: bool = Field(True, description="Keep pages that declare s-maxage for a second.")
    images: bool = Field(True, description="Keep resized images.")
    guarded: bool = Field(
        False, description="Keep also pages that middleware (proxy.ts) or conditions on headers decide about."
    )
    storage: str = Field("1g", pattern=r"^[1-9][0-9]*[mg]$", description="Most that kept images may take on disk.")


class Resolvers(FactBase[list[str]]):
    """Name servers of the host, as nginx writes addresses. Those with a zone it cannot use."""

    def command(self) -> str:
        return "sed -n 's/^nameserver[[:space:]]*//p' /etc/resolv.conf"

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: list[str]) -> list[str]:
        addresses = [line.split()[0] for line in output if line.split() and "%" not in line]
        return [f"[{address}]" if ":" in address else address for address in addresses]


def on(ctx: "Context", what: str) -> bool:
    """Whether ``pages`` or ``images`` are kept on the web hosts of this stack, in this phase."""
    return ctx.reached("phase2") and bool(getattr(ctx.inventory.edge, what))


def values(ctx: "Context", version: tuple[int, int], resolvers: Sequence[str]) -> dict[str, Any]:
    """What the template of nginx.conf is given about the edge: the same in every phase."""
    service = ctx.inventory.app.images.parts()
    return {
        "flags": FLAGS,
        "images_path": IMAGES,
        "pages_path": PAGES,
        "page_seconds": PAGE_SECONDS,
        "storage": ctx.inventory.edge.storage,
        "min_free": " min_free=512m" if version >= MIN_FREE_SINCE else "",
        "service": service,
        "authorities": AUTHORITIES,
        "resolvers": resolvers,
        "longer": more_than(ctx.inventory.app.cdn.page_seconds or 0),
    }


def more_than(number: int) -> str:
    """A regular expression for the whole numbers above ``number``, without zeros in front: nginx cannot compare."""
    digits = str(number)
    same = [
        f"{digits[:place]}[{int(digit) + 1}-9][0-9]{{{len(digits) - place - 1}}}"
        for place, digit in enumerate(digits)
        if digit != "9"
    ]
    return f"(?:{'|'.join([f'[1-9][0-9]{{{len(digits)},}}', *same])})"


def name_servers(ctx: "Context") -> list[str]:
    """The name servers by which nginx finds the image service; none are needed for an address, or without one.

    nginx refuses to start when a name in its configuration cannot be resolved, so it is told to ask at run time.
    Raises ValueError when the host has none.
    """
    service = ctx.inventory.app.images.parts()
    if service is None or service.is_address:
        return []
    found: list[str] = context.host.get_fact(Resolvers)
    if not found:
        raise ValueError(
            f"app/images/service: {ctx.name} has no name server in /etc/resolv.conf, so nginx cannot find "
            f"{service.host}. Add one, or write the address of the service"
        )
    return found


def switch(ctx: "Context") -> None:
    """Puts or removes the flags as settings and phase have it."""
    for what, flag in FLAGS.items():
        wanted = on(ctx, what)
        files.file(
            name=f"Switch the cache of {what} {'on' if wanted else 'off'}",
            path=f"{ctx.inventory.app.route}/{flag}",
            present=wanted,
            mode="644" if wanted else None,
            user="root" if wanted else None,
            group="root" if wanted else None,
        )


def deploy(ctx: "Context") -> None:
    """Switches the caches on, or off. nginx has them in its configuration from the start, and is not reloaded."""
    switch(ctx)
