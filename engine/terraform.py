"""Hosts out of `terraform output -json` (OpenTofu writes the same).

The output ``hosts`` maps names to addresses, or to objects with ``address`` and, if wanted, ``private``, ``roles``,
``user``. Format: https://developer.hashicorp.com/terraform/cli/commands/output
"""

import json
from pathlib import Path
from typing import Any

from .errors import InventoryError
from .found import Found

KEYS = {"address", "private", "roles", "user"}
EXAMPLE = 'output "hosts" { value = { web-1 = { address = ..., private = ..., roles = ["web"] } } }'


def hosts_of(path: Path) -> list[Found]:
    """The machines in a file. Raises InventoryError when it has none, or what is no machine."""
    try:
        outputs = json.loads(path.read_text())
    except OSError as error:
        raise InventoryError(
            f"--from-terraform: {path} cannot be read: {error.strerror}. Write it: terraform output -json > {path}"
        ) from None
    except ValueError as error:
        raise InventoryError(
            f"--from-terraform: {path} is not JSON: {error}. Write it: terraform output -json > {path}"
        ) from None
    if not isinstance(outputs, dict):
        raise InventoryError(f"--from-terraform: {path} is not what `terraform output -json` writes")
    hosts = outputs.get("hosts")
    value = hosts.get("value", hosts) if isinstance(hosts, dict) else hosts
    if not isinstance(value, dict) or not value:
        there = ", ".join(outputs) or "none"
        raise InventoryError(f"--from-terraform: {path} has no output hosts. Outputs: {there}. Add: {EXAMPLE}")
    return [_machine(name, item) for name, item in value.items()]


def _machine(name: str, item: Any) -> Found:
    where = f"--from-terraform: hosts/{name}"
    if isinstance(item, str):
        return Found(name, item)
    if not isinstance(item, dict) or not isinstance(item.get("address"), str):
        raise InventoryError(f"{where}: has no address. Write: {EXAMPLE}")
    if unknown := set(item) - KEYS:
        raise InventoryError(f"{where}/{min(unknown)}: unknown key. Keys: {', '.join(sorted(KEYS))}")
    for key in ("private", "user"):
        if not isinstance(item.get(key), str | None):
            raise InventoryError(f"{where}/{key}: must be a text. Write: {EXAMPLE}")
    roles = item.get("roles") or []
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise InventoryError(f"{where}/roles: must be a list of names")
    return Found(name, item["address"], item.get("private"), item.get("user"), roles=tuple(roles))
