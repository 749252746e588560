"""Base of every settings model: unknown keys are errors and values never change."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """One block of the inventory. A misspelt key is refused, and the object is read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True)
