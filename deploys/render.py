"""Render templates/<component>/<path on the host>.j2 to text. No host is needed."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket

from .context import Context

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


class _Compiled(BytecodeCache):
    """Compiled templates, kept in the user's cache as Python keeps modules: compiling takes longer than the rest.

    Jinja checks that an entry is of the same text, Jinja and Python; the options of the environment are in its
    name. Where nothing can be kept, nothing is.
    """

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError), self._file(bucket).open("rb") as file:
            bucket.load_bytecode(file)

    def dump_bytecode(self, bucket: Bucket) -> None:
        path = self._file(bucket)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh.write_bytes(bucket.bytecode_to_string())
            fresh.replace(path)

    @staticmethod
    def _file(bucket: Bucket) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        of = bucket.environment
        options = f"{of.trim_blocks:d}{of.lstrip_blocks:d}{of.keep_trailing_newline:d}"
        return cache / "roadbed" / "templates" / f"{bucket.key}-{options}"


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    bytecode_cache=_Compiled(),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701  (configuration files, not HTML)
)


def render(component: str, dest: str, ctx: Context, **values: Any) -> str:
    """Text of the file ``dest`` (absolute path on the host) of ``component``.

    A template sees ``ctx``, ``inventory``, ``app``, ``settings`` (the component's own block)
    and ``values``. Raises jinja2.UndefinedError for a name that does not exist.
    """
    template = _ENVIRONMENT.get_template(f"{component}{dest}.j2")
    inventory = ctx.inventory
    return template.render(
        ctx=ctx, inventory=inventory, app=inventory.app, settings=getattr(inventory, component), **values
    )
