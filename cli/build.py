"""`provision build`: the release alone, for a machine that builds and another that deploys."""

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .options import sudo_password
from .progress import Progress
from .style import say, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from roadbed.deploys.node import NodeBuild
    from roadbed.engine.inventory import Inventory
    from roadbed.engine.secrets import Secrets
    from roadbed.releases.artefact import Artefact
    from roadbed.releases.build_host import BuildHost


@dataclass(frozen=True)
class Wanted:
    """What the user asked for on the command line, beside the inventory."""

    output: Path | None = None
    check_reproducible: bool = False
    allow_vulnerable: bool = False
    ask_sudo_password: bool = False


def run(inventory: str | None, wanted: Wanted) -> None:
    """Builds, or finds it built already; writes the archive if a file is named. Raises VerificationFailed when
    another build was asked for and has other bytes."""
    from roadbed.engine.load import load
    from roadbed.engine.secrets import Secrets

    stack = load(inventory)
    password = sudo_password(wanted.ask_sudo_password)
    with Progress() as report:
        secrets = Secrets(stack.beside(".secrets.age"))
        artefact, builds = built(stack, secrets, report, password, allow_vulnerable=wanted.allow_vulnerable)
        if wanted.check_reproducible:
            with _builder(stack, builds, report, password) as host:
                _build_again(stack, artefact, secrets, host)
            report.at_work("")
    if wanted.output:
        _write(artefact, wanted.output)
        say(f"{wanted.output}: {wanted.output.stat().st_size / 2**20:.1f} MB")


def _build_again(stack: "Inventory", artefact: "Artefact", secrets: "Secrets", host: "BuildHost | None") -> None:
    """Builds once more and compares; what comes of it is written into the manifest of the release."""
    from roadbed.engine.errors import VerificationFailed
    from roadbed.engine.secrets import ACTION_KEY
    from roadbed.releases import build, reproduce
    from roadbed.releases.artefact import complete
    from roadbed.releases.cache import remove_tree

    second = build.again(stack, artefact, secrets.get(ACTION_KEY).encode(), host)
    paths = reproduce.differences(artefact.manifest, second.manifest)
    reasons = reproduce.because(artefact.manifest, paths)
    remove_tree(second.tree)
    complete(artefact.tree, artefact.manifest.model_copy(update={"reproducible": not paths, "because": reasons}))
    total = len(artefact.manifest.files)
    if paths:
        raise VerificationFailed(
            f"{artefact.release}: a second build of it differs in {len(paths)} of {total} files:\n  "
            + "\n  ".join(reasons)
        )
    say(f"{artefact.release}: a second build has the same {total} files, byte by byte ({artefact.digest()[:12]})")


def _write(artefact: "Artefact", target: Path) -> None:
    """Writes the archive, complete or not at all, for its owner alone: a server build embeds the action key."""
    from roadbed.engine.errors import InventoryError

    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            artefact.write_archive(file)
        partial.replace(target)
    except OSError as error:
        raise InventoryError(f"--output: {target} cannot be written: {error.strerror}. Name another file") from None
    finally:
        partial.unlink(missing_ok=True)


def built(
    stack: "Inventory",
    secrets: "Secrets",
    report: Progress,
    password: str | None = None,
    *,
    allow_vulnerable: bool = False,
    names: "Iterable[str]" = (),
) -> "tuple[Artefact, Mapping[str, NodeBuild]]":
    """The release of a stack, and the Node.js it runs on for each architecture. ``names``: the hosts that will get it.

    A wrong project is told before the network is asked, and so is a host that takes no connection. Raises
    InventoryError, Refused, HostUnreachable or BuildFailed; logs in nowhere but on the host that builds, which
    ``password`` is for (sudo).
    """
    from roadbed.engine.errors import InventoryError
    from roadbed.engine.secrets import ACTION_KEY, new_action_key
    from roadbed.releases.build import check_source, ensure
    from roadbed.releases.node_builds import resolve_all
    from roadbed.releases.toolchain import fetch

    hidden = {name: secrets.get(name) for name in stack.app.secrets}
    if name := stack.app.cdn.purge.secret:
        if name not in secrets.names():
            raise InventoryError(
                f"app/cdn/purge/secret: {name} has no value. Set it: provision secrets set {name} -i {stack.name}"
            )
        hidden[name] = secrets.get(name)
    check_source(stack, report.at_work, allow_vulnerable=allow_vulnerable)
    if names and stack.build.host is None and sys.platform != "linux" and not stack.source.is_file():
        raise InventoryError(
            f"build/host: is not set, and what this machine ({sys.platform}) builds does not run on Linux. Set it to a "
            f"host with the role app: {stack.with_role('app')[0]}"
        )
    key = secrets.get_or_create(ACTION_KEY, new_action_key)
    builds = resolve_all(stack.node)
    tell_unreachable(stack, list(names))
    began = time.monotonic()
    toolchain = fetch(builds, report.at_work)
    with _builder(stack, builds, report, password) as host:
        artefact = ensure(
            stack, key.encode(), toolchain, report.at_work, secrets=hidden, allow_vulnerable=allow_vulnerable, host=host
        )
    report.at_work("")
    say(f"release {artefact.release} ({seconds(time.monotonic() - began)})")
    return artefact, builds


def tell_unreachable(stack: "Inventory", names: list[str]) -> None:
    """Says which hosts take no connection now; nothing is sent to them.

    Raises HostUnreachable, before anything is built, when none does, and InventoryError when a key file is missing.
    """
    from roadbed.engine.connect import key_file
    from roadbed.engine.errors import HostUnreachable
    from roadbed.engine.reach import unreachable

    for name in names:
        key_file(stack, name)
    found = unreachable(stack, names)
    lines = [f"{name}: {reason}" for name, reason in found.items()]
    if names and len(found) == len(names):
        raise HostUnreachable("\n".join([*lines, "Nothing was built. provision check tells more"]))
    for line in lines:
        say(f"  ! {line}. The build goes on; the host is tried again after it")


@contextmanager
def _builder(
    stack: "Inventory", builds: "Mapping[str, NodeBuild]", report: Progress, password: str | None
) -> "Iterator[BuildHost | None]":
    """The host that builds, connected for as long as the block lasts; None: this machine."""
    if stack.build.host is None:
        yield None
        return
    from roadbed.releases.build_host import BuildHost

    host = BuildHost(stack, stack.build.host, builds, report.at_work, report.printed, password)
    try:
        yield host
    finally:
        host.close()
