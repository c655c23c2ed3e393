"""`review:` in a job file: rows of each night that people are asked to label."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.spec.section import Section

# Tasks whose truth people can give, and whose models can be trained on it.
TASKS = ("classify", "ner", "summarize", "translate", "generate")


class ReviewSpec(Section):
    """Which rows are drawn, how many, and where they go."""

    rows: int = Field(gt=0, description="expected number of rows that are drawn from each run")
    by: Literal["mixed", "random", "uncertain"] = Field(
        "mixed",
        description="random: every row has the same chance; uncertain: rows with uncertain scores have a higher one; "
        "mixed: half of each",
    )
    path: str = Field(description="folder or fsspec URL of a folder for the drawn rows and their labels")
    into: str | None = Field(
        None, description="column of the task whose results are reviewed; by default that of the only task"
    )
