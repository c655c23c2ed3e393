"""`gate:` in a training file."""

from __future__ import annotations

from pydantic import Field

from jobs.spec.section import Section


class GateSpec(Section):
    """When a challenger replaces the champion."""

    metric: str | None = Field(None, description="metric of the floor and the report; by default that of the task")
    floor: float = Field(0.0, ge=0, le=1, description="smallest value of the metric on the holdout, for any version")
    min_agreement: float = Field(
        0.9,
        gt=0,
        le=1,
        description="distill: smallest agreement of the student with its teacher on the holdout; the lower end of the "
        "confidence interval counts",
    )
    min_gain: float = Field(0.0, ge=0, lt=1, description="smallest gain over the champion that must be proven")
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="1 minus the expected share of promotions, over all nights, whose version is no better",
    )
    max_slice_drop: float = Field(
        0.05, ge=0, le=1, description="largest loss that is allowed on a slice, in the unit of the gain"
    )
    max_latency: float | None = Field(
        None,
        gt=0,
        description="largest computing time of the challenger, as a multiple of the champion's; measured in repeated "
        "passes in turn, on a holdout of 32 rows or more",
    )
