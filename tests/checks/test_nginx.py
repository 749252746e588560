"""nginx: TLS, protocols, compression, static files, and what it keeps away from the app."""

import http.client
import ssl
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest
from cryptography import x509
from testinfra.host import Host

from roadbed.checks.instances import exposure, show
from roadbed.checks.web import client, get, log_line, page, sni, static_file, tls_socket, unverified, url_host
from roadbed.deploys.context import Context
from roadbed.deploys.nginx import encodings

EXPOSURE_LIMIT = 3.0
"""Debian's own unit scores 9.6. The master binds ports and changes users, so it keeps six capabilities."""
CERTIFICATE_DAYS = 14
"""Days a certificate must still be valid: renewals begin 30 days before the end."""
NO_ANSWER = (httpx.RemoteProtocolError, httpx.ReadError, httpx.ConnectError)
UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def test_configuration(host: Host) -> None:
    """nginx runs, starts at boot, and accepts the configuration on disk."""
    assert host.service("nginx").is_running
    assert host.service("nginx").is_enabled
    host.run_expect([0], "nginx -t -q")


def test_no_debt(host: Host) -> None:
    """No changed setting waits for nginx to take it over."""
    assert not host.file("/var/lib/roadbed/pending/nginx").exists
    assert not host.file("/var/lib/roadbed/pending/nginx-restart").exists


def test_sandbox(host: Host, measure: Callable[..., None]) -> None:
    """nginx runs in a sandbox, its workers as www-data."""
    measure("exposure", exposure(host, "nginx.service"), "points", EXPOSURE_LIMIT)
    workers = host.check_output(f"ps -o user= --ppid {show(host, 'nginx.service', 'MainPID')}").split()
    assert set(workers) == {"www-data"}


@pytest.mark.parametrize(("http2", "version"), [(False, "HTTP/1.1"), (True, "HTTP/2")])
def test_protocols(ctx: Context, http2: bool, version: str) -> None:
    """nginx answers HTTP/1.1 and HTTP/2."""
    answer = get(ctx, ctx.inventory.app.health, http2=http2)
    assert answer.http_version == version
    assert answer.status_code < 400


def test_modern_tls(ctx: Context) -> None:
    """TLS 1.2 and 1.3 are spoken."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = unverified()
        context.minimum_version = context.maximum_version = version
        with tls_socket(ctx, context, ctx.inventory.app.domain) as connection:
            assert connection.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls(ctx: Context) -> None:
    """TLS 1.0 and 1.1 are refused by the server."""
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context = unverified()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with pytest.raises(ssl.SSLError) as refused:
            tls_socket(ctx, context, ctx.inventory.app.domain)
        assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_certificate(ctx: Context, measure: Callable[..., None]) -> None:
    """The certificate covers the domain and its aliases, and does not end soon."""
    with tls_socket(ctx, unverified(), ctx.inventory.app.domain) as connection:
        certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    covered = set(names.get_values_for_type(x509.DNSName))
    for name in (ctx.inventory.app.domain, *ctx.inventory.app.aliases):
        assert covered & {name, f"*.{name.partition('.')[2]}"}, name
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    measure("validity left", left.total_seconds() / 86400, "days", CERTIFICATE_DAYS, at_least=True)


def test_redirect_to_https(ctx: Context) -> None:
    """Plain HTTP is redirected to the same address in HTTPS, method included."""
    app = ctx.inventory.app
    for name in (app.domain, *app.aliases):
        url = f"http://{url_host(ctx.host.address)}/a%20b?c=d"
        answer = httpx.post(url, headers={"Host": name}, timeout=10, trust_env=False)
        assert (answer.status_code, answer.headers["location"]) == (308, f"https://{app.domain}/a%20b?c=d")


def test_unknown_host(ctx: Context) -> None:
    """A request for another name gets no answer: over HTTP, over HTTPS, and on a connection made for the app's name."""
    name, address = "unknown.invalid", url_host(ctx.host.address)
    for url, server in ((f"http://{address}/", name), (f"https://{address}/", name), (f"https://{address}/", None)):
        wanted = {"sni_hostname": server} if server else sni(ctx)
        with client(ctx) as session, pytest.raises(NO_ANSWER):
            session.get(url, headers={"Host": name}, extensions=wanted)


def test_static_from_disk(host: Host, ctx: Context) -> None:
    """Hashed files come from disk, without the app, and may be kept for a year."""
    answer = get(ctx, static_file(ctx, host))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith(("application/javascript", "text/javascript"))
    assert log_line(host, answer.headers["x-request-id"])["upstream"] == ""


def test_compression(host: Host, ctx: Context) -> None:
    """Pages and scripts are compressed in every encoding nginx offers, and plain when none is asked for."""
    script = static_file(ctx, host)
    for encoding in encodings(ctx):
        for answer in (page(ctx, {"Accept-Encoding": encoding}), get(ctx, script, {"Accept-Encoding": encoding})):
            assert answer.headers.get("content-encoding") == encoding, answer.url
            assert "accept-encoding" in answer.headers["vary"].lower()
    assert "content-encoding" not in page(ctx, {"Accept-Encoding": "identity"}).headers


def test_best_encoding(ctx: Context) -> None:
    """A browser, which takes all of them, gets the best encoding."""
    assert page(ctx, {"Accept-Encoding": "gzip, deflate, br, zstd"}).headers["content-encoding"] == encodings(ctx)[-1]


def test_internal_paths(ctx: Context) -> None:
    """Paths of the stack itself are not reachable from outside."""
    for path in ("/.roadbed/health", "/.roadbed/live", "/.roadbed/unavailable.html", "/.roadbed/"):
        assert get(ctx, path).status_code == 404, path


def test_internal_headers(ctx: Context) -> None:
    """Clients learn neither nginx's version nor, unless asked for, the names of release and instance."""
    headers = page(ctx).headers
    assert headers["server"] == "nginx"
    assert ("x-roadbed-release" in headers) == ctx.inventory.nginx.debug_headers
    assert ("x-roadbed-instance" in headers) == ctx.inventory.nginx.debug_headers


def test_request_id(ctx: Context) -> None:
    """Every answer has a request id of its own; one a client brings is not believed."""
    forged = "forged-0123456789"
    ids = [get(ctx, ctx.inventory.app.health, {"X-Request-Id": forged}).headers["x-request-id"] for _ in range(2)]
    assert len({*ids, forged}) == 3


def test_access_log(host: Host, ctx: Context) -> None:
    """The access log is one JSON object a request: request id, upstream, times; no query, no believed address."""
    answer = get(ctx, f"{ctx.inventory.app.health}?token=roadbed-check", {"X-Forwarded-For": "203.0.113.99"})
    line = log_line(host, answer.headers["x-request-id"])
    assert (line["status"], line["path"]) == (answer.status_code, ctx.inventory.app.health)
    assert line["upstream_status"] == str(answer.status_code)
    assert line["release"]
    assert float(line["upstream_response_time"]) <= line["seconds"] + 0.01
    assert line["client"] != "203.0.113.99"
    assert "roadbed-check" not in str(line)


def test_body_limit(ctx: Context) -> None:
    """A request body above the limit is refused before it is sent."""
    body = ctx.inventory.nginx.body
    size = int(body.rstrip("kmg")) * UNITS[body.lstrip("0123456789")] + 1
    connection = http.client.HTTPSConnection(ctx.host.address, context=unverified(), timeout=10)
    connection.sock = tls_socket(ctx, unverified(), ctx.inventory.app.domain)
    connection.putrequest("POST", ctx.inventory.app.health, skip_host=True)
    connection.putheader("Host", ctx.inventory.app.domain)
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_large_header(ctx: Context) -> None:
    """Cookies of 8 KiB are let through to the app."""
    with client(ctx) as session:
        cookie = {"Cookie": "roadbed_check=" + "x" * 8192}
        answer = session.get(ctx.inventory.app.health, headers=cookie, extensions=sni(ctx))
    assert answer.status_code == get(ctx, ctx.inventory.app.health).status_code
