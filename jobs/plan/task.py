"""A task of a plan: models and adapters at one commit, engine and dtype chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jobs.models.hub import Pin
from jobs.plan.first import FirstPlan
from jobs.spec import TaskSpec
from transforms import registry
from transforms.reference import ModelRef


@dataclass(frozen=True)
class TaskPlan:
    """One task with everything resolved.

    Attributes:
        spec: the job file's entry.
        model: its weights at one commit, or None for a task without a model.
        adapter: the adapter at one commit, or None.
        adapters: name in `adapter_column` -> its adapter at one commit, or None for the model without one; empty if one
            adapter is for all rows.
        dtype: the dtype that the planning machine chose; the job's own setting while no shard is to do.
        engine: likewise.
        device: likewise, such as cpu or cuda; a worker that has no such device refuses the plan. auto while no shard
            is to do.
        was_loaded: an earlier run into the same sink loaded the same models with the same libraries.
        agreement: fraction of a sample of the rows for which int8 and float32 agree; None for other dtypes.
        budget: token positions of a batch that are fastest on the machine that executes the shards; None for the
            default. `max_tokens` of the job is used before it.
        first: the smaller model that answers the rows on which it agrees with this one, or None.
        ranges: for int8 the ranges of the inputs of its linear layers, by layer, which every machine uses; None to find
            them for each batch.
    """

    spec: TaskSpec
    model: Pin | None = None
    adapter: Pin | None = None
    dtype: str = "auto"
    engine: str = "auto"
    device: str = "auto"
    agreement: float | None = None
    was_loaded: bool = False
    adapters: Mapping[str, Pin | None] = field(default_factory=dict)
    budget: int | None = None
    first: FirstPlan | None = None
    ranges: Mapping[str, tuple[float, float]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "spec": self.spec.frozen(),
            "model": self.model and self.model.to_json(),
            "adapter": self.adapter and self.adapter.to_json(),
            "dtype": self.dtype,
            "engine": self.engine,
            "device": self.device,
            "agreement": self.agreement,
            "was_loaded": self.was_loaded,
            "budget": self.budget,
            "ranges": None if self.ranges is None else {name: list(ends) for name, ends in self.ranges.items()},
            "adapters": {name: pin and pin.to_json() for name, pin in self.adapters.items()},
            "first": self.first and self.first.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TaskPlan:
        """The inverse of `to_json`."""
        model, adapter = (Pin(**data[key]) if data[key] else None for key in ("model", "adapter"))
        spec = TaskSpec.model_validate(data["spec"])
        keys = ("dtype", "engine", "device", "agreement", "was_loaded", "budget")
        adapters = {name: Pin(**pin) if pin else None for name, pin in data.get("adapters", {}).items()}
        first = FirstPlan.from_json(data["first"]) if data["first"] else None
        ranges = None if data["ranges"] is None else {name: (low, high) for name, (low, high) in data["ranges"].items()}
        more = {key: data[key] for key in keys}
        return cls(spec, model, adapter, adapters=adapters, first=first, ranges=ranges, **more)

    @property
    def max_tokens(self) -> int | None:
        """Token positions of a batch: what the job says, else what is fastest here; None for the default."""
        return self.spec.max_tokens or self.budget

    @property
    def pins(self) -> list[Pin]:
        """The models and adapters that it may compute rows with, each once."""
        first = [] if self.first is None or self.is_left_out else self.first.pins
        return list(dict.fromkeys(pin for pin in (self.model, self.adapter, *self.adapters.values(), *first) if pin))

    @property
    def is_left_out(self) -> bool:
        """Whether `first` was measured and answers no rows."""
        return self.first is not None and self.first.measured is not None and self.first.threshold is None

    @property
    def is_cascade(self) -> bool:
        """Whether a smaller model answers some of the rows."""
        return self.first is not None and self.first.threshold is not None

    @property
    def large(self) -> TaskPlan:
        """The task without `first`: its own model computes every row."""
        if self.first is None:
            return self
        return replace(self, spec=self.spec.model_copy(update={"first": None}), first=None)

    @property
    def small(self) -> TaskPlan | None:
        """The task with the smaller model in place of its own; None without one."""
        first, asked = self.first, self.spec.first
        if first is None or asked is None:
            return None
        keys = {key: getattr(asked, key) for key in ("model", "revision", "adapter", "adapter_revision", "dtype")}
        spec = self.spec.model_copy(update=keys | {"first": None, "trust_remote_code": None})
        return TaskPlan(spec, first.model, first.adapter, first.dtype, first.engine, first.device)

    @property
    def each(self) -> list[TaskPlan]:
        """The task with each of its models alone."""
        return [self.large, *([small] if (small := self.small) is not None and not self.is_left_out else [])]

    @property
    def numbers(self) -> dict[str, int]:
        """Name in `adapter_column` -> number of its adapter in `reference().adapters`, one for the same adapter."""
        numbers: dict[str | None, int] = {}
        return {name: numbers.setdefault(version, len(numbers)) for name, version in self._versions.items()}

    @property
    def identity(self) -> dict[str, Any]:
        """All settings of the task that can change its output, as the job file has them."""
        trusted = self.spec.trust_remote_code
        by_row = {"adapter_column": self.spec.adapter_column, "adapters": self._versions} if self.adapters else {}
        return (
            ({} if trusted is None else {"trust_remote_code": trusted})
            | by_row
            | self._first_identity
            | {
                "task": self.spec.task,
                "version": registry.version(self.spec.task),
                "options": asdict(self.spec.options),
                "model": self.model and self.model.version,
                "adapter": self.adapter and self.adapter.version,
                # The setting `auto` itself: with its value on this machine, another machine would redo the lake.
                "dtype": self.spec.dtype,
                "engine": self.spec.engine,
            }
        )

    def reference(self, weights: bool = True) -> ModelRef:
        """Folders to load from, downloaded if needed."""
        assert self.model is not None
        adapter = self.adapter.folder(weights) if self.adapter else None
        found: dict[int, str | None] = {}
        for name, number in self.numbers.items():
            if number not in found:
                pin = self.adapters[name]
                found[number] = None if pin is None else pin.folder(weights)
        model = self.model.folder(weights)
        rows, spread = tuple(found.values()), self.spec.device_map
        return ModelRef(
            model, adapter, self.dtype, self.device, self.engine, self.model.code, rows, spread, self.ranges
        )

    @property
    def _first_identity(self) -> dict[str, Any]:
        """Nothing without a threshold: then every row has the values of the task's own model."""
        if self.first is None or self.first.measured is None or self.first.threshold is None:
            return {}
        return {"first": [self.first.key, self.first.measured.seed, self.first.threshold, self.first.measured.check]}

    @property
    def _versions(self) -> dict[str, str | None]:
        return {name: None if pin is None else pin.version for name, pin in self.adapters.items()}
