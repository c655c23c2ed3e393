"""The interface of a task: a module that declares its input and output, and loads the function that computes it.

A task module begins with a docstring that names its source, and has

    ARCHITECTURE   the class that loads its weights, by name: one of transformers
                   (`AutoModelForTokenClassification`), or `module:Class`; None for a task without a model
    VERSION        an integer, raised whenever the same rows and weights would give another output
    Options        a frozen dataclass; its typed fields are the task's keys in a job file
    check          (Options, PretrainedConfig | None) -> None; refuses a model that cannot do the task
    output_type    (Options, PretrainedConfig | None) -> the Arrow type of its column
    load           (Options, Model (None without ARCHITECTURE), max_tokens) -> an Annotator

Everything except `load` is used when a job file is read and planned, so a task module imports neither torch nor
transformers at its top; `load` imports them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Failure:
    """A row that makes a task raise, even when it is computed alone.

    Attributes:
        row: its index in the batch.
        error_type: class name of the exception.
        message: message of the exception.
    """

    row: int
    error_type: str
    message: str


def failures_of(errors: Mapping[int, Exception]) -> list[Failure]:
    """The failures of a batch, in the order of its rows.

    Args:
        errors: row -> the exception that it raised.
    """
    return [Failure(row, type(error).__name__, str(error)) for row, error in sorted(errors.items())]


@dataclass(frozen=True)
class Annotation:
    """The result of a task for a RecordBatch.

    Attributes:
        values: one value per row; null where the text is null or empty, or where the row failed.
        failures: the rows that made the task raise.
        tokens: real tokens computed.
        padded_tokens: tokens computed, padding included.
        confidence: how sure the model is of the decision on each row, `(rows,)`, nan where there is no value; None for
            a task without decisions.
        asked: what became of the rows that a smaller model was asked first; None without one.
        cut_at: the tokens after which the input of each row was cut, `(rows,)`; 0 where it lost none, and where there
            is no value. None for a task that cuts nothing, or does not say.
    """

    values: pa.Array
    failures: Sequence[Failure] = ()
    tokens: int = 0
    padded_tokens: int = 0
    confidence: NDArray[np.floating[Any]] | None = field(default=None, compare=False)
    asked: Asked | None = None
    cut_at: NDArray[np.int32] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Truncated:
    """How many inputs were longer than a model's window, and lost tokens there.

    Only rows that were computed and have a value are counted, and each of them: a text that ten rows have counts ten
    times, although it is computed once. Results of older part files say nothing about the length of their inputs.

    Attributes:
        rows: rows that were computed.
        cut: those of them whose input lost at least one token.
        max_lengths: the tokens after which these were cut; several if models with several windows answered.
    """

    rows: int = 0
    cut: int = 0
    max_lengths: tuple[int, ...] = ()

    @classmethod
    def of(cls, computed: Annotation) -> Truncated | None:
        """The numbers of an annotation of which every row was computed; None if its task does not say."""
        if computed.cut_at is None:
            return None
        cut = computed.cut_at[computed.cut_at > 0]
        rows = len(computed.values) - computed.values.null_count
        return cls(rows, len(cut), tuple(np.unique(cut).tolist()))

    def __add__(self, other: Truncated) -> Truncated:
        lengths = {*self.max_lengths, *other.max_lengths}
        return Truncated(self.rows + other.rows, self.cut + other.cut, tuple(sorted(lengths)))


@dataclass(frozen=True)
class Asked:
    """What became of rows that a smaller model is asked first; rows without a value are not counted.

    Attributes:
        rows: all of them.
        answered: those that have its answer, or the other model's because they were checked.
        checked: those of the answered ones that both models computed.
        agreed: those of the checked ones on which both models agree.
    """

    rows: int = 0
    answered: int = 0
    checked: int = 0
    agreed: int = 0

    def __add__(self, other: Asked) -> Asked:
        return Asked(
            self.rows + other.rows,
            self.answered + other.answered,
            self.checked + other.checked,
            self.agreed + other.agreed,
        )


class Annotator(Protocol):
    """A loaded task: a RecordBatch in, one value for each of its rows out."""

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Annotate every row."""
        ...


class Task(Protocol):
    """The interface of a task module, such as those in transforms/tasks/."""

    ARCHITECTURE: str | None
    VERSION: int
    Options: type

    def check(self, options: Any, config: PretrainedConfig | None) -> None:
        """Refuse a model that cannot do the task."""
        ...

    def output_type(self, options: Any, config: PretrainedConfig | None) -> pa.DataType:
        """The Arrow type of its column."""
        ...

    def load(self, options: Any, model: Any, max_tokens: int | None = None) -> Annotator:
        """The task on a loaded model, ready to annotate."""
        ...
