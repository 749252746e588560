"""Ask nginx from outside, as a browser would: by the host's own address, under the app's name."""

import json
import shlex
import socket
import ssl
from typing import Any

import httpx
from testinfra.host import Host

from roadbed.deploys.certificates import read_pem
from roadbed.deploys.context import Context

LOG = "/var/log/nginx/access.log"
HTML_BYTES = 512
"""Smallest page worth compressing in a check; nginx leaves answers below 256 bytes alone."""


def verify(ctx: Context) -> ssl.SSLContext | bool:
    """How the site's certificate is verified: not at all when self-signed, else by the authorities."""
    tls = ctx.inventory.nginx.tls
    if tls.authority is not None:
        pem = read_pem(ctx.inventory, "nginx/tls/authority", tls.authority).decode()
        return ssl.create_default_context(cadata=pem)
    return tls.mode != "self-signed"


def client(ctx: Context, *, http2: bool = False) -> httpx.Client:
    """A client of one version of HTTP that connects to this host and no other."""
    return httpx.Client(
        base_url=f"https://{url_host(ctx.host.address)}",
        headers={"Host": ctx.inventory.app.domain},
        verify=verify(ctx),
        http1=not http2,
        http2=http2,
        timeout=30,
        trust_env=False,
    )


def sni(ctx: Context) -> dict[str, Any]:
    """The ``extensions`` of a request that ask for the app's certificate."""
    return {"sni_hostname": ctx.inventory.app.domain}


def get(ctx: Context, path: str, headers: dict[str, str] | None = None, *, http2: bool = False) -> httpx.Response:
    """One GET on a connection of its own."""
    with client(ctx, http2=http2) as session:
        return session.get(path, headers=headers, extensions=sni(ctx))


def page(ctx: Context, headers: dict[str, str] | None = None) -> httpx.Response:
    """A page that the app makes: the health path or "/" if that is HTML, else the app's own "not found"."""
    for path in (ctx.inventory.app.health, "/", "/.well-known/roadbed-check"):
        answer = get(ctx, path, headers)
        if answer.headers.get("content-type", "").startswith("text/html") and len(answer.content) >= HTML_BYTES:
            return answer
    raise AssertionError("the app has no HTML page at its health path, at / and for an unknown path")


def static_file(ctx: Context, host: Host) -> str:
    """URL path of a script of the release on this host."""
    folder = f"{ctx.inventory.app.root}/static"
    found = host.check_output(f"find {folder} -name '*.js' -size +1k -printf '%P\\n' | sort | head -n 1").strip()
    assert found, f"{folder} holds no script"
    return f"/_next/static/{found}"


def log_line(host: Host, request_id: str) -> dict[str, Any]:
    """The line of the access log for a request; nginx writes it within a second."""
    wanted = shlex.quote(f'"request_id":"{request_id}"')
    search = f"for i in $(seq 30); do tail -n 20000 {LOG} | grep -F {wanted} && exit 0; sleep 0.1; done; exit 1"
    line: dict[str, Any] = json.loads(host.check_output(search))
    return line


def tls_socket(ctx: Context, context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
    """A TLS connection to this host that asks for the server ``name``. Raises OSError when it is refused."""
    return context.wrap_socket(socket.create_connection((ctx.host.address, 443), timeout=10), server_hostname=name)


def unverified() -> ssl.SSLContext:
    """A TLS context that takes any certificate, for questions about the protocol alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def url_host(address: str) -> str:
    """An address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address
