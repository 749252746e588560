"""Write the first files of a stack. Nothing that exists is overwritten."""

import json
import os
import re
import shutil
from pathlib import Path

import roadbed
from roadbed.engine.errors import InventoryError, Refused
from roadbed.engine.load import parse

from .style import say

PACKAGE = Path(roadbed.__file__).parent
REHEARSAL = PACKAGE / "inventories/rehearsal.yml"
STOREFRONT = PACKAGE / "examples/storefront"

TEXT = """\
# Every key with its default: provision inventory show, or inventories/example.yml in the repository.
app:
  name: {name}
  source: {source}
  domain: {domain}
ssh:
  user: {user}
hosts:
  {host}:
    address: {address}
nginx:
  tls:
    mode: acme
    email: {email}
"""


def write_inventory(name: str, host: str | None, domain: str | None, source: Path) -> None:
    """Writes ``inventories/<name>.yml``, valid or not at all.

    Raises Refused when it exists, InventoryError for what the inventory would not accept.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise InventoryError(f"'{name}' is not a name for an inventory. Use letters, digits and dashes")
    if not host:
        raise InventoryError("--host: is required. Write the login of the first machine: --host root@203.0.113.10")
    if not domain:
        raise InventoryError("--domain: is required. Write the public host name: --domain shop.example.com")
    if not source.is_dir():
        raise InventoryError(f"--source: there is no folder {source}. Name the one with the Next.js project")
    user, _, address = host.rpartition("@")
    path = Path("inventories") / f"{name}.yml"
    _refuse_existing(path)
    project = re.sub(r"[^a-z0-9-]+", "-", source.resolve().name.lower()).strip("-") or "app"
    text = TEXT.format(
        name=json.dumps(project if project[0].isalpha() else f"app-{project}"),
        source=json.dumps(os.path.relpath(source, path.parent)),
        domain=json.dumps(domain),
        user=json.dumps(user or "root"),
        host="web-1",
        address=json.dumps(address),
        email=json.dumps(f"webmaster@{domain}"),
    )
    parse(text, path)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    say(f"{path} is written. Next: provision check -i {name}, then provision phase1 -i {name}")


def write_rehearsal() -> None:
    """Writes ``inventories/rehearsal.yml`` and a copy of the sample app in ``storefront/``."""
    path, app = Path("inventories/rehearsal.yml"), Path("storefront")
    _refuse_existing(path)
    _refuse_existing(app)
    path.parent.mkdir(exist_ok=True)
    shutil.copytree(STOREFRONT, app, ignore=shutil.ignore_patterns("node_modules", ".next"))
    path.write_text(REHEARSAL.read_text().replace("../examples/storefront", "../storefront"))
    say(f"{path} and {app}/ are written. Next: provision rehearse")


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise Refused(f"{path}: exists already. Nothing was written; choose another name, or edit it")
