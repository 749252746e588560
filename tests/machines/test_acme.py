"""Certificates from an ACME authority (RFC 8555), rehearsed against Pebble on a machine of its own.

Pebble asks nginx on port 80 over the network (HTTP-01), as Let's Encrypt does; its DNS answers are those of
pebble-challtestsrv, which says that every name is the web host.
"""

import json
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from roadbed.machines.model import MachineSpec

from .conftest import Stack, spec
from .tiny import DOMAIN, operations, page, tiny_stack

WEB = spec("acme-1", 122, "bookworm")
AUTHORITY = spec("jump-1", 123, "bookworm", memory=256)
ALIAS = "www.example.test"
DIRECTORY = f"https://{AUTHORITY.address}:14000/dir"
CONFIG = {
    "pebble": {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "0.0.0.0:15000",
        "certificate": "/etc/pebble/cert.pem",
        "privateKey": "/etc/pebble/key.pem",
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
}
INSTALL = "apt-get -q update >/dev/null && apt-get -q install -y --no-install-recommends pebble && mkdir -p /etc/pebble"
NAMES = (
    "systemd-run -q --unit=names pebble-challtestsrv -http01 '' -https01 '' -tlsalpn01 '' "
    f"-dns01 127.0.0.1:8053 -management 127.0.0.1:8055 -defaultIPv4 {WEB.address} -defaultIPv6 ''"
)
START = (
    "systemd-run -q --unit=pebble -E PEBBLE_VA_NOSLEEP=1 -E PEBBLE_WFE_NONCEREJECT=0 "
    "pebble -config /etc/pebble/config.json -dnsserver 127.0.0.1:8053 && "
    "for i in $(seq 100); do ss -Hltn sport = :15000 | grep -q . && exit; sleep 0.1; done; exit 1"
)


def made(
    name: str, issuer: x509.Certificate | None, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """A certificate for a day: of an authority without ``issuer``, else of the server at AUTHORITY.address."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    if issuer:
        address = x509.IPAddress(ip_address(AUTHORITY.address))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def pem(thing: x509.Certificate | ec.EllipticCurvePrivateKey) -> str:
    """As OpenSSL reads it."""
    encoding = serialization.Encoding.PEM
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(encoding).decode()
    private = serialization.PrivateFormat.PKCS8
    return thing.private_bytes(encoding, private, serialization.NoEncryption()).decode()


@pytest.fixture(scope="module")
def stack(booted: Callable[[list[MachineSpec]], None], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A bare web host that is to get its certificate from Pebble, and Pebble, installed but not yet running."""
    booted([WEB, AUTHORITY])
    folder = tmp_path_factory.mktemp("acme")
    stack = tiny_stack(folder, [WEB])
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = made("Rehearsal", None, root_key, root_key)
    (stack.path.parent / "authority.pem").write_text(pem(root))
    tls = {"mode": "acme", "email": "ops@example.test", "directory": DIRECTORY, "authority": "authority.pem"}
    stack.write(nginx={"tls": tls})
    stack.ssh(AUTHORITY.name, INSTALL, timeout=300)
    files = {
        "cert.pem": pem(made("Pebble", root, key, root_key)),
        "key.pem": pem(key),
        "config.json": json.dumps(CONFIG),
    }
    for name, text in files.items():
        stack.ssh(AUTHORITY.name, f"cat > /etc/pebble/{name}", stdin=text)
    stack.ssh(AUTHORITY.name, NAMES)
    return stack


@pytest.fixture(scope="module")
def issued(stack: Stack) -> Stack:
    """The stack with a certificate of Pebble's."""
    stack.ssh(AUTHORITY.name, f"systemctl -q is-active pebble || {{ {START}; }}")
    stack.converge()
    return stack


def trust(stack: Stack) -> ssl.SSLContext:
    """What trusts Pebble alone; its root is a new one at every start."""
    management = ssl.create_default_context(cafile=stack.path.with_name("authority.pem"))
    root = httpx.get(f"https://{AUTHORITY.address}:15000/roots/0", verify=management).text
    return ssl.create_default_context(cadata=root)


def served(context: ssl.SSLContext | None = None, name: str = DOMAIN) -> x509.Certificate:
    """The certificate nginx serves for a name; with ``context``, only if that trusts it."""
    if context is None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((WEB.address, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_first_start_without_the_authority_serves_with_a_placeholder(stack: Stack) -> None:
    """nginx cannot start without a certificate, and the authority cannot ask an nginx that does not run."""
    done = stack.provision("phase1", "--json", code=4)
    assert operations(json.loads(done.stdout), "failed") == ["Get the certificate"]
    assert f"acme-1: Get the certificate: nginx/tls/directory: {DIRECTORY} gave no certificate" in done.stderr
    assert "Connection refused" in done.stderr
    assert "Edition one" in page(stack, WEB.name)
    placeholder = served()
    assert placeholder.issuer == placeholder.subject


def test_next_run_gets_the_certificate(issued: Stack) -> None:
    certificate = served(trust(issued))
    issuer = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert str(issuer).startswith("Pebble Intermediate CA")
    assert "Edition one" in page(issued, WEB.name)
    assert issued.ssh(WEB.name, "stat -c '%a %U' /etc/nginx/tls/site.pem").strip() == "600 root"


def test_second_run_changes_nothing(issued: Stack) -> None:
    before = served().serial_number
    assert operations(issued.converge(), "changed") == []
    assert served().serial_number == before


def test_renewal_by_the_timer_is_served(issued: Stack) -> None:
    """As certbot.timer does it, in the sandbox and with the environment of its unit."""
    assert issued.ssh(WEB.name, "systemctl is-active certbot.timer").strip() == "active"
    before = served().serial_number
    issued.ssh(WEB.name, "sed -i '1i renew_before_expiry = 3650 days' /etc/letsencrypt/renewal/tiny.conf")
    try:
        issued.ssh(WEB.name, "systemctl start certbot.service")
    finally:
        issued.ssh(WEB.name, "sed -i '/^renew_before_expiry = 3650/d' /etc/letsencrypt/renewal/tiny.conf")
    after = served(trust(issued))
    assert after.serial_number != before
    assert operations(issued.converge(), "changed") == []


def test_new_alias_gets_into_the_certificate(issued: Stack) -> None:
    issued.write(app={"aliases": [ALIAS]})
    assert "Get the certificate" in operations(issued.converge(), "changed")
    names = served(trust(issued), ALIAS).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {DOMAIN, ALIAS}
    assert operations(issued.converge(), "changed") == []


def test_name_that_the_authority_cannot_check_is_named(issued: Stack) -> None:
    """The certificate and the site of before stay."""
    before = served().serial_number
    lookup = '{"host": "gone.example.test."}'
    issued.ssh(AUTHORITY.name, "exec 3<>/dev/tcp/127.0.0.1/8055; " + post("/set-servfail", lookup))
    issued.write(app={"aliases": [ALIAS, "gone.example.test"]})
    try:
        said = issued.provision("phase1", code=4).stderr
    finally:
        issued.write(app={"aliases": [ALIAS]})
    assert "Get the certificate" in said
    assert "gone.example.test" in said.partition("Get the certificate")[2]
    assert served(trust(issued)).serial_number == before
    assert "Edition one" in page(issued, WEB.name)
    assert "Get the certificate" not in operations(issued.converge(), "changed")


def post(path: str, body: str) -> str:
    """A POST on bash's descriptor 3: the machine has no curl."""
    head = f"POST {path} HTTP/1.0\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
    return f"printf '{head}%s' '{body}' >&3; head -n 1 <&3 | grep -q ' 200 '"
