"""The nginx component without a host: settings, the rendered configuration, certificates."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from roadbed.deploys import access_log, certificates, nginx
from roadbed.deploys.nginx_reload import RELOAD
from roadbed.deploys.render import render

MakeContext = Callable[..., Any]
SPLIT = {
    "web-1": {"address": "192.0.2.10", "roles": ["web"]},
    "web-2": {"address": "192.0.2.20", "roles": ["web"]},
    "app-1": {"address": "192.0.2.11", "private": "10.0.0.11", "roles": ["app"]},
    "app-2": {"address": "192.0.2.12", "private": "2001:db8::12", "roles": ["app"]},
}


def configuration(ctx: Any, *, ipv6: bool = True) -> str:
    """The rendered nginx.conf."""
    return render("nginx", nginx.CONFIG, ctx, **nginx.values(ctx, ipv6))


def on(ctx: Any, codename: str) -> Any:
    """The same context on another suite."""
    return replace(ctx, facts={name: replace(facts, codename=codename) for name, facts in ctx.facts.items()})


def pair(folder: Path, names: tuple[str, ...], days: int = 30) -> dict[str, str]:
    """Writes chain.pem and key.pem for ``names``; returns the block nginx.tls."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=90))
    builder = builder.not_valid_after(now + timedelta(days=days))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "chain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*private))
    return {"mode": "files", "certificate": "chain.pem", "key": "key.pem"}


def with_files(make_context: MakeContext, folder: Path, tls: dict[str, str]) -> Any:
    """An inventory in ``folder`` with these certificate settings."""
    inventory = make_context(nginx={"tls": tls}, app={"aliases": ["www.example.com"]}).inventory
    inventory._path = folder / "prod.yml"
    return inventory


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"hsts": -1}, "below 0"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "is not a network"),
        ({"body": "10 MB"}, "pattern"),
        ({"tls": {"mode": "acme"}}, "email: is required"),
        ({"tls": {"mode": "files", "key": "k.pem"}}, "certificate: is required"),
        ({"tls": {"key": "k.pem"}}, "used with mode files alone"),
        ({"tls": {"mode": "acme", "email": "a@example.com", "directory": "http://insecure"}}, "pattern"),
    ],
)
def test_settings(make_context: MakeContext, block: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make_context(nginx=block)


def test_yaml_off_is_off(make_context: MakeContext) -> None:
    assert make_context(nginx={"hsts": False}).inventory.nginx.hsts == "off"


def test_each_slot_has_its_group_on_every_app_host(make_context: MakeContext) -> None:
    groups = nginx.upstreams(make_context(hosts=SPLIT, app={"replicas": 2}))
    assert groups["shop_b"] == ["10.0.0.11:5020", "10.0.0.11:5021", "[2001:db8::12]:5020", "[2001:db8::12]:5021"]
    kept = {f"shop_{slot}_after_{old}_old" for slot in "abc" for old in "abc"}
    assert set(groups) == {"shop_a", "shop_b", "shop_c"} | kept


def test_who_names_a_kept_release_gets_its_instances_or_else_what_is_active(make_context: MakeContext) -> None:
    """The canary's rule for such groups: their names end in _old. A hash could not have a backup."""
    ctx = make_context(hosts=SPLIT, app={"replicas": 2})
    groups = nginx.upstreams(ctx)
    kept, active = groups["shop_b_after_a_old"][:2], groups["shop_b_after_a_old"][2:]
    assert kept == ["10.0.0.11:5000", "[2001:db8::12]:5000"]
    assert active == [f"{server} backup" for server in groups["shop_b"]]
    assert groups["shop_a_after_a_old"] == groups["shop_a"]
    text = configuration(ctx)
    assert "old.$roadbed_named.a) { set $roadbed_old _after_a_old; }" in text
    images = re.search(r"upstream shop_b_after_a_old_images \{(.*?)\}", text, re.DOTALL)
    assert images
    assert "hash" not in images[1].replace("a hash knows", "")
    assert "server 10.0.0.11:5020 backup max_fails=0;" in images[1]


def test_a_host_with_the_app_asks_itself(make_context: MakeContext) -> None:
    assert nginx.upstreams(make_context(app={"replicas": 1}))["shop_a"] == ["127.0.0.1:5000"]


@pytest.mark.parametrize(
    ("codename", "listen", "directive"),
    [
        ("bookworm", "listen 443 ssl http2;", False),
        ("noble", "listen 443 ssl http2;", False),
        ("trixie", "listen 443 ssl;", True),
    ],
)
def test_http2_in_the_words_of_each_version(
    make_context: MakeContext, codename: str, listen: str, directive: bool
) -> None:
    text = configuration(on(make_context(), codename))
    assert listen in text
    assert ("http2 on;" in text) == directive


def test_an_old_nginx_gets_no_directive_it_does_not_know(make_context: MakeContext) -> None:
    text = configuration(on(make_context(), "jammy"))
    assert "ssl_reject_handshake" not in text
    assert "brotli" not in text
    assert nginx.encodings(on(make_context(), "jammy")) == ("gzip",)


def test_without_ipv6_nothing_listens_on_it(make_context: MakeContext) -> None:
    assert "listen [::]:443" in configuration(make_context())
    assert "[::]" not in configuration(make_context(), ipv6=False)


def test_blocks_are_closed(make_context: MakeContext) -> None:
    for block in ({}, {"hsts": 3600, "limits": {"enabled": False}, "public_from_disk": False, "brotli": False}):
        bare = re.sub(r"#.*|\"[^\"]*\"|'[^']*'", "", configuration(make_context(nginx=block)))
        assert bare.count("{") == bare.count("}")


def test_hsts_only_when_asked(make_context: MakeContext) -> None:
    assert "Strict-Transport-Security" not in configuration(make_context())
    text = configuration(make_context(nginx={"hsts": 3600}))
    assert 'add_header Strict-Transport-Security "max-age=3600" always;' in text
    assert "proxy_hide_header Strict-Transport-Security;" in text


def test_limits_can_be_switched_off(make_context: MakeContext) -> None:
    assert "rate=50r/s" in configuration(make_context())
    text = configuration(make_context(nginx={"limits": {"enabled": False}}))
    assert "limit_req" not in text
    assert "limit_conn" not in text


def test_forwarded_addresses_are_believed_from_named_networks_alone(make_context: MakeContext) -> None:
    assert "real_ip" not in configuration(make_context())
    text = configuration(make_context(nginx={"trusted_proxies": ["198.51.100.0/24"]}))
    assert "set_real_ip_from 198.51.100.0/24;" in text
    assert "real_ip_header X-Forwarded-For;" in text


def test_posts_are_never_repeated(make_context: MakeContext) -> None:
    text = configuration(make_context())
    assert "non_idempotent" not in text
    assert re.findall(r"max_fails=(\d+)", text) == ["0"] * len(re.findall(r"max_fails", text))


def test_requests_go_to_the_instance_with_the_fewest(make_context: MakeContext) -> None:
    """All workers count together, and the idle connections are counted out: keepalive comes after least_conn."""
    text = configuration(make_context(hosts=SPLIT, app={"replicas": 2}))
    found = re.findall(r"upstream (shop_\S+(?<!_images)) \{(.*?)\}", text, re.DOTALL)
    assert len(found) >= 6
    for group, body in found:
        words = [line.split()[0] for line in body.strip().splitlines()]
        assert words[:2] == ["zone", "least_conn;"], group
        assert words[-1] == "keepalive", group
        assert f"zone {group} " in body


def test_a_dead_host_costs_little_where_there_is_another(make_context: MakeContext) -> None:
    assert "proxy_connect_timeout 1s;" in configuration(make_context(hosts=SPLIT))
    assert "proxy_connect_timeout 3s;" in configuration(make_context())


def test_other_web_hosts_can_answer_the_authority(make_context: MakeContext) -> None:
    assert "roadbed_web_peers" not in configuration(make_context())
    assert "server 192.0.2.20:80 max_fails=0;" in configuration(make_context(hosts=SPLIT))


def test_aliases_lead_to_the_domain(make_context: MakeContext) -> None:
    text = configuration(make_context(app={"aliases": ["www.example.com"]}))
    assert "server_name www.example.com;" in text
    assert "server_name shop.example.com www.example.com;" in text


def test_log_lines_are_json(make_context: MakeContext) -> None:
    text = configuration(make_context())
    found = re.search(r"log_format roadbed escape=json (.*?);\n", text, re.DOTALL)
    assert found
    line = "".join(re.findall(r"'([^']*)'", found[1]))
    numbers = re.sub(r":\$\w+", ":1", line)
    assert set(json.loads(numbers)) == {*access_log.FIELDS, *access_log.NUMBERS}


@pytest.mark.parametrize(
    ("header", "query", "cookie", "named"),
    [
        ("r-1", "r-2", "r-3", "r-1"),
        ("", "r-2", "r-3", "r-2"),
        ("", "", "r-3", "r-3"),
        ("", "", "", "none"),
        ("../../etc/passwd", "", "", "none"),
        ("", "../x", "", "none"),
        ("x" * 65, "", "", "none"),
    ],
)
def test_the_release_a_page_names(make_context: MakeContext, header: str, query: str, cookie: str, named: str) -> None:
    text = configuration(make_context())
    patterns = re.findall(r'"~(\S+)" \$roadbed_by_', text)
    assert len(patterns) == 3
    for pattern in patterns:
        if found := re.search(pattern.replace("(?<", "(?P<"), f"{header}:{query}:{cookie}"):
            assert found[1] == named
            return
    assert named == "none"


@pytest.mark.parametrize(
    ("path", "served"),
    [("/.env", False), ("/a/.git/config", False), ("/.well-known/x", True), ("/a.b/c.png", True)],
)
def test_hidden_files_are_not_served(make_context: MakeContext, path: str, served: bool) -> None:
    pattern = re.search(r'"~(/\[\.\].*?)" "";', configuration(make_context()))
    assert pattern
    assert (re.search(pattern[1], path) is None) == served


def test_own_certificate(make_context: MakeContext, tmp_path: Path) -> None:
    tls = pair(tmp_path, ("*.example.com",))
    pem = certificates.own_files(with_files(make_context, tmp_path, tls))
    assert pem.index(b"BEGIN CERTIFICATE") < pem.index(b"PRIVATE KEY")


@pytest.mark.parametrize(
    ("names", "days", "said"),
    [(("shop.example.com",), 30, "does not cover www.example.com"), (("*.example.com",), -1, "ended on")],
)
def test_own_certificate_that_does_not_serve(
    make_context: MakeContext, tmp_path: Path, names: tuple[str, ...], days: int, said: str
) -> None:
    tls = pair(tmp_path, names, days)
    with pytest.raises(ValueError, match=said):
        certificates.own_files(with_files(make_context, tmp_path, tls))


def test_own_certificate_with_another_key(make_context: MakeContext, tmp_path: Path) -> None:
    tls = pair(tmp_path, ("*.example.com",))
    chain = (tmp_path / "chain.pem").read_bytes()
    pair(tmp_path, ("*.example.com",))
    (tmp_path / "chain.pem").write_bytes(chain)
    with pytest.raises(ValueError, match="is not the key of"):
        certificates.own_files(with_files(make_context, tmp_path, tls))


def test_own_certificate_that_is_missing(make_context: MakeContext, tmp_path: Path) -> None:
    tls = pair(tmp_path, ("*.example.com",))
    (tmp_path / "key.pem").unlink()
    with pytest.raises(ValueError, match=r"^nginx/tls/key: .*key\.pem cannot be read"):
        certificates.own_files(with_files(make_context, tmp_path, tls))


@pytest.mark.parametrize("equals", ["=", " = "])
def test_certificate_fact(equals: str) -> None:
    fact = certificates.Certificate()  # type: ignore[no-untyped-call]
    lines = [f"subject=CN{equals}self-signed", f"issuer=CN{equals}self-signed", "X509v3 Subject Alternative Name: "]
    lines.append("    DNS:shop.example.com, DNS:www.example.com")
    assert fact.process(lines) == (frozenset({"shop.example.com", "www.example.com"}), True)
    assert fact.process([]) is None


def test_renewal_hook_is_clean(make_context: MakeContext, tmp_path: Path) -> None:
    file = tmp_path / "hook"
    file.write_text(render("nginx", certificates.DEPLOY_HOOK, make_context(), site=certificates.SITE, reload=RELOAD))
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, file], check=True)
