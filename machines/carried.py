"""What the machines get from the control machine so that they reach what it reaches: certificate authorities,
proxy settings and name servers."""

import ipaddress
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from roadbed.machines import commands

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")
# The order OpenSSL-based tools and Node look in; the first that exists has what this machine trusts.
_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_BUNDLES = (BUNDLE, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
_PUBLIC = Path("/usr/share/ca-certificates")  # what Debian and Ubuntu ship
_PUBLIC_NAME_SERVERS = ("9.9.9.9", "1.1.1.1")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Carried:
    """environment: proxy variables, both spellings. apt_proxies: URL scheme -> proxy for apt. certificates: PEM
    texts of authorities added to this machine. resolv_conf: name servers as the machines can reach them."""

    environment: dict[str, str] = field(default_factory=dict)
    apt_proxies: dict[str, str] = field(default_factory=dict)
    certificates: list[str] = field(default_factory=list)
    resolv_conf: str = ""


def collect(environ: Mapping[str, str], say: Callable[[str], None]) -> Carried:
    """Read it all from `environ` and the system's files, with a word where something cannot be carried."""
    environment = proxies(environ, say)
    apt = {scheme: environment[f"{scheme}_proxy"] for scheme in ("http", "https") if f"{scheme}_proxy" in environment}
    return Carried(environment, _apt_proxies(say) or apt, _trusted(environ), _resolv_conf(say))


def proxies(environ: Mapping[str, str], say: Callable[[str], None]) -> dict[str, str]:
    """The proxy variables among `environ`, in lower and upper case; a proxy on loopback cannot be carried."""
    found: dict[str, str] = {}
    for name in _PROXIES:
        value = environ.get(name) or environ.get(name.upper())
        if value and _reachable(value, name, say):
            found |= {name: value, name.upper(): value}
    without = environ.get("no_proxy") or environ.get("NO_PROXY")
    if found:
        without = ",".join(filter(None, [without, "localhost,127.0.0.1"]))
        found |= {"no_proxy": without, "NO_PROXY": without}
    return found


def _reachable(proxy: str, name: str, say: Callable[[str], None]) -> bool:
    host = urlsplit(proxy if "//" in proxy else f"//{proxy}").hostname or ""
    if host == "localhost" or host == "::1" or host.startswith("127."):
        say(f"Warning: {name} names a proxy on loopback, which the machines cannot reach; they go without it")
        return False
    return True


def _apt_proxies(say: Callable[[str], None]) -> dict[str, str]:
    if commands.find("apt-config") is None:
        return {}
    names = {f"Acquire::{scheme}::Proxy": scheme for scheme in ("http", "https")}
    listing = subprocess.run(["apt-config", "dump", *names], capture_output=True, text=True, check=False).stdout
    found = {}
    for name, value in re.findall(r'^(Acquire::\w+::Proxy) "(.+)";$', listing, re.MULTILINE):
        if value != "DIRECT" and _reachable(value, name, say):
            found[names[name]] = value
    return found


def certificates(*texts: str) -> list[str]:
    """The PEM certificates in `texts`, each once."""
    return list(dict.fromkeys(pem for text in texts for pem in _PEM.findall(text)))


def extra_certificates(trusted: Iterable[str], image: str) -> list[str]:
    """Those of `trusted` that are not in the text `image`, a bundle; line breaks do not matter."""
    known = {"".join(pem.split()) for pem in certificates(image)}
    return [pem for pem in trusted if "".join(pem.split()) not in known]


def _trusted(environ: Mapping[str, str]) -> list[str]:
    named = [environ[name] for name in _BUNDLE_VARIABLES if environ.get(name)]
    bundles = [path for path in [*named, *_BUNDLES] if Path(path).is_file()][:1]
    node = [path for path in [environ.get("NODE_EXTRA_CA_CERTS", "")] if Path(path).is_file()]
    trusted = certificates(*(_read(Path(path)) for path in [*bundles, *node]))
    # Public authorities are the image's affair: it may have stopped to trust some of this machine's.
    return extra_certificates(trusted, "".join(map(_read, _PUBLIC.rglob("*.crt"))))


def _read(path: Path) -> str:
    return path.read_text(errors="replace")


def _resolv_conf(say: Callable[[str], None]) -> str:
    files = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
    return resolv_conf([path.read_text() for path in files if path.is_file()], say)


def resolv_conf(texts: list[str], say: Callable[[str], None]) -> str:
    """The first of the resolv.conf `texts` that names a server the machines can reach, without those they
    cannot: systemd-resolved's stub (127.0.0.53) is not reachable, the servers behind it are."""
    for text in texts:
        kept = [line for line in text.splitlines() if not _out_of_reach(line)]
        if any(line.split()[:1] == ["nameserver"] for line in kept):
            return "\n".join(kept) + "\n"
    servers = " and ".join(_PUBLIC_NAME_SERVERS)
    say(f"Warning: this machine's name servers are out of the machines' reach; they ask {servers}")
    return "".join(f"nameserver {server}\n" for server in _PUBLIC_NAME_SERVERS)


def _out_of_reach(line: str) -> bool:
    words = line.split()
    if words[:1] != ["nameserver"] or len(words) < 2:
        return False
    address = ipaddress.ip_address(words[1].partition("%")[0])
    return address.is_loopback or address.version == 6  # the machines have IPv4 only


def environment_file(carried: Carried, subnet: str, has_extra: bool) -> str:
    """/etc/environment of a machine: what pam_env(8) sets for every login. `subnet` goes past the proxy."""
    wanted = dict(carried.environment)
    for name in ("no_proxy", "NO_PROXY"):
        if name in wanted:
            wanted[name] += f",{subnet}"
    if has_extra:  # Node has its own list of authorities and reads the system's only when told to
        wanted["NODE_EXTRA_CA_CERTS"] = BUNDLE
    return "".join(f'{name}="{value}"\n' for name, value in wanted.items())


def apt_file(carried: Carried) -> str:
    """apt's proxy settings; apt run by a timer sees no environment."""
    return "".join(f'Acquire::{scheme}::Proxy "{proxy}";\n' for scheme, proxy in carried.apt_proxies.items())


def sudoers_file(environment: str) -> str:
    """Lets sudo keep the variables of the text `environment`, which it clears otherwise (sudoers(5), env_keep)."""
    names = " ".join(line.partition("=")[0] for line in environment.splitlines())
    return f'Defaults env_keep += "{names}"\n' if names else ""
