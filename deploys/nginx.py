"""Nginx."""

from typing import TYPE_CHECKING

from .model import Settings

if TYPE_CHECKING:
    from .context import Context

ROLES = ("*",)
NEEDS: tuple[str, ...] = ()


class NginxSettings(Settings):
    """..."""


def deploy(ctx: "Context") -> None:
    raise NotImplementedError
