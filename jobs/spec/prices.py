"""The section `prices`: what machines, requests and storage cost, for `nightscribe plan --estimate`."""

from __future__ import annotations

from pathlib import Path

import pydantic
from pydantic import Field

from jobs.spec.complaint import keys_of, sentence
from jobs.spec.content import load
from jobs.spec.section import Section
from transforms.errors import SpecError


class PriceSpec(Section):
    """Prices; what has none is left out of the cost."""

    currency: str = Field("EUR", min_length=1, description="currency of the prices, for display")
    worker_hour: float | None = Field(None, ge=0, description="price of a machine for an hour")
    request_1000: float | None = Field(None, ge=0, description="price of 1,000 requests to the object store")
    gb_month: float | None = Field(None, ge=0, description="price of storing a GB (1e9 bytes) of rows for a month")


def read(path: str | Path) -> PriceSpec:
    """Read a file that has the keys of the section at its top.

    Raises:
        SpecError: one sentence that says what is wrong, where, and how to correct it.
    """
    content = load(path, (), "file of prices", list(PriceSpec.model_fields), "worker_hour=0.4")
    try:
        return PriceSpec.model_validate(content)
    except pydantic.ValidationError as error:
        raise SpecError(f"{path}: {sentence(error, list(keys_of(PriceSpec)))}") from error
