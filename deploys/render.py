"""Render templates/<component>/<path on the host>.j2 to text. Pure: no host is needed."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .context import Context

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
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
