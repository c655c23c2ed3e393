"""The parameters of a run as the form of the Prefect UI shows them: titles, descriptions, choices, limits.

Every type is simple: the UI shows a union such as `int | None` as a switch between "int" and "None", so a special value
means "not given". Prefect writes a parameter's name over its title, unless the title is in
`json_schema_extra`. A `model_validator` would never run in the form; limits and choices do.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

UNCHANGED: Final = "as the job file says"

DtypeChoice = Literal["as the job file says", "auto", "float32", "bfloat16", "float16", "int8"]
RefreshChoice = Literal["as the job file says", "redo", "keep"]


def _shown(title: str, description: str) -> Any:
    return Field(json_schema_extra={"title": title, "description": description})


Job = Annotated[
    str, Field(min_length=1), _shown("Job file", "YAML file on the worker: the source, the tasks and the sink")
]
TrainingFile = Annotated[
    str, Field(min_length=1), _shown("Training file", "YAML file on the worker: the base, the labels and the registry")
]
Limit = Annotated[
    int,
    Field(ge=0),
    _shown(
        "Row limit", "Maximum number of rows to enrich; 0 means all rows. Give a trial run a sink.path of its own below"
    ),
]
Dtype = Annotated[
    DtypeChoice,
    _shown("Dtype", "Number format of every model; auto is the fastest one that the hardware supports"),
]
Refresh = Annotated[
    RefreshChoice,
    _shown(
        "When a model changed",
        "redo enriches the finished rows again, keep leaves them unchanged; new rows are always enriched",
    ),
]
Overrides = Annotated[
    list[str],
    _shown(
        "Overrides",
        "One key=value per item, as on the command line: source.where=lang = 'en', and with it a second item "
        "sink.path=lake/trial, so that the trial has a sink of its own",
    ),
]
DryRun = Annotated[bool, _shown("Dry run", "Plan only: shows what a run would do, loads no model, writes nothing")]


def overrides(limit: int, dtype: str, refresh: str, tasks: int) -> list[str]:
    """The choices in the form as `key=value` overrides of a job file with this number of tasks."""
    chosen = [f"source.limit={limit}"] if limit else []
    if refresh != UNCHANGED:
        chosen.append(f"sink.on_model_change={refresh}")
    if dtype != UNCHANGED:
        chosen += [f"tasks.{i}.dtype={dtype}" for i in range(tasks)]
    return chosen
