"""Write the first files of a stack. Nothing that exists is overwritten."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import roadbed
from roadbed.engine.errors import InventoryError, Refused
from roadbed.engine.load import parse

from .style import say

if TYPE_CHECKING:
    from roadbed.engine.found import Found

PACKAGE = Path(roadbed.__file__).parent
REHEARSAL = PACKAGE / "inventories/rehearsal.yml"
STOREFRONT = PACKAGE / "examples/storefront"

TEXT = """\
# A stack of Roadbed. Every key with its default: provision inventory show -i {stack}
app:
  name: {name} # of services, user and folders on the hosts
  source: {source} # the project's folder, a git URL, or a release file
  domain: {domain}
  # health: / # answers below 400 before an instance gets requests
  # migrate: npm run migrate # once for each release, before it gets requests
  # secrets: [API_TOKEN] # environment of the app; values: provision secrets set API_TOKEN -i {stack}
ssh:
  user: {user} # root, or one with sudo
  # key: ~/.ssh/id_ed25519 # default: the SSH agent and ~/.ssh
hosts:
{hosts}nginx:
  tls:
    mode: acme # a certificate from Let's Encrypt; others: files, self-signed
    email: {email} # is told when it does not renew
"""
PRIVATE = "    # private: 10.0.0.10 # the address that the other hosts use, if it is another one\n"


def is_next(folder: Path) -> bool:
    """Whether a folder is a Next.js project, by the dependencies in its package.json."""
    try:
        package = json.loads((folder / "package.json").read_text())
        return any("next" in (package.get(kind) or {}) for kind in ("dependencies", "devDependencies"))
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def write_inventory(name: str, machines: "list[Found]", domain: str | None, source: Path | None) -> None:
    """Writes ``inventories/<name>.yml``, valid or not at all.

    Raises Refused when it exists, InventoryError for what the inventory would not accept.
    """
    check_name(name)
    if not machines:
        raise InventoryError("--host: is required. Write the login of the first machine: --host root@203.0.113.10")
    if not domain:
        raise InventoryError("--domain: is required. Write the public host name: --domain shop.example.com")
    if source is None and not is_next(Path()):
        raise InventoryError(f"--source: is required: {Path.cwd()} is no Next.js project. Name it: --source ../my-app")
    source = source or Path()
    if not source.is_dir():
        raise InventoryError(f"--source: there is no folder {source}. Name the one with the Next.js project")
    if len(users := list(dict.fromkeys(machine.user or "root" for machine in machines))) > 1:
        raise InventoryError(f"--host: one user for all machines, not {' and '.join(users)}. See ssh/user")
    path = Path("inventories") / f"{name}.yml"
    _refuse_existing(path)
    project = re.sub(r"[^a-z0-9-]+", "-", source.resolve().name.lower()).strip("-") or "app"
    text = TEXT.format(
        stack=name,
        name=_plain(project if project[0].isalpha() else f"app-{project}"),
        source=_plain(os.path.relpath(source, path.parent)),
        domain=_plain(domain),
        user=_plain(users[0]),
        hosts="".join(_host(machine, hint=at == 1) for at, machine in enumerate(machines)),
        email=_plain(f"webmaster@{domain}"),
    )
    parse(text, path)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    if not is_next(source):
        say(f"  ! {source} is not a Next.js project yet: its package.json has no dependency next")
    phase = "phase1" if len(machines) == 1 else "phase3"
    say(f"{path} is written. Next: provision check {phase} -i {name}, then provision {phase} -i {name}")


def check_name(name: str) -> None:
    """Raises InventoryError for what cannot be the name of an inventory."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise InventoryError(f"'{name}' is not a name for an inventory. Use letters, digits and dashes")


def named(logins: list[str]) -> "list[Found]":
    """Machines by ``user@address``, with names that say what they do, and roles."""
    from roadbed.engine.found import Found, spread

    spots = [login.rpartition("@") for login in logins]
    machines = spread([Found("web-1", address, user=user or None) for user, _, address in spots])
    names: list[str] = []
    for machine in machines:
        kind = "data" if "database" in machine.roles and "web" not in machine.roles else (machine.roles or ("web",))[0]
        names.append(f"{kind}-{sum(name.startswith(kind) for name in names) + 1}")
    return [
        Found(name, each.address, each.private, each.user, each.key, each.roles)
        for name, each in zip(names, machines, strict=True)
    ]


def write_rehearsal() -> None:
    """Writes ``inventories/rehearsal.yml`` and a copy of the sample app in ``storefront/``."""
    path, app = Path("inventories/rehearsal.yml"), Path("storefront")
    _refuse_existing(path)
    _refuse_existing(app)
    path.parent.mkdir(exist_ok=True)
    shutil.copytree(STOREFRONT, app, ignore=shutil.ignore_patterns("node_modules", ".next"))
    path.write_text(REHEARSAL.read_text().replace("../examples/storefront", "../storefront"))
    say(f"{path} and {app}/ are written. Next: provision rehearse")


def _host(machine: "Found", *, hint: bool) -> str:
    lines = [f"  {_plain(machine.name)}:\n", f"    address: {_plain(machine.address)}\n"]
    if machine.private:
        lines.append(f"    private: {_plain(machine.private)}\n")
    elif hint:
        lines.append(PRIVATE)
    if machine.key:
        lines.append(f"    key: {_plain(machine.key)}\n")
    if machine.roles:
        lines.append(f"    roles: [{', '.join(map(_plain, machine.roles))}]\n")
    return "".join(lines)


def _plain(text: str) -> str:
    """A string as YAML, with quotes only where they are needed."""
    import yaml

    return str(yaml.safe_dump(text, width=1000)).removesuffix("...\n").strip()


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise Refused(f"{path}: exists already. Nothing was written; choose another name, or edit it")
