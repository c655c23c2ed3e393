"""The loaded tasks of one process: each is loaded once and kept as long as the pool exists."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.cascade.watch import AgreementWatch
from jobs.plan.task import TaskPlan
from transforms import registry
from transforms.contract import Annotation, Annotator
from transforms.options import with_fields

if TYPE_CHECKING:
    from transforms.model import Model
    from transforms.rounding import Rounding


class ModelPool:
    """The annotators of a run in this process. Passed to the code that executes shards; threads can share it."""

    def __init__(self) -> None:
        self.loaded: dict[str, Annotator] = {}
        # By the seed of the measurement. They outlive the models: what was seen in this run stays seen.
        self.watches: dict[str, AgreementWatch] = {}
        self.lock = threading.Lock()

    def annotator(self, task: TaskPlan) -> Annotator:
        """A task with its weights, ready to annotate.

        Raises:
            ModelError: the weights do not fit the task.
        """
        with self.lock:
            return self._annotator(task)

    def watch(self, task: TaskPlan) -> AgreementWatch:
        """The watch over the agreement of the models of a cascade."""
        assert task.first is not None
        assert task.first.measured is not None
        assert task.spec.first is not None
        return self.watches.setdefault(task.first.measured.seed, AgreementWatch(task.spec.first.agree))

    def _annotator(self, task: TaskPlan) -> Annotator:
        if task.is_cascade:
            return self._cascade(task)
        # The smaller model of a task may have been left out.
        task = task.large
        key = _key(task)
        if key not in self.loaded:
            self.loaded[key] = load(task)
        if task.budget is not None:
            limit(self.loaded[key], task.max_tokens)
        return self.loaded[key]

    def _cascade(self, task: TaskPlan) -> Annotator:
        """Both models of a task, each loaded once, with the watch over their agreement."""
        from transforms.cascade import Cascade, Checks

        large, small = map(self._annotator, task.each)
        assert task.first is not None
        assert task.first.measured is not None
        assert task.first.threshold is not None
        measured, columns = task.first.measured, list(dict.fromkeys(task.spec.reads))
        checks = Checks(measured.seed, measured.check)
        cascade = Cascade(small, comparing(large), task.first.threshold, checks, self.watch(task))
        return Narrowed(cascade, columns)

    def keep(self, task: TaskPlan, annotator: Annotator) -> None:
        """Take over a task that has been loaded."""
        with self.lock:
            self.loaded[_key(task.large)] = annotator

    def clear(self) -> None:
        """Release every model."""
        self.loaded.clear()


def load(task: TaskPlan) -> Annotator:
    """Load a task with its own model, ready to annotate; it is not kept in a pool.

    Raises:
        ModelError: the weights do not fit the task, or this machine lacks the device that the plan says.
    """
    module = registry.get(task.spec.task)
    if module.ARCHITECTURE is None:
        return _narrowed(module.load(task.spec.options, None, task.max_tokens), task)
    # Imported here because it imports torch and transformers, which takes seconds.
    from transforms import lean

    lean.load()
    from transforms import device
    from transforms import model as models
    from transforms.checkpoint.loading import explaining

    device.check(task.device)
    with explaining(reference := task.reference(), task.spec.task):
        return on(task, models.load(reference, module.ARCHITECTURE))


def rounding(task: TaskPlan) -> Rounding:
    """The model of a task in int8, to be compared with float32.

    Raises:
        ModelError: as `load`.
    """
    # Imported here, as in `load`.
    from transforms import lean

    lean.load()
    from transforms import device
    from transforms.checkpoint.loading import explaining
    from transforms.rounding import Rounding

    device.check(task.device)
    with explaining(reference := task.reference(), task.spec.task):
        return Rounding(reference, registry.get(task.spec.task).ARCHITECTURE or "")


def on(task: TaskPlan, model: Model) -> Annotator:
    """A task on its model, loaded before."""
    module = registry.get(task.spec.task)
    if task.spec.adapter_column is None:
        return _narrowed(module.load(task.spec.options, model, task.max_tokens), task)
    from transforms.by_row.annotator import RowAnnotator

    options, most, column = task.spec.options, task.max_tokens, task.spec.adapter_column
    return _narrowed(RowAnnotator(module, options, model, most, column, task.numbers), task)


def _narrowed(annotator: Annotator, task: TaskPlan) -> Annotator:
    columns = list(dict.fromkeys(task.spec.reads))
    # Only these: rows take over results of rows that are equal in them, so a task must not depend on another column.
    return Narrowed(annotator, columns) if columns else annotator


@dataclass(frozen=True)
class Narrowed:
    """An annotator that sees only the columns that its task reads."""

    annotator: Annotator
    columns: list[str]

    def __call__(self, batch: pa.RecordBatch, **more: Any) -> Annotation:
        """Annotate the rows of a batch that has these columns, and others."""
        return self.annotator(self.narrow(batch), **more)

    def narrow(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch with these columns only."""
        return with_fields(batch, self.columns).select(self.columns)


def comparing(annotator: Annotator) -> Any:
    """A loaded task as `transforms.cascade.Comparing`."""
    return annotator.annotator if isinstance(annotator, Narrowed) else annotator


def limit(annotator: Annotator, max_tokens: int | None) -> None:
    """Let a loaded task compute batches of so many token positions; code of the user without such a limit stays."""
    inner: Any = annotator.annotator if isinstance(annotator, Narrowed) else annotator
    if max_tokens is not None and isinstance(getattr(inner, "max_tokens", None), int):
        inner.max_tokens = max_tokens


def _key(task: TaskPlan) -> str:
    # Neither changes what is loaded.
    return json.dumps(replace(task, agreement=None, budget=None).to_json(), sort_keys=True)
