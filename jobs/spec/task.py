"""A section of `tasks` in a job file: the keys that all tasks have, and the task's own options."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from jobs.spec.complaint import COMMIT, DEVICE
from jobs.spec.first import TASKS, FirstSpec
from transforms import registry
from transforms.options import columns_read

# In `adapters`: the model without an adapter; and the name for rows whose own is not in the map.
BASE, DEFAULT = "base", "default"

Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]


class TaskSpec(BaseModel):
    """One model task; other keys are the task's own options (`nightscribe tasks` lists them)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    task: str
    into: str = Field(min_length=1, description="name of the new column")
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
        pattern=COMMIT,
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
        pattern=DEVICE,
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
        description="maximum number of tokens in a batch, including padding; by default what is fastest on this "
        "machine, which long jobs measure and short ones take from them",
    )

    first: FirstSpec | None = Field(
        None,
        description="a smaller model that answers the rows on which it agrees with this one, as far as a sample of the "
        "job's rows certifies it; the other rows go on to this model",
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

    @pydantic.model_validator(mode="after")
    def _first_has_a_second(self) -> TaskSpec:
        if self.first is None:
            return self
        if self.task not in TASKS:
            raise ValueError(f"first is for {', '.join(TASKS)}, and task is {self.task!r}; leave out first")
        for key in ("adapter_column", "device_map"):
            if getattr(self, key) is not None:
                raise ValueError(f"first and {key} cannot both be given; leave out one of the two")
        if self.first.model == self.model:
            raise ValueError(f"first.model is {self.model!r}, which is also model; give a smaller model of its own")
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


def options_adapter(task: str) -> pydantic.TypeAdapter[Any]:
    """A validator of a task's options; unknown keys are errors."""
    return _strict_adapter(registry.get(task).Options)


@functools.cache
def _strict_adapter(options: Any) -> pydantic.TypeAdapter[Any]:
    # Once for each class: a run asks for every shard, and making it takes milliseconds.
    strict = pydantic.dataclasses.dataclass(options, config=ConfigDict(extra="forbid"), frozen=True)
    return pydantic.TypeAdapter(strict)


def _as_text(name: Any) -> str:
    """A key of YAML as the text that a column has."""
    return str(name).lower() if isinstance(name, bool) else str(name)
