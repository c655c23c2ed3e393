"""The base of every section of a job file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping in a job file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
