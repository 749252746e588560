"""Nginx: TLS, streaming, static files from disk, and the slot switch by flag files."""

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator
from pyinfra import context
from pyinfra.api.facts import FactBase
from pyinfra.operations import apt, files, systemd

from . import access_log, canary, edge, maintenance, skew
from .app import SLOTS
from .certificates import AUTHORITY, DEPLOY_HOOK, SITE, WEBROOT, TlsSettings, acme, own_files, read_pem, self_signed
from .environment import app_address
from .files import DAEMON_RELOAD, settle, write_file, write_template
from .maintenance import MaintenanceSettings
from .model import Settings
from .nginx_reload import RELOAD

if TYPE_CHECKING:
    from .context import Context

ROLES = ("web",)
NEEDS = ("base", "app")
CONFIG = "/etc/nginx/nginx.conf"
DROP_IN = "/etc/systemd/system/nginx.service.d/roadbed.conf"
CERTBOT_DROP_IN = "/etc/systemd/system/certbot.service.d/roadbed.conf"
DRAIN = "/run/roadbed/drain"
"""Flag file: while it is there, nginx keeps no connection to the app after an answer. See releases/drain.py."""
UNAVAILABLE = "/usr/local/share/roadbed/unavailable.html"
RESTART = "nginx-restart"
"""Debt of a changed sandbox: a reload does not apply it."""
VERSIONS = {"jammy": (1, 18), "bookworm": (1, 22), "noble": (1, 24)}
"""nginx of the supported suites; everything newer has at least 1.26."""
CONNECT_SECONDS, ALONE_CONNECT_SECONDS = 1, 3
"""Longest wait for a connection. A lost packet is sent again after 1 s (RFC 6298): where there is another host,
asking that one is as quick; where there is none, one packet must not cost the request."""


class LimitSettings(Settings):
    """What one client address may do. The host itself (loopback) is not limited."""

    enabled: bool = Field(True, description="Switches all limits on or off.")
    requests: int = Field(50, ge=1, description="Requests a second to the app, static files not counted.")
    burst: int = Field(200, ge=0, description="Requests at once above that rate before 429 is answered.")
    connections: int = Field(256, ge=1, description="Requests at the same time; every stream of HTTP/2 is one.")


class NginxSettings(Settings):
    """The web server in front of the app."""

    tls: TlsSettings = Field(TlsSettings(), description="Where the certificate comes from.")
    hsts: int | Literal["off"] = Field("off", description="Seconds browsers insist on HTTPS; 63072000 once sure.")
    body: str = Field("10m", pattern=r"^[0-9]+[kmg]?$", description="Largest request body (client_max_body_size).")
    read_timeout: int = Field(60, ge=1, le=86400, description="Longest silence of the app within an answer in seconds.")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Networks whose X-Forwarded-For is believed: CDN, balancer."
    )
    limits: LimitSettings = Field(LimitSettings(), description="What one client address may do.")
    maintenance: MaintenanceSettings = Field(
        MaintenanceSettings(), description="What visitors see while maintenance is on."
    )
    brotli: bool = Field(True, description="Compress with brotli too, where Debian has the module.")
    public_from_disk: bool = Field(True, description="Serve the release's public files without asking the app.")
    debug_headers: bool = Field(False, description="Show clients X-Roadbed-Release and X-Roadbed-Instance.")

    @field_validator("hsts", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        """YAML reads ``off`` as false."""
        return "off" if value is False else value

    @field_validator("hsts")
    @classmethod
    def _not_negative(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{value} is below 0. Write off, or seconds such as 63072000")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"'{network}' is not a network. Write one, such as 198.51.100.0/24") from None
        return value


class HasIPv6(FactBase[bool]):
    """Whether the kernel speaks IPv6: without it nginx could not listen on [::]."""

    def command(self) -> str:
        return "test -e /proc/net/if_inet6 && echo yes; true"

    def process(self, output: list[str]) -> bool:
        return "yes" in output


def encodings(ctx: "Context") -> tuple[str, ...]:
    """Content encodings nginx applies on this host, the preferred one last."""
    has_brotli = ctx.inventory.nginx.brotli and ctx.me.codename != "jammy"
    return ("gzip", "br") if has_brotli else ("gzip",)


def upstreams(ctx: "Context") -> dict[str, list[str]]:
    """Upstream groups and their servers: all instances of each slot, and the groups for kept releases (skew.py).

    The groups are fixed, so a rollout never edits nginx.
    """
    app, slots, first = ctx.inventory.app, {}, {}
    for slot in SLOTS:
        ports = {host: app.ports(slot, ctx.sizing(host).replicas) for host in ctx.app_hosts()}
        servers = {host: [_server(app_address(ctx, host), port) for port in ports[host]] for host in ports}
        slots[slot] = [server for host in servers for server in servers[host]]
        first[slot] = [servers[host][0] for host in servers]
    return {f"{app.name}_{slot}": slots[slot] for slot in SLOTS} | skew.upstreams(app.name, slots, first)


def _server(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def values(ctx: "Context", ipv6: bool, resolvers: Sequence[str] = ()) -> dict[str, Any]:
    """What the template of nginx.conf is given besides the inventory."""
    inventory, version = ctx.inventory, VERSIONS.get(ctx.me.codename, (1, 26))
    peers = [inventory.hosts[host].inside for host in inventory.with_role("web") if host != ctx.name]
    return {
        "slots": SLOTS,
        "upstreams": upstreams(ctx),
        "connect_timeout": CONNECT_SECONDS if len(ctx.app_hosts()) > 1 else ALONE_CONNECT_SECONDS,
        "retry_seconds": max(10, inventory.health.longest + 4),
        "edge": edge.values(ctx, version, resolvers),
        "encodings": encodings(ctx),
        "site": SITE,
        "webroot": WEBROOT,
        "unavailable": UNAVAILABLE,
        "drain": DRAIN,
        "addresses": ["", "[::]:"] if ipv6 else [""],
        "http2_directive": version >= (1, 26),
        "reject_handshake": version >= (1, 20),
        "peers": [_server(peer, 80) for peer in peers],
        "log_fields": access_log.FIELDS,
        "log_numbers": access_log.NUMBERS,
        "share": canary.VALUES,
        "maintenance": maintenance.values(inventory.nginx.maintenance),
    }


def deploy(ctx: "Context") -> None:
    """nginx with its certificate. A bad configuration never replaces a good one: ``nginx -t`` sees it first."""
    app, settings = ctx.inventory.app, ctx.inventory.nginx
    wanted = ["nginx", "openssl", "curl"]
    wanted += ["libnginx-mod-http-brotli-filter"] if "br" in encodings(ctx) else []
    wanted += ["certbot"] if settings.tls.mode == "acme" else []
    wanted += ["ca-certificates"] if app.images.service else []
    apt.packages(name="Install nginx", packages=wanted, no_recommends=True)

    for path in (app.root, f"{app.root}/static", app.route.rpartition("/")[0], app.route, WEBROOT, edge.STORAGE):
        files.directory(name=f"Create {path}", path=path, mode="755", user="root", group="root")
    files.directory(name="Create /etc/nginx/tls", path="/etc/nginx/tls", mode="700", user="root", group="root")
    files.directory(name="Create /etc/nginx/roadbed.d", path="/etc/nginx/roadbed.d", mode="755")
    _first_certificate(ctx)

    write_template("nginx", UNAVAILABLE, ctx)
    maintenance.write_page(ctx)
    write_template("nginx", DROP_IN, ctx, debts=(DAEMON_RELOAD, RESTART))
    rest = values(ctx, context.host.get_fact(HasIPv6), edge.name_servers(ctx))
    write_template("nginx", CONFIG, ctx, values=rest, validate="nginx -t -q -c {file}", debts=("nginx",))
    settle(name="Have systemd read its units", debt=DAEMON_RELOAD)
    systemd.service(name="Start nginx now and at boot", service="nginx.service", running=True, enabled=True)
    skew.remove_flags_in_time(ctx)
    answers = f"curl -ksS -o /dev/null -m 5 --resolve {app.domain}:443:127.0.0.1 https://{app.domain}/.roadbed/unavailable.html"
    settle(
        name="Restart nginx in its new sandbox",
        debt=RESTART,
        command="nginx -t -q && systemctl restart nginx",
        healthy=answers,
    )
    settle(
        name="Reload nginx on new settings",
        debt="nginx",
        command=RELOAD,
        healthy=answers,
    )
    _certificate_of_the_authority(ctx)
    if not ctx.reached("phase2"):
        edge.switch(ctx)  # off, where a later phase had switched it on


def _first_certificate(ctx: "Context") -> None:
    """What nginx can start with: the final certificate, or a placeholder until the authority can ask nginx."""
    tls, names = ctx.inventory.nginx.tls, (ctx.inventory.app.domain, *ctx.inventory.app.aliases)
    if tls.mode == "files":
        write_file(
            name="Write the certificate",
            dest=SITE,
            content=own_files(ctx.inventory),
            mode="600",
            validate="openssl x509 -in {file} -noout -checkend 0",
            debts=("nginx",),
        )
        return
    placeholder = tls.mode == "acme"
    title = "Make a placeholder certificate" if placeholder else "Make a self-signed certificate"
    self_signed(name=title, names=names, placeholder=placeholder)


def _certificate_of_the_authority(ctx: "Context") -> None:
    """With mode acme: the real certificate, and its renewal. Otherwise no hook may replace the user's own."""
    app, tls = ctx.inventory.app, ctx.inventory.nginx.tls
    if tls.mode != "acme":
        files.file(name="Remove the renewal hook", path=DEPLOY_HOOK, present=False)
        return
    if tls.authority:
        content = read_pem(ctx.inventory, "nginx/tls/authority", tls.authority)
        files.directory(name="Create /etc/roadbed", path="/etc/roadbed", mode="755", user="root", group="root")
        write_file(name="Write the private authority", dest=AUTHORITY, content=content)
        values = {"authority": AUTHORITY}
        write_template("nginx", CERTBOT_DROP_IN, ctx, values=values, debts=(DAEMON_RELOAD,))
    else:
        files.file(name="Trust public authorities alone", path=CERTBOT_DROP_IN, present=False)
    settle(name="Have systemd read its units", debt=DAEMON_RELOAD)
    hook = {"site": SITE, "reload": RELOAD}
    write_template("nginx", DEPLOY_HOOK, ctx, values=hook, mode="755", validate="sh -n {file}")
    acme(name="Get the certificate", certificate=app.name, names=(app.domain, *app.aliases), tls=tls)
