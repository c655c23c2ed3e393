"""The keys of a job file, and the error messages for wrong ones."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from jobs.spec.complaint import keys_of, sentence, suggest
from jobs.spec.content import load, refuse_tokens
from jobs.spec.review import TASKS, ReviewSpec
from jobs.spec.schedule import ScheduleSpec, TriggerSpec
from jobs.spec.section import Section
from jobs.spec.sink import DEFAULT_CONFIG, DEFAULT_SPLIT, SinkSpec
from jobs.spec.source import SourceSpec
from transforms import registry
from transforms.contract import Task
from transforms.errors import SpecError
from transforms.options import columns_read

# In `adapters`: the model without an adapter; and the name for rows whose own is not in the map.
BASE, DEFAULT = "base", "default"

Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]


class TaskSpec(BaseModel):
    """One model task; other keys are the task's own options (`nightscribe tasks` lists them)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    task: str
    into: str = Field(description="name of the new column")
    model: str | None = Field(
        None, description="the model: its name on the Hub (org/name, org/name:subfolder), or a folder"
    )
    revision: str | None = Field(None, description="branch, tag or commit of a Hub model; by default its main branch")
    adapter: str | None = Field(None, description="PEFT adapter over the model: its name on the Hub, or a folder")
    adapter_revision: str | None = Field(
        None, description="branch, tag or commit of a Hub adapter; by default its main branch"
    )
    adapter_column: str | None = Field(
        None,
        description="column that names the adapter of each row, a key of adapters; rows of several adapters are "
        "computed together over one base",
    )
    adapters: dict[str, str] | None = Field(
        None,
        description="name in adapter_column -> its adapter, as in adapter, or base for the model without one; the name "
        "default is for all other rows, which are rejected without it",
    )
    trust_remote_code: str | None = Field(
        None,
        pattern="^[0-9a-f]{40}$",
        description="commit of the model whose own code may be run, after you have read it",
    )
    dtype: Dtype = Field(
        "auto",
        description="number format of the computation; auto is the faster of float32 and bfloat16 on a CPU, half "
        "precision on a GPU",
    )
    min_agreement: float = Field(
        0.98, ge=0, le=1, description="for dtype int8: minimum share of sampled rows with the same result as in float32"
    )
    engine: Literal["auto", "torch", "onnx"] = Field(
        "auto",
        description="library that computes the model: torch, or onnx (ONNX Runtime, float32 on a CPU); auto is torch",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="device of the computation: auto (a GPU if there is one), cpu, mps, cuda, or cuda:1, a second GPU",
    )
    device_map: Literal["auto", "balanced", "sequential"] | None = Field(
        None,
        description="spread a model that is too large for one GPU over all of them, then memory, then disk: auto and "
        "balanced fill the GPUs evenly, sequential one after the other; by default it is on one device",
    )
    max_tokens: int | None = Field(
        None,
        gt=0,
        description="maximum number of tokens in a batch, including padding; by default it depends on the device",
    )

    @pydantic.field_validator("adapters", mode="before")
    @classmethod
    def _adapters_are_named(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if not given:
            raise ValueError("no adapter is named; give at least one name with its adapter, such as default: base")
        if nameless := [name for name, adapter in given.items() if adapter is None]:
            raise ValueError(f"{nameless[0]} has no adapter; write {nameless[0]}: {BASE} for the model without one")
        # YAML reads 17 and yes as a number and a boolean.
        return {_as_text(name): adapter for name, adapter in given.items()}

    @pydantic.model_validator(mode="after")
    def _one_way_to_name_adapters(self) -> TaskSpec:
        keys = {"adapter_column": self.adapter_column, "adapters": self.adapters}
        given, missing = ([key for key, value in keys.items() if (value is None) == absent] for absent in (False, True))
        if not given:
            return self
        if missing:
            raise ValueError(f"{given[0]} needs {missing[0]}: a column with names, and an adapter for each name")
        for key in ("adapter", "adapter_revision"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key} and adapters cannot both be given; write it into adapters as default")
        if self.engine == "onnx":
            raise ValueError(
                "engine onnx computes all rows with one adapter; use engine: auto for adapters by row (adapter_column)"
            )
        return self

    @property
    def reads(self) -> list[str]:
        """The columns that the task reads, that of the adapters included."""
        columns = columns_read(self.options)
        return columns if self.adapter_column in (None, *columns) else [*columns, str(self.adapter_column)]

    @property
    def options(self) -> Any:
        """The task's own options, an instance of its `Options`."""
        validated = options_adapter(self.task).validate_python(self.model_extra or {})
        # Pydantic validates with its own subclass; the task gets the plain dataclass, which can be pickled.
        return registry.get(self.task).Options(**vars(validated))

    def frozen(self) -> dict[str, Any]:
        """Plain JSON with every default written out, the task's own included."""
        return self.model_dump(include=set(type(self).model_fields)) | dataclasses.asdict(self.options)


class ErrorSpec(Section):
    """How many rows of a run may be rejected."""

    max_fraction: float = Field(
        0.01, ge=0, le=1, description="maximum fraction of rejected rows; one row is always allowed, unless this is 0"
    )


class RunnerSpec(Section):
    """Which Beam runner executes the plan."""

    name: str = Field("local", description="local, or any Beam runner by name or dotted path")
    workers: int | Literal["auto"] = Field("auto", description="number of processes of the local runner; auto is one")
    options: dict[str, Any] = Field(default_factory=dict, description="Beam pipeline options, passed on unchanged")

    @pydantic.field_validator("workers")
    @classmethod
    def _positive(cls, workers: int | str) -> int | str:
        if isinstance(workers, int) and workers < 1:
            raise ValueError(f"{workers} is not a number of workers; give 1 or more, or auto")
        return workers


class JobSpec(Section):
    """A job file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
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


def _as_text(name: Any) -> str:
    """A key of YAML as the text that a column has."""
    return str(name).lower() if isinstance(name, bool) else str(name)


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


def options_adapter(task: str) -> pydantic.TypeAdapter[Any]:
    """A validator of a task's options; unknown keys are errors."""
    return _strict_adapter(registry.get(task).Options)


@functools.cache
def _strict_adapter(options: Any) -> pydantic.TypeAdapter[Any]:
    # Once for each class: a run asks for every shard, and making it takes milliseconds.
    strict = pydantic.dataclasses.dataclass(options, config=ConfigDict(extra="forbid"), frozen=True)
    return pydantic.TypeAdapter(strict)


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
        keys += [f"tasks.{i}.{key}" for key in (*own, *TaskSpec.model_fields) if key != "task"]
    return keys
