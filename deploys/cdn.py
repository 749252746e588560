"""CDN and image service: what the app's settings say of them, and what the instances are told."""

import ipaddress
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from .edge import PAGE_SECONDS
from .model import Settings

if TYPE_CHECKING:
    from .context import Context

HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
URL = rf"^https?://({HOST}|\[[0-9A-Fa-f:]+\])(:[0-9]{{1,5}})?(/[A-Za-z0-9._~/-]*)?$"
"""A plain URL: neither user nor query, and nothing that nginx would take for a variable."""
FLUSH_SECONDS = 15
"""Longest time that a stopping instance needs for its last call: see runtime/cache/purge.cjs."""


@dataclass(frozen=True)
class ServiceParts:
    """The URL of an image service, as nginx needs it."""

    scheme: str
    host: str
    port: int | None
    path: str

    @property
    def netloc(self) -> str:
        """Host and port as in a URL, for the Host header."""
        return self.address + (f":{self.port}" if self.port else "")

    @property
    def address(self) -> str:
        """The host as in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def is_address(self) -> bool:
        """Whether no name server is needed."""
        try:
            return bool(ipaddress.ip_address(self.host))
        except ValueError:
            return False


class ImagesSettings(Settings):
    """Who resizes images."""

    service: str | None = Field(
        None, pattern=URL, description="URL of a service that answers /_next/image instead of the app."
    )

    @field_validator("service")
    @classmethod
    def _has_a_good_port(cls, value: str | None) -> str | None:
        return _checked(value)

    def parts(self) -> ServiceParts | None:
        """The URL in parts; None when the app resizes images itself."""
        if self.service is None:
            return None
        url = urlsplit(self.service)
        return ServiceParts(url.scheme, url.hostname or "", url.port, url.path or "/")


class PurgeSettings(Settings):
    """Whom an instance tells what it has revalidated, so that a CDN forgets it."""

    url: str | None = Field(None, pattern=r"^https?://\S+$", description="Gets a POST with JSON. Or use command.")
    command: tuple[str, ...] = Field((), description="Program on the app hosts and its arguments; gets JSON on stdin.")
    secret: str | None = Field(None, description="Name of a stored secret: bearer token, or ROADBED_PURGE_TOKEN.")
    interval: int = Field(1, ge=1, le=3600, description="Least seconds between two calls of one instance.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.url and self.command:
            raise ValueError("url and command: an instance tells one of them. Remove the other")
        if self.command and not self.command[0].startswith("/"):
            raise ValueError(f"command: '{self.command[0]}' is not an absolute path. Write one, such as /usr/bin/curl")
        return self

    @field_validator("url")
    @classmethod
    def _is_whole(cls, value: str | None) -> str | None:
        url = _checked(value)
        if url and (urlsplit(url).username or not urlsplit(url).hostname):
            raise ValueError("needs a host and no user: the URL is not kept secret. Put the token into secret")
        return url


class CdnSettings(Settings):
    """What a CDN in front of the site needs. The networks it comes from are nginx.trusted_proxies."""

    asset_prefix: str | None = Field(
        None, pattern=URL, description="URL from which browsers load /_next/static, built into the release."
    )
    page_seconds: int | None = Field(
        None, ge=1, le=31536000, description="Longest time a CDN keeps a page. Default: what Next.js says, s-maxage."
    )
    purge: PurgeSettings = Field(PurgeSettings(), description="Told what was revalidated.")

    @field_validator("asset_prefix")
    @classmethod
    def _has_no_slash(cls, value: str | None) -> str | None:
        url = _checked(value)
        if url and url.endswith("/"):
            raise ValueError(f"'{url}' ends with a slash, and Next.js adds one. Remove it")
        return url


def _checked(url: str | None) -> str | None:
    """The URL itself. Raises ValueError for a port that cannot be."""
    if url is not None:
        try:
            assert urlsplit(url).port != 0
        except (ValueError, AssertionError):
            raise ValueError(f"'{url}' has a port outside 1-65535") from None
    return url


def purge_environment(ctx: "Context") -> dict[str, str]:
    """What the instances are told of the purge hook: nothing when there is none.

    A CDN that asks again at once must not get what the edge still has, so the call waits that long: whether the
    edge is switched on or not, because a switch must not restart the instances.
    Raises KeyError for a secret that is not stored.
    """
    purge = ctx.inventory.app.cdn.purge
    if not purge.url and not purge.command:
        return {}
    told = {
        "ROADBED_APP": ctx.inventory.app.name,
        "ROADBED_PURGE_WAIT_SECONDS": str(PAGE_SECONDS),
        "ROADBED_PURGE_INTERVAL_SECONDS": str(purge.interval),
    }
    told |= {"ROADBED_PURGE_URL": purge.url} if purge.url else {"ROADBED_PURGE_COMMAND": json.dumps(purge.command)}
    return told | ({"ROADBED_PURGE_TOKEN": ctx.secret(purge.secret)} if purge.secret else {})


def stop_margin(ctx: "Context") -> int:
    """Seconds that an instance may need to make its last call, after its last request."""
    purge = ctx.inventory.app.cdn.purge
    return FLUSH_SECONDS if purge.url or purge.command else 0
