"""The parameters of a run as the form of the Prefect UI shows them: title, sentence, choices, limits.

Every type is plain: the UI shows a union such as `int | None` as a switch between "int" and "None", so that what was
not given has a value of its own. Prefect writes a parameter's name over its title, unless the title is in
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
    str, Field(min_length=1), _shown("Job file", "YAML file on the worker: source, tasks, sink, and how they run")
]
Limit = Annotated[
    int,
    Field(ge=0),
    _shown("Row limit", "Enrich at most so many rows; 0 is all of them. Give a trial run a sink.path of its own below"),
]
Dtype = Annotated[
    DtypeChoice,
    _shown("Dtype", "Number format of every model; auto is the fastest that the hardware computes"),
]
Refresh = Annotated[
    RefreshChoice,
    _shown("When a model changed", "redo enriches the finished rows again, keep leaves them; new rows are always done"),
]
Overrides = Annotated[
    list[str], _shown("Overrides", "One key=value a line, as on the command line: source.where=lang = 'en'")
]
DryRun = Annotated[bool, _shown("Dry run", "Only plan: shows what would be done, loads no model, writes nothing")]


def overrides(limit: int, dtype: str, refresh: str, tasks: int) -> list[str]:
    """What was chosen in the form as `key=value` overrides of a job file with so many tasks."""
    chosen = [f"source.limit={limit}"] if limit else []
    if refresh != UNCHANGED:
        chosen.append(f"sink.on_model_change={refresh}")
    if dtype != UNCHANGED:
        chosen += [f"tasks.{i}.dtype={dtype}" for i in range(tasks)]
    return chosen
