"""`sink.audit:` in a job file: what holds the rows of a night back until a person approves them."""

from __future__ import annotations

import pydantic
from pydantic import Field

from jobs.spec.section import Section


class AuditSpec(Section):
    """Limits of a night; if one is passed, its rows stay staged, and nothing is published."""

    drift: float | None = Field(
        None,
        gt=0,
        description="maximum population stability index of the labels, the scores or the text lengths of the new rows, "
        "compared with the last 7 nights added up; with few rows the limit is higher, because chance alone moves them",
    )
    rejected: float | None = Field(None, ge=0, le=1, description="maximum fraction of the new rows that were rejected")
    empty: float | None = Field(
        None,
        ge=0,
        le=1,
        description="maximum fraction of null or empty results of a task, of the new rows that have something in the "
        "columns it reads",
    )
    rows: float | None = Field(
        None, ge=0, le=1, description="maximum fraction of the rows of the sink that a night may take away"
    )

    @pydantic.model_validator(mode="after")
    def _limits_something(self) -> AuditSpec:
        if all(getattr(self, key) is None for key in type(self).model_fields):
            raise ValueError("audit limits nothing; give one or more of drift, rejected, empty, rows, or remove audit")
        return self
