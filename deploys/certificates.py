"""Certificates of the web hosts: self-signed, from an ACME authority, or the user's own files."""

import shlex
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator
from pyinfra import context
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation

from .before import keep
from .files import PENDING
from .model import Settings

if TYPE_CHECKING:
    from cryptography import x509

    from roadbed.engine.inventory import Inventory

SITE = "/etc/nginx/tls/site.pem"
"""Certificate chain and key of the site in one file, so that both change in one rename."""
WEBROOT = "/var/lib/roadbed/acme"
AUTHORITY = "/etc/roadbed/acme-ca.pem"
DEPLOY_HOOK = "/etc/letsencrypt/renewal-hooks/deploy/roadbed-nginx"
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
RENEW_DAYS = 30
"""Days before its end at which a self-signed certificate is replaced (certbot does the same with its own)."""


class TlsSettings(Settings):
    """Where the certificate comes from."""

    mode: Literal["self-signed", "acme", "files"] = Field(
        "self-signed", description="self-signed: for rehearsals. acme: Let's Encrypt. files: your own."
    )
    email: str | None = Field(None, pattern=r"^[^@\s]+@[^@\s]+$", description="acme: gets mail about the account.")
    directory: str = Field(LETS_ENCRYPT, pattern=r"^https://", description="acme: URL of the authority's directory.")
    authority: Path | None = Field(
        None, description="acme, files: PEM file of a private authority, on the control machine."
    )
    certificate: Path | None = Field(None, description="files: PEM file of the chain, on the control machine.")
    key: Path | None = Field(None, description="files: PEM file of the key, on the control machine.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.mode == "acme" and not self.email:
            raise ValueError("email: is required with mode acme. Write the address the authority may write to")
        for name in ("certificate", "key"):
            if self.mode == "files" and getattr(self, name) is None:
                raise ValueError(f"{name}: is required with mode files. Write the path of the PEM file")
            if self.mode != "files" and getattr(self, name) is not None:
                raise ValueError(f"{name}: is used with mode files alone. Set mode: files, or remove it")
        return self

    @property
    def publicly_trusted(self) -> bool:
        """Whether a client needs no special trust: a check verifies the certificate then."""
        return self.mode != "self-signed" and self.authority is None


class Certificate(FactBase[tuple[frozenset[str], bool] | None]):
    """(DNS names, whether it signed itself) of a certificate that is valid for ``days`` more days, or None."""

    def command(self, path: str, days: int) -> str:
        read = f"openssl x509 -in {shlex.quote(path)} -noout -subject -issuer -ext subjectAltName"
        return f"if said=$({read} -checkend {days * 86400} 2>/dev/null); then printf '%s\\n' \"$said\"; fi"

    def process(self, output: list[str]) -> tuple[frozenset[str], bool] | None:
        lines = [line.strip() for line in output]
        said = {key: value for key, _, value in (line.partition("=") for line in lines)}
        if "subject" not in said:
            return None
        names = [part.strip() for line in lines if line.startswith("DNS:") for part in line.split(",")]
        return frozenset(name.removeprefix("DNS:") for name in names), said["subject"] == said["issuer"]


class IssuedBy(FactBase[str]):
    """URL of the ACME directory that a certbot certificate comes from, or nothing."""

    def command(self, certificate: str) -> str:
        return f"sed -n 's/^server = //p' /etc/letsencrypt/renewal/{certificate}.conf 2>/dev/null; true"

    def process(self, output: list[str]) -> str:
        return output[0].strip() if output else ""


class SameContent(FactBase[bool]):
    """Whether the site's file is what certbot holds: chain and key of ``certificate``."""

    def command(self, certificate: str) -> str:
        live = f"/etc/letsencrypt/live/{certificate}"
        return f"cat {live}/fullchain.pem {live}/privkey.pem 2>/dev/null | cmp -s - {SITE} && echo same; true"

    def process(self, output: list[str]) -> bool:
        return "same" in output


@operation()
def self_signed(names: tuple[str, ...], placeholder: bool = False) -> Generator[str, None, None]:
    """Makes a key and a certificate signed by itself for ``names`` (P-256, 397 days, as browsers allow).

    A ``placeholder`` only fills the gap before the first real certificate, so whatever certificate is there stays.
    """
    found = context.host.get_fact(Certificate, path=SITE, days=0 if placeholder else RENEW_DAYS)
    if found is not None and (placeholder or found == (frozenset(names), True)):
        context.host.noop(f"{SITE} is valid")
        return
    alternative = shlex.quote("subjectAltName=" + ",".join(f"DNS:{name}" for name in names))
    yield keep(SITE)
    yield (
        "umask 077 && d=$(mktemp -d) && trap 'rm -rf $d' EXIT && "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 397 -subj /CN=self-signed "
        f"-addext {alternative} -keyout $d/key -out $d/chain 2>$d/said || {{ cat $d/said >&2; exit 1; }}; "
        f"cat $d/chain $d/key > {SITE}.new && mkdir -p {PENDING} && : > {PENDING}/nginx && mv -fT {SITE}.new {SITE}"
    )


@operation()
def acme(certificate: str, names: tuple[str, ...], tls: TlsSettings) -> Generator[str, None, None]:
    """Gets a certificate for ``names`` by HTTP-01 (RFC 8555, 8.3); certbot's own timer renews it.

    Nothing happens while the one that is there covers the names and comes from the same directory.
    """
    live = f"/etc/letsencrypt/live/{certificate}/cert.pem"
    found = context.host.get_fact(Certificate, path=live, days=1)
    issued_by = context.host.get_fact(IssuedBy, certificate=certificate)
    if found is None or found[0] != frozenset(names) or issued_by != tls.directory:
        trust = f"REQUESTS_CA_BUNDLE={AUTHORITY} " if tls.authority else ""
        domains = " ".join(f"-d {name}" for name in names)
        renew = "--force-renewal " if issued_by and issued_by != tls.directory else ""
        yield _explained(
            tls.directory,
            names,
            f"{trust}certbot certonly --non-interactive --agree-tos -m {shlex.quote(tls.email or '')} "
            f"--server {shlex.quote(tls.directory)} --webroot -w {WEBROOT} --cert-name {certificate} --key-type ecdsa "
            f"--renew-with-new-domains {renew}{domains}",
        )
        yield DEPLOY_HOOK
    elif not context.host.get_fact(SameContent, certificate=certificate):
        yield DEPLOY_HOOK


def _explained(directory: str, names: tuple[str, ...], command: str) -> str:
    """``command``, and in the few lines an error has room for: what failed, why, and what to look at."""
    what = shlex.quote(f"nginx/tls/directory: {directory} gave no certificate for {', '.join(names)}:")
    way = shlex.quote(
        "The site goes on with the certificate it has. Check that this host reaches the authority, that every name "
        "leads to this host, and that port 80 is open to the world; then run this again"
    )
    noise = "^$|^ *Hint:|^Saving debug log|^Ask for help|^See the logfile|^Requesting a|^Some challenges|^Account reg"
    shown = f"printf '%s\\n' \"$said\" | grep -vE {shlex.quote(noise)} | cut -c 1-500 | tail -n 6"
    return f"said=$({command} 2>&1) || {{ {{ echo {what}; {shown}; echo {way}; }} >&2; exit 1; }}"


def own_files(inventory: "Inventory") -> bytes:
    """Chain and key of ``nginx.tls`` (mode files) in one PEM text.

    Raises ValueError when a file is missing or unreadable, the key is not the certificate's, the
    certificate has ended, or it does not cover app.domain and app.aliases.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    tls = inventory.nginx.tls
    chain, key = (read_pem(inventory, f"nginx/tls/{name}", getattr(tls, name)) for name in ("certificate", "key"))
    try:
        first = x509.load_pem_x509_certificates(chain)[0]
        private = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"nginx/tls: not PEM files of a chain and a key without a password: {error}") from None
    if first.public_key() != private.public_key():
        raise ValueError("nginx/tls/key: is not the key of nginx/tls/certificate. Give the pair that belongs together")
    if first.not_valid_after_utc < datetime.now(UTC):
        raise ValueError(f"nginx/tls/certificate: ended on {first.not_valid_after_utc:%Y-%m-%d}. Renew it")
    covered = set(_dns_names(first))
    for name in (inventory.app.domain, *inventory.app.aliases):
        if name not in covered and f"*.{name.partition('.')[2]}" not in covered:
            only = ", ".join(sorted(covered)) or "no name"
            raise ValueError(f"nginx/tls/certificate: does not cover {name}, only {only}. Order one that does")
    return chain.rstrip() + b"\n" + key


def _dns_names(certificate: "x509.Certificate") -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def read_pem(inventory: "Inventory", where: str, path: Path) -> bytes:
    """A file on the control machine; a relative path starts at the inventory. Raises ValueError."""
    full = inventory.path.parent / path.expanduser()
    try:
        return full.read_bytes()
    except OSError as error:
        raise ValueError(f"{where}: {full} cannot be read ({error.strerror}). Give the path of a PEM file") from None
