"""Maintenance: nginx answers 503 with a page while there is a flag file, and lets some networks in all the same."""

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from .files import write_file, write_template
from .model import Settings

if TYPE_CHECKING:
    from roadbed.engine.inventory import Inventory

    from .context import Context

FLAG = "maintenance"
"""File in the folder ``app.route``: nginx looks for it with every request that goes to the app."""
OWN_PAGE = "maintenance.html"
"""File in the folder ``app.route``: the page of this one time, in the place of ``PAGE``."""
PAGE = "/usr/local/share/roadbed/maintenance.html"
LOOPBACK = ("127.0.0.0/8", "::1/128")
"""Always let in: a rollout and the checks ask nginx from the host itself."""
MOST_BYTES = 1 << 20
"""Largest page: more is a mistake, and styles and pictures can come from ``public``, which is served all the time."""


class MaintenanceSettings(Settings):
    """What visitors see while maintenance is on."""

    page: Path | None = Field(None, description="HTML file on the control machine. Default: a plain page of Roadbed's.")
    allow: tuple[str, ...] = Field((), description="Networks that get the site all the same: your team, a balancer.")
    retry_after: int = Field(
        300, ge=1, le=86400, description="Seconds after which browsers and crawlers may ask again."
    )

    @field_validator("allow")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(network(text) for text in value)


def network(text: str) -> str:
    """``text`` itself. Raises ValueError when it is not a network or an address."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a network. Write one, such as 198.51.100.0/24") from None
    return text


def values(settings: MaintenanceSettings) -> dict[str, Any]:
    """What the template of nginx.conf is given about maintenance."""
    return {
        "flag": FLAG,
        "own_page": OWN_PAGE,
        "page": PAGE,
        "allow": dict.fromkeys((*LOOPBACK, *settings.allow)),
        "retry_after": settings.retry_after,
    }


def read_page(place: str, path: Path) -> bytes:
    """The page in a file. Raises ValueError, beginning with ``place``, for one that cannot be shown."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{place}: {path} cannot be read: {error.strerror}. Name an HTML file") from None
    if not data.strip():
        raise ValueError(f"{place}: {path} is empty. Name an HTML file, or leave it out for a plain page")
    if len(data) > MOST_BYTES:
        raise ValueError(f"{place}: {path} has {len(data)} bytes, and at most {MOST_BYTES} are shown. Make it smaller")
    return data


def own_page(inventory: "Inventory") -> bytes | None:
    """The page that the inventory names, None for Roadbed's own. Raises ValueError when it cannot be shown."""
    page = inventory.nginx.maintenance.page
    if page is None:
        return None
    return read_page("nginx/maintenance/page", inventory.path.parent / page.expanduser())


def write_page(ctx: "Context") -> None:
    """Puts the page on a web host, so that the flag alone switches."""
    own = own_page(ctx.inventory)
    if own is None:
        write_template("nginx", PAGE, ctx)
    else:
        write_file(name=f"Write {PAGE}", dest=PAGE, content=own)
