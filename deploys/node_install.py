"""Put Node.js on a host: from a verified archive, or from apt."""

from collections.abc import Generator
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pyinfra import context
from pyinfra.api.command import FunctionCommand, QuoteString, StringCommand
from pyinfra.api.exceptions import OperationError
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation
from pyinfra.operations import apt, files

from .files import settle, write_file
from .packages import UPDATE_LISTS

if TYPE_CHECKING:
    from .node import NodeBuild, NodeSettings

KEYRING = "/etc/apt/keyrings/nodesource.asc"
FINGERPRINT = "6F71F525282841EEDAF851B42F59B5F99B1BE0B4"
"""NodeSource's repository key, NSolid <nsolid-gpg@nodesource.com>: https://github.com/nodesource/distributions"""


class InstalledNode(FactBase[str]):
    """``v24.9.0 root 755`` of a node binary: what it says it is, its owner and mode. Empty without one."""

    def command(self, path: str) -> StringCommand:
        quoted = QuoteString(path)
        return StringCommand(
            "if [ -x", quoted, "]; then echo $(", quoted, "--version; stat -L -c '%U %a'", quoted, "); fi"
        )  # fmt: skip

    default = str

    def process(self, output: list[str]) -> str:
        return output[0]


@operation()
def install_node(build: "NodeBuild") -> Generator[FunctionCommand, None, None]:
    """Puts one version in its folder in a single step, owned by root; other versions stay."""
    if context.host.get_fact(InstalledNode, path=build.path) == f"v{build.version} root 755":
        context.host.noop(f"Node.js {build.version} is installed")
        return
    yield FunctionCommand(_install, (build,), {})


def _install(build: "NodeBuild") -> None:
    connector: Any = context.host.connector
    connector.facts.forget()
    folder = build.path.removesuffix("/bin/node")
    above, _, version = folder.rpartition("/")
    partial = f"{above}/.partial-{version}"
    archive = f"{partial}/archive"
    _run(connector, f"rm -rf {partial} && mkdir -p -m 755 {partial}")
    curl = "curl -fsSL --retry 2 --connect-timeout 10 --speed-limit 10000 --speed-time 30"
    fetched = connector.session.run(f"{curl} -o {archive} {quote(build.url)}", timeout=900, check=False)
    if not fetched.ok:
        _upload(connector, build, archive, fetched.err.strip())
    algorithm, value = build.checksum
    try:
        _run(
            connector,
            f"echo '{value}  {archive}' | {algorithm}sum -c --status || "
            f"{{ echo {quote(f'{build.url}: has not the checksum that was published for it')} >&2; exit 1; }}\n"
            f"cd {partial} && tar -xf archive --no-same-owner --strip-components=1 --wildcards "
            "'*/bin/node' '*/LICENSE' && rm archive && chown -R root:root . && chmod 755 bin bin/node || exit 1\n"
            f'said=$(bin/node --version 2>&1); [ "$said" = v{version} ] || '
            f'{{ echo "Node.js {version} does not run on this host: $said" >&2; exit 1; }}\n'
            # A reader of the old folder keeps its open files; sync: a power cut must not leave an empty binary.
            f"sync -f . && rm -rf {folder} && mv -T {partial} {folder}",
        )
    finally:
        connector.session.run(f"rm -rf {partial}", check=False)


def _upload(connector: Any, build: "NodeBuild", archive: str, reason: str) -> None:
    """The way for a host without access to the mirror."""
    if build.archive is None:
        connector.error = f"{build.url}: {reason}"
        raise OperationError(connector.error)
    connector.session.upload(build.archive(), archive)


def _run(connector: Any, script: str) -> None:
    result = connector.session.run(script, timeout=300, check=False)
    if not result.ok:
        connector.error = (result.err.strip() or result.out.strip() or f"exit code {result.rc}")[-800:]
        raise OperationError(connector.error)


def node_from_apt(settings: "NodeSettings", build: "NodeBuild") -> None:
    """Node.js as a package of NodeSource or of the distribution, linked to the path that services use."""
    package = "nodejs"
    if settings.source == "nodesource":
        base = settings.mirror or "https://deb.nodesource.com"
        apt.packages(name="Install gpg", packages=["gpg"], no_recommends=True)
        trust_key(name="Trust NodeSource's key", url=f"{base}/gpgkey/nodesource-repo.gpg.key")
        source = (
            "# Written by Roadbed.\nTypes: deb\n"
            f"URIs: {base}/node_{settings.major}.x\nSuites: nodistro\nComponents: main\nSigned-By: {KEYRING}\n"
        )
        write_file(
            name="Add NodeSource to apt",
            dest="/etc/apt/sources.list.d/nodesource.sources",
            content=source,
            debts=("package-lists",),
        )
        write_file(
            name="Prefer NodeSource's Node.js",
            dest="/etc/apt/preferences.d/nodesource",
            content="# Written by Roadbed.\nPackage: nodejs\n"
            f"Pin: origin {urlsplit(base).hostname}\nPin-Priority: 600\n",
        )
        settle(name="Update the package lists", debt="package-lists", command=UPDATE_LISTS, healthy="true")
        package += f"={settings.version}-1nodesource1" if settings.version.count(".") == 2 else ""
    require_candidate(name=f"Look for Node.js {settings.version} in apt", wanted=settings.version)
    apt.packages(name="Install Node.js", packages=[package], no_recommends=True)
    folder = build.path.removesuffix("/node")
    files.directory(name=f"Create {folder}", path=folder, user="root", group="root", mode="755")
    files.link(name=f"Link {build.path}", path=build.path, target="/usr/bin/node")


class KeyringFingerprints(FactBase[list[str]]):
    """Fingerprints in the keyring file of NodeSource."""

    def command(self) -> str:
        return (
            f"if [ -e {KEYRING} ] && command -v gpg >/dev/null; then "
            f"gpg --show-keys --with-colons {KEYRING} 2>/dev/null | grep '^fpr' | cut -d : -f 10; fi"
        )

    default = list

    def process(self, output: list[str]) -> list[str]:
        return output


@operation()
def trust_key(url: str) -> Generator[str, None, None]:
    """Downloads NodeSource's key and keeps it only if it has the fingerprint that is known here."""
    if FINGERPRINT in context.host.get_fact(KeyringFingerprints):
        return
    new = f"{KEYRING}.new"
    yield (
        f"umask 022; mkdir -p /etc/apt/keyrings && "
        f"curl -fsSL --retry 2 --connect-timeout 10 -o {new} {quote(url)} && "
        f"gpg --show-keys --with-colons {new} | grep -q '^fpr:.*:{FINGERPRINT}:' && mv {new} {KEYRING}"
        f" || {{ rm -f {new}; echo '{url}: is not there or is not the key {FINGERPRINT}' >&2; exit 1; }}"
    )


class NodeCandidate(FactBase[str]):
    """The version of Node.js that apt has installed or would install, such as 20.19.2+dfsg-1."""

    def command(self) -> str:
        return "apt-cache policy nodejs 2>/dev/null | sed -n 's/^ *Candidate: //p'"

    @staticmethod
    def default() -> str:
        return "none"

    def process(self, output: list[str]) -> str:
        return output[0]


@operation()
def require_candidate(wanted: str) -> Generator[str, None, None]:
    """Fails when apt has another version than ``wanted``, before anything is installed; changes nothing."""
    found = context.host.get_fact(NodeCandidate)
    if f"{found}.".startswith(f"{wanted}.") or found.startswith((f"{wanted}-", f"{wanted}+", f"{wanted}~")):
        return
    way = "Set node/version to that, or node/source: nodejs.org"
    yield f"echo 'node/version: {wanted} is wanted, apt has {found}. {way}' >&2; exit 1"
