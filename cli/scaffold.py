"""Write the first files of a stack. Nothing that exists is overwritten."""

import shutil
from pathlib import Path

import yaml

import roadbed
from roadbed.engine.errors import InventoryError, Refused

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


def write_inventory(name: str, host: str | None, domain: str, source: Path) -> None:
    """Writes ``inventories/<name>.yml``. Raises Refused when it exists, InventoryError for a host without address."""
    if not host:
        raise InventoryError(
            "--host: is required. Write the login of the first machine, such as --host root@203.0.113.10"
        )
    user, _, address = host.rpartition("@")
    path = Path("inventories") / f"{name}.yml"
    _refuse_existing(path)
    path.parent.mkdir(exist_ok=True)
    project = source.resolve().name.lower().replace("_", "-").strip("-") or "app"
    path.write_text(
        TEXT.format(
            name=project,
            source=yaml.safe_dump(str(source.resolve())).splitlines()[0],
            domain=domain,
            user=user or "root",
            host="web-1",
            address=address,
            email=f"webmaster@{domain}",
        )
    )
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
