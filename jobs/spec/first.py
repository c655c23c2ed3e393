"""The section `first` of a task: a smaller model that answers the rows on which it certifiably agrees with the task's.

Source: a cascade whose threshold is certified on the job's own rows; see `jobs.cascade.certify`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.spec.section import Section

# Tasks whose rows two models answer alike or not.
TASKS = ("classify", "ner", "zero_shot")


class FirstSpec(Section):
    """A smaller model that is asked first, and the promise that its answers keep."""

    model: str = Field(description="the smaller model: its name on the Hub, or a folder")
    revision: str | None = Field(None, description="branch, tag or commit of a Hub model; by default its main branch")
    adapter: str | None = Field(None, description="PEFT adapter over it: its name on the Hub, or a folder")
    adapter_revision: str | None = Field(
        None, description="branch, tag or commit of a Hub adapter; by default its main branch"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto", description="number format of its computation, as the task's dtype"
    )
    agree: float = Field(
        0.99,
        gt=0,
        lt=1,
        description="of the rows that it answers, the least fraction on which it agrees with the task's model: the "
        "same label, for ner the same entities",
    )
    confidence: float = Field(
        0.95, gt=0, lt=1, description="probability with which that is so, over the draw of the rows it is measured on"
    )
