"""Where the app's database is, and as whom one logs in to it: a server of the stack, or one of the user's own."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from .peers import PORTS, serving
from .postgres import database_name, owner_name

if TYPE_CHECKING:
    from .context import Context

TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Endpoint:
    """A database as a client sees it. ``tls`` is a libpq sslmode."""

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)
    tls: str = "prefer"
    more: tuple[tuple[str, str], ...] = ()
    """Other parameters of a URL of the user's own, such as Prisma's ``schema``."""


def endpoint(ctx: "Context", seen_from: str, *, owner: bool = False) -> Endpoint:
    """The database as the host ``seen_from`` reaches it, for the app's user or, with ``owner``, for migrations.

    A server of the user's own has one user for both: the one in the secret ``database_url``. Raises
    ValueError when that is no such URL, or when no host has the role database.
    """
    if ctx.inventory.postgres.external:
        return parse(ctx.secret("database_url"))
    host = serving(ctx, "database")
    local = host == seen_from
    return Endpoint(
        host="127.0.0.1" if local else ctx.inventory.hosts[host].inside,
        port=PORTS["database"][0],
        name=database_name(ctx),
        user=owner_name(ctx) if owner else database_name(ctx),
        password=ctx.secret("postgres_owner_password" if owner else "postgres_app_password"),
        tls="disable" if local else "require",
    )


def parse(url: str) -> Endpoint:
    """The parts of a URL such as ``postgresql://user:password@host:port/name?sslmode=require``.

    Raises ValueError, which holds none of them.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        parts, port = urlsplit(""), 0
    name, mode = unquote(parts.path.lstrip("/")), parse_qs(parts.query).get("sslmode", ["prefer"])[0]
    if parts.scheme not in ("postgres", "postgresql") or not (
        parts.hostname and parts.username and parts.password and name
    ):
        raise ValueError(
            "secret database_url: is not a URL such as postgresql://user:password@db.example.com:5432/shop. "
            "Set it: provision secrets set database_url"
        )
    if mode not in TLS_MODES:
        raise ValueError(f"secret database_url: sslmode '{mode}' is not one of {', '.join(TLS_MODES)}")
    more = tuple((key, value) for key, value in parse_qsl(parts.query) if key != "sslmode")
    return Endpoint(parts.hostname, port, name, unquote(parts.username), unquote(parts.password), mode, more)
