"""What of the user's own runs around a release: commands on the control machine (``releases/hooks.py`` runs them)."""

from typing import Literal, get_args

from pydantic import Field, field_validator

from .environment import CONTROL
from .model import Settings

Hook = Literal["before_build", "after_build", "before_switch", "after_switch", "on_failure"]
HOOKS: tuple[Hook, ...] = get_args(Hook)
GATES: tuple[Hook, ...] = ("before_build", "after_build", "before_switch")
"""Hooks that stop what they stand before. The others tell somebody, and are never waited for longer than NOTICE."""
NOTICE = 60
"""Seconds that a hook which only tells somebody may take: a rollout that is over must not hang on a chat server."""


def one_command(value: str | None) -> str | None:
    """A command line of an inventory. Raises ValueError when it is empty or more than a line."""
    if value is not None and (not value.strip() or CONTROL.search(value) or "\n" in value):
        raise ValueError("must be one command line, such as npm run migrate. Leave it out to run none")
    return value


class HooksSettings(Settings):
    """Commands of yours around a release, run on the control machine."""

    before_build: str | None = Field(
        None, description="Before next build, in the copy of the project that is built. Failing stops the build."
    )
    after_build: str | None = Field(
        None, description="After next build, in that copy, with .next in it. Failing stops the build."
    )
    before_switch: str | None = Field(
        None, description="When the new instances are healthy, before any request goes to them. Failing stops it."
    )
    after_switch: str | None = Field(
        None, description="When the release is current. Failing is a warning. At most 60 seconds."
    )
    on_failure: str | None = Field(
        None, description="When a build or a rollout stopped. Failing is a warning. At most 60 seconds."
    )
    timeout: int = Field(300, ge=1, le=3600, description="Longest time in seconds that the first three may take each.")

    @field_validator(*HOOKS)
    @classmethod
    def _one_command(cls, value: str | None) -> str | None:
        return one_command(value)

    def seconds(self, hook: Hook) -> int:
        """How long a hook may take."""
        return self.timeout if hook in GATES else NOTICE
