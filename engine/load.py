"""Find, read and validate an inventory file. All mistakes at once: path, rule, way out."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .errors import InventoryError
from .inventory import ROLES, Inventory

FOLDER = Path("inventories")
VAGRANT = "vagrant"
"""The name of the inventory that is generated from the machines of the Vagrantfile."""
Location = tuple[int | str, ...]


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key may stand once; PyYAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice. Keep one", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def find(name: str | None, *, fresh: bool = True) -> Path:
    """The file of an inventory: a path, a name in inventories/, or, without a name, the only one there is.

    ``fresh``: that of Vagrant's machines is written anew when they are newer, which asks Vagrant.

    Raises InventoryError, naming the inventories that exist.
    """
    if name is None:
        found = [path for path in _all() if path.stem != "example"]
        if len(found) == 1:
            return found[0]
        raise InventoryError(f"--inventory: which one? {_found()}")
    is_path = "/" in name or name.endswith((".yml", ".yaml"))
    path = Path(name) if is_path else FOLDER / f"{name}.yml"
    if fresh and name == VAGRANT:
        from .vagrant import refresh

        refresh(path)
    if not path.is_file():
        raise InventoryError(f"--inventory: there is no file {path}. {_found(name)}")
    return path


def load(name: str | None, *, fresh: bool = True) -> Inventory:
    """Reads an inventory by name or path; ``fresh`` as in ``find``. Raises InventoryError with every mistake in it."""
    path = find(name, fresh=fresh)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InventoryError(f"{path}: cannot be read: {error}") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Inventory:
    """The inventory in ``text``, as if it stood in ``path``. Raises InventoryError with every mistake in it."""
    raw = _yaml(text, path)
    _give_roles(raw)
    try:
        inventory = Inventory.model_validate(raw)
    except ValidationError as error:
        problems = [f"  {line}" for detail in error.errors() for line in explain(detail, raw)]
        raise InventoryError(f"{path} is not valid:\n" + "\n".join(problems)) from None
    inventory._path = path
    return inventory


def _yaml(text: str, path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InventoryError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(raw, dict):
        raise InventoryError(f"{path}: must be a mapping with app and hosts. See inventories/example.yml")
    return raw


def _give_roles(raw: dict[str, Any]) -> None:
    """A single host without roles does everything a phase needs."""
    hosts = raw.get("hosts")
    if isinstance(hosts, dict) and len(hosts) == 1:
        host = next(iter(hosts.values()))
        if isinstance(host, dict):
            host.setdefault("roles", list(ROLES))


def explain(detail: ErrorDetails, raw: Any) -> list[str]:
    """One pydantic error as ``path: rule. way out``."""
    location, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    where = "/".join(str(part) for part in location) or "inventory"
    value = detail.get("input")
    if kind == "value_error":
        message = str(context.get("error", detail["msg"]))
        own = message.split("\n")
        return own if not location else [f"{where}: {line}" for line in own]
    if kind == "extra_forbidden":
        return [f"{where}: unknown key. {_nearest(location)}"]
    if kind == "missing":
        return [f"{where}: is required"]
    if kind == "literal_error" and "roles" in location:
        return [f"{where}: '{value}' is not a role. Roles: {', '.join(ROLES)}"]
    if kind == "literal_error":
        return [f"{where}: '{value}' is not allowed. Write {context.get('expected')}"]
    if kind == "string_pattern_mismatch":
        return [f"{where}: '{value}' does not have the form {context.get('pattern')}"]
    if kind == "too_short":
        return [f"{where}: is empty. Write at least one"]
    return [f"{where}: {_lower(detail['msg'])}, not {_shown(value)}"]


def _nearest(location: Location) -> str:
    keys = _keys_at(location[:-1])
    close = difflib.get_close_matches(str(location[-1]), keys, n=1)
    return f"Did you mean {close[0]}?" if close else f"Keys here: {', '.join(keys)}"


def _keys_at(location: Location) -> list[str]:
    """The keys a block of the inventory may have."""
    model: Any = Inventory
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    """The model inside ``dict[str, Host]``, ``Host | None`` or ``tuple[Rule, ...]``."""
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation
    found = [_model_in(argument) for argument in getattr(annotation, "__args__", ())]
    models = [item for item in found if isinstance(item, type) and issubclass(item, BaseModel)]
    return models[0] if models else annotation


def _lower(message: str) -> str:
    return message.removeprefix("Input ").rstrip(".")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _all() -> list[Path]:
    return sorted(FOLDER.glob("*.yml"))


def _found(wanted: str | None = None) -> str:
    names = [path.stem for path in _all()]
    if not names:
        return "There is no inventory in inventories/. Write one: provision init"
    close = difflib.get_close_matches(wanted or "", names, n=1)
    return (f"Did you mean {close[0]}? " if close else "") + f"Found: {', '.join(names)}"
