"""The keys of a job file, and the error messages for wrong ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pydantic
from pydantic import Field

from jobs.spec.complaint import NAME, keys_of, sentence, suggest
from jobs.spec.content import load, refuse_tokens
from jobs.spec.first import FirstSpec
from jobs.spec.prices import PriceSpec
from jobs.spec.review import TASKS, ReviewSpec
from jobs.spec.runner import RunnerSpec
from jobs.spec.schedule import ScheduleSpec, TriggerSpec
from jobs.spec.section import Section
from jobs.spec.sink import DEFAULT_CONFIG, DEFAULT_SPLIT, SinkSpec
from jobs.spec.source import SourceSpec
from jobs.spec.task import TaskSpec
from transforms import registry
from transforms.contract import Task
from transforms.errors import SpecError


class ErrorSpec(Section):
    """How many rows of a run may be rejected."""

    max_fraction: float = Field(
        0.01, ge=0, le=1, description="maximum fraction of rejected rows; one row is always allowed, unless this is 0"
    )
    max_attempts: int = Field(
        3, ge=1, description="how often `nightscribe run --only-rejected` tries the rejected rows of a shard again"
    )


class JobSpec(Section):
    """A job file."""

    name: str = Field(pattern=NAME)
    source: SourceSpec
    tasks: list[TaskSpec] = Field(min_length=1)
    sink: SinkSpec
    errors: ErrorSpec = ErrorSpec()
    runner: RunnerSpec = RunnerSpec()
    description: str | None = Field(None, description="what the job does, in a sentence or two")
    tags: list[str] = Field(default_factory=list, description="tags to search for its runs in Prefect")
    schedule: ScheduleSpec | None = Field(None, description="when Prefect starts the job, after it was deployed")
    trigger: TriggerSpec | None = Field(
        None, description="the event on which Prefect starts the job, after it was deployed"
    )
    review: ReviewSpec | None = Field(None, description="rows of each run that people are asked to label")
    prices: PriceSpec | None = Field(
        None, description="what machines, requests and storage cost, for `nightscribe plan --estimate`"
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _split_is_that_of_the_source(cls, content: Any) -> Any:
        sink = content.get("sink") if isinstance(content, dict) else None
        if not isinstance(sink, dict) or not sink.get("dataset") or sink.get("split") is not None:
            return content
        source = content.get("source")
        split = source.get("split") if isinstance(source, dict) else getattr(source, "split", None)
        return content | {"sink": sink | {"split": split or DEFAULT_SPLIT}}

    @pydantic.model_validator(mode="after")
    def _reads_other_rows_than_it_writes(self) -> JobSpec:
        source, sink = self.source, self.sink
        if sink.table is not None and source.table == sink.table:
            raise ValueError(
                f"source.table and sink.table are both {sink.table!r}, so the next run would read what this one wrote; "
                f"write to another table"
            )
        read = (source.dataset, source.config or DEFAULT_CONFIG, source.split)
        if sink.dataset is not None and read == (sink.dataset, sink.config, sink.split):
            raise ValueError(
                f"source.dataset and sink.dataset are both {sink.dataset!r} with the configuration {sink.config!r} "
                f"and the split {sink.split!r}, so the next run would read what this one wrote; choose another "
                f"sink.config or sink.dataset"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _columns_are_new(self) -> JobSpec:
        seen: dict[str, int] = {}
        for i, item in enumerate(self.tasks):
            if item.into in seen:
                raise ValueError(
                    f"tasks.{i}.into and tasks.{seen[item.into]}.into are both {item.into!r}; choose different names"
                )
            seen[item.into] = i
        return self

    @pydantic.model_validator(mode="after")
    def _review_has_a_task(self) -> JobSpec:
        if self.review is None:
            return self
        known = [item.into for item in self.tasks if item.task in TASKS]
        if not known:
            raise ValueError(f"review needs a task whose labels people can correct: {', '.join(TASKS)}")
        if self.review.into is None and len(known) > 1:
            raise ValueError(f"review.into is missing; choose one of the columns {', '.join(known)}")
        if self.review.into is not None and self.review.into not in known:
            raise ValueError(f"review.into is {self.review.into!r}; columns that can be reviewed: {', '.join(known)}")
        return self

    @property
    def reviewed(self) -> int | None:
        """Index of the task whose results are reviewed; None without a review."""
        if self.review is None:
            return None
        wanted = self.review.into
        return next(i for i, item in enumerate(self.tasks) if item.task in TASKS and wanted in (None, item.into))

    def frozen(self) -> dict[str, Any]:
        """Plain JSON with every default written out."""
        return self.model_dump(mode="json", exclude={"tasks"}) | {"tasks": [task.frozen() for task in self.tasks]}


def read(path: str | Path, overrides: Sequence[str] = ()) -> JobSpec:
    """Read a job file and apply `key=value` overrides.

    Args:
        path: YAML file.
        overrides: such as `source.limit=1000` or `tasks.0.dtype=float32`; values are YAML.

    Raises:
        SpecError: one sentence that says what is wrong, where, and how to correct it.
    """
    content = load(path, overrides, "job file", list(JobSpec.model_fields), "source.limit=1000")
    return parse(content, str(path))


def parse(content: dict[str, Any], origin: str = "job") -> JobSpec:
    """Validate the content of a job file.

    Raises:
        SpecError: one sentence that says what is wrong, where, and how to correct it.
    """
    refuse_tokens(content, origin)
    try:
        spec = JobSpec.model_validate(content)
    except pydantic.ValidationError as error:
        raise SpecError(f"{origin}: {sentence(error, _valid_keys(content))}") from error
    for i, item in enumerate(spec.tasks):
        module = _task(item, f"{origin}: tasks.{i}")
        if module.ARCHITECTURE is not None and item.model is None:
            raise SpecError(f"{origin}: tasks.{i}.model is missing; {item.task} needs a Hub name or a model folder")
        try:
            _ = item.options
        except pydantic.ValidationError as error:
            raise SpecError(f"{origin}: {sentence(error, _valid_keys(content), f'tasks.{i}.')}") from error
        # Options of a user's module may raise any exception, and may have types that YAML cannot express.
        except Exception as error:
            complaint = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise SpecError(f"{origin}: tasks.{i}: Options of {item.task}: {complaint}") from error
    return spec


def _task(item: TaskSpec, place: str) -> Task:
    """The module of a task.

    Raises:
        SpecError: there is none, or a job file cannot set its options.
    """
    if not registry.exists(item.task):
        others = f"{suggest(item.task, registry.names(), 'tasks')}, or a module of your own that Python can import"
        raise SpecError(f"{place}.task is {item.task!r}{others}")
    try:
        module = registry.get(item.task)
    except SpecError as error:
        raise SpecError(f"{place}: {error}") from error
    if taken := [f.name for f in dataclasses.fields(module.Options) if f.name in TaskSpec.model_fields]:
        raise SpecError(f"{place}: Options of {item.task} has a field {taken[0]!r}, a key of every task; rename it")
    return module


def _valid_keys(content: Any) -> list[str]:
    """Every dotted key that a job file may have, the options of its tasks included."""
    keys = list(keys_of(JobSpec))
    tasks = content.get("tasks") if isinstance(content, dict) else None
    for i, item in enumerate(tasks if isinstance(tasks, list) else ()):
        name = item.get("task") if isinstance(item, dict) else None
        # A task that does not exist or cannot be imported is a later error; the wrong key is reported first.
        own = []
        if isinstance(name, str) and registry.exists(name):
            with suppress(SpecError):
                own = [field.name for field in dataclasses.fields(registry.get(name).Options)]
        nested = [f"first.{key}" for key in FirstSpec.model_fields] if name and item.get("first") else []
        keys += [f"tasks.{i}.{key}" for key in (*own, *TaskSpec.model_fields, *nested) if key != "task"]
    return keys
