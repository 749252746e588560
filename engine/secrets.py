"""Secrets of a stack: encrypted with age beside the inventory, never in it.

``inventories/prod.secrets.age`` holds a JSON object and can be committed. The identity (private
key) that opens it is ``~/.config/roadbed/identity.age``, or the file that the environment
variable ROADBED_IDENTITY names; it is made on first use. Format: age v1,
https://age-encryption.org/v1.
"""

import base64
import contextlib
import json
import os
import secrets as random
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import pyrage

from .errors import InventoryError

ACTION_KEY = "action_key"
"""NEXT_SERVER_ACTIONS_ENCRYPTION_KEY: AES key of Server Action arguments, one for all builds of a stack."""


def new_action_key() -> str:
    """32 random bytes in base64: the longest key Next.js accepts (AES-256)."""
    return base64.b64encode(random.token_bytes(32)).decode()


class Secrets:
    """The secrets of one inventory, decrypted in memory when the first one is asked for: a command that needs none,
    such as `maintenance`, works without the identity. All but ``__init__`` raise InventoryError without it."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve() if path.is_symlink() else path  # of an inventory that is played by other machines

    @cached_property
    def _values(self) -> dict[str, str]:
        return self._decrypt() if self.path.exists() else {}

    def get(self, name: str) -> str:
        """A secret. Raises InventoryError that names the command which sets it."""
        try:
            return self._values[name]
        except KeyError:
            raise InventoryError(
                f"app/secrets: {name} has no value in {self.path}. "
                f"Set it: provision secrets set {name} -i {self.path.name.removesuffix('.secrets.age')}"
            ) from None

    def get_or_create(self, name: str, make: Callable[[], str]) -> str:
        """A secret that Roadbed makes by itself the first time."""
        if name not in self._values:
            self.set(name, make())
        return self._values[name]

    def create_missing(self, names: Iterable[str]) -> None:
        """Passwords between the parts of a stack, made the first time: 32 random bytes each, safe in a URL."""
        missing = [name for name in names if name not in self._values]
        if missing:
            self._store({**self._values, **{name: random.token_urlsafe(32) for name in missing}})

    def set(self, name: str, value: str) -> None:
        """Stores a secret; the file is replaced at once or not at all."""
        self._store({**self._values, name: value})

    def remove(self, name: str) -> None:
        """Forgets a secret. Raises InventoryError when there is none of that name."""
        self.get(name)
        self._store({key: value for key, value in self._values.items() if key != name})

    def names(self) -> list[str]:
        """Names of the secrets, without values."""
        return sorted(self._values)

    def __repr__(self) -> str:
        return f"Secrets({self.path})"

    def _store(self, values: dict[str, str]) -> None:
        plain = json.dumps(values, indent=1, sort_keys=True).encode()
        temporary = self.path.with_name(self.path.name + ".new")
        temporary.write_bytes(pyrage.encrypt(plain, [identity().to_public()]))
        temporary.replace(self.path)
        self._values = values

    def _decrypt(self) -> dict[str, str]:
        try:
            values = json.loads(pyrage.decrypt(self.path.read_bytes(), [identity()]))
        except pyrage.DecryptError as error:
            raise InventoryError(
                f"{self.path}: the identity {identity_path()} does not open it ({error}). "
                "Name the right one in ROADBED_IDENTITY, or get it from whoever made the file"
            ) from None
        return {str(name): str(value) for name, value in values.items()}


def identity_path() -> Path:
    """Where the private key is kept."""
    return Path(os.environ.get("ROADBED_IDENTITY") or "~/.config/roadbed/identity.age").expanduser()


def _make_identity(path: Path) -> None:
    """Whole at once, and never over another: two first runs at the same time use the same one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f"{pyrage.x25519.Identity.generate()}\n")
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()


def identity() -> pyrage.x25519.Identity:
    """The private key, made (mode 600) when there is none. Raises InventoryError when the file is none."""
    path = identity_path()
    if not path.exists():
        _make_identity(path)
    try:
        lines = [line for line in path.read_text().split() if line.startswith("AGE-SECRET-KEY-")]
        return pyrage.x25519.Identity.from_str(lines[0])
    except (IndexError, pyrage.IdentityError, OSError):
        raise InventoryError(f"{path}: is not an age identity (a line AGE-SECRET-KEY-1...)") from None
