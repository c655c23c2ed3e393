"""What a task is: one module in transforms/tasks/; the file name is the registration.

A task module opens with its source and has

    ARCHITECTURE   the transformers auto class that loads its weights, or None for a task without a model
    VERSION        an integer, raised whenever the same rows and weights would give another output
    Options        a frozen dataclass; its typed fields are the task's keys in a job file
    check          (Options, PretrainedConfig | None) -> None; refuses a model that cannot do the task
    output_type    (Options, PretrainedConfig | None) -> the Arrow type of its column
    load           (Options, Model (None without ARCHITECTURE), max_tokens) -> an Annotator
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PretrainedConfig

from transforms import batches, tasks
from transforms.errors import ModelError, SpecError
from transforms.generation import prompt

R = TypeVar("R")
ColumnKind = Literal["text", "list<string>"]


@dataclass(frozen=True)
class Failure:
    """A row that breaks a task, alone and reproducibly.

    Attributes:
        row: its index in the batch.
        error_type: class name of the exception.
        message: what the exception says.
    """

    row: int
    error_type: str
    message: str


@dataclass(frozen=True)
class Annotation:
    """What a task gives for a RecordBatch.

    Attributes:
        values: one value a row; null where the text is null or empty, or where the row failed.
        failures: the rows that broke the task.
        tokens: real tokens computed.
        padded_tokens: slots computed, padding included.
    """

    values: pa.Array
    failures: Sequence[Failure] = ()
    tokens: int = 0
    padded_tokens: int = 0


class Annotator(Protocol):
    """A loaded task: a RecordBatch in, one value for each of its rows out."""

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Annotate every row."""
        ...


class Task(Protocol):
    """The shape of a module in transforms/tasks/."""

    ARCHITECTURE: Any
    VERSION: int
    Options: type
    check: Callable[[Any, PretrainedConfig | None], None]
    output_type: Callable[[Any, PretrainedConfig | None], pa.DataType]
    load: Callable[[Any, Any, int | None], Annotator]


def names() -> list[str]:
    """Every task there is, by file name."""
    return sorted(module.name for module in pkgutil.iter_modules(tasks.__path__))


def get(name: str) -> Task:
    """The task module of that name.

    Raises:
        SpecError: there is no such task.
    """
    if name not in names():
        raise SpecError(f"task {name!r} is not known; tasks: {', '.join(names())}")
    return importlib.import_module(f"{tasks.__name__}.{name}")


def columns_read(options: Any) -> list[str]:
    """The columns that a task reads."""
    return [column for column, _ in column_kinds(options)]


def column_kinds(options: Any) -> list[tuple[str, ColumnKind]]:
    """The columns that a task reads, each with what it must hold.

    They are what its `column_field`s hold, and what its `template_field`s name in braces.
    """
    fields = ((f.metadata, getattr(options, f.name)) for f in dataclasses.fields(options))
    values = [(metadata, value) for metadata, value in fields if value is not None]
    columns = [(value, metadata["column"]) for metadata, value in values if metadata.get("column")]
    templates = [value for metadata, value in values if metadata.get("template")]
    text: ColumnKind = "text"
    return [*columns, *((name, text) for template in templates for name in prompt.columns(template))]


def column_field(doc: str, kind: ColumnKind = "text", **default: Any) -> Any:
    """An option that names a column which the task reads; required unless `default=None`."""
    return field(metadata={"column": kind, "doc": doc}, **default)


def template_field(doc: str) -> Any:
    """An option that is a text with {column} where a text column goes; not required."""
    return field(default=None, metadata={"template": True, "doc": doc})


def with_fields(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """The batch with a column for each `struct.field` among the columns that a task reads; null where any part is."""
    for column in columns:
        if column not in batch.schema.names:
            name, *path = column.split(".")
            batch = batch.append_column(column, pc.struct_field(batch.column(name), path))
    return batch


def require_head(config: PretrainedConfig | None, suffix: str, task: str) -> None:
    """Refuse a model whose config.json names an architecture without the head that a task needs.

    Raises:
        ModelError: the architectures are known and none of them has `suffix` in its name (XLNet's question answering
            head is a …ForQuestionAnsweringSimple).
    """
    architectures = getattr(config, "architectures", None) or []
    if architectures and not any(suffix in name for name in architectures):
        raise ModelError(
            f"{task} needs a model with a head (…{suffix}), and this one is a {', '.join(architectures)}; "
            f"choose a model that was trained for {task}, or add an adapter that brings the head"
        )


class Indexed(Protocol):
    """What a task makes of a row that it annotates."""

    @property
    def index(self) -> int:
        """Where the row is in the batch."""
        ...


AnyRow = TypeVar("AnyRow", bound=Indexed)


@dataclass(frozen=True)
class Row:
    """One text to annotate: its index in the batch and its code points."""

    index: int
    text: str


def annotate_texts(
    texts: pa.Array,
    tokenise: Callable[[list[Row]], list[tuple[Row, Any]]],
    length: Callable[[Any], int],
    compute: Callable[[list[Any]], Any],
    max_tokens: int,
    caps: batches.Caps,
) -> tuple[dict[int, list[tuple[Any, np.ndarray]]], list[Failure], int, int]:
    """`annotate_rows` for a task that reads one text: a string-like Arrow array, null and empty texts left out.

    A text that several rows have is computed once, and counted once.
    """
    same: dict[str, list[int]] = {}
    for i, text in enumerate(texts.to_pylist()):
        if text:
            same.setdefault(text, []).append(i)
    rows = [Row(indices[0], text) for text, indices in same.items()]
    gathered, failures, tokens, padded_tokens = annotate_rows(rows, tokenise, length, compute, max_tokens, caps)
    others = {indices[0]: indices[1:] for indices in same.values() if len(indices) > 1}
    for first in others.keys() & gathered.keys():
        gathered |= dict.fromkeys(others[first], gathered[first])
    failures += [replace(failure, row=i) for failure in failures for i in others.get(failure.row, ())]
    return gathered, sorted(failures, key=lambda failure: failure.row), tokens, padded_tokens


def annotate_rows(
    rows: list[AnyRow],
    tokenise: Callable[[list[AnyRow]], list[tuple[AnyRow, Any]]],
    length: Callable[[Any], int],
    compute: Callable[[list[Any]], Any],
    max_tokens: int,
    caps: batches.Caps,
    piece_rows: int = batches.PIECE_ROWS,
) -> tuple[dict[int, list[tuple[Any, np.ndarray]]], list[Failure], int, int]:
    """The walk that every encoder task shares: tokenise ahead, batch by budget, forward, gather by row.

    Args:
        rows: the rows that have something to annotate.
        tokenise: rows -> (row, sequence) pairs; a long text may give several sequences (windows), and a row that the
            task must refuse gives an exception in place of a sequence.
        length: sequence -> its tokens.
        compute: the sequences of one batch -> tensor `(batch, ...)`.
        max_tokens: slots a batch may have.
        caps: memory limits learnt so far.
        piece_rows: rows tokenised and sorted together; fewer for a task that makes many sequences of a row.

    Returns:
        row index -> its (sequence, float32 output) pairs in order, for rows that did not fail; the failures; tokens;
        padded tokens.
    """
    pieces = (rows[i : i + piece_rows] for i in range(0, len(rows), piece_rows))
    gathered: dict[int, list[tuple[Any, np.ndarray]]] = {}
    failed: dict[int, Exception] = {}
    tokens = padded_tokens = 0
    for sequences, broken in batches.ahead(_tokenised(piece, tokenise) for piece in pieces):
        failed.update(broken | {row.index: s for row, s in sequences if isinstance(s, Exception)})
        sequences = [(row, s) for row, s in sequences if not isinstance(s, Exception)]
        units = [sequence for _, sequence in sequences]
        outcome = batches.run([length(unit) for unit in units], partial(_compute, units, compute), max_tokens, caps)
        tokens += outcome.tokens
        padded_tokens += outcome.padded_tokens
        for i, (row, sequence) in enumerate(sequences):
            if (output := outcome.outputs[i]) is None:
                failed.setdefault(row.index, outcome.failures[i])
            else:
                gathered.setdefault(row.index, []).append((sequence, output))
    for row_index in failed:
        gathered.pop(row_index, None)
    failures = [Failure(row, type(error).__name__, str(error)) for row, error in sorted(failed.items())]
    return gathered, failures, tokens, padded_tokens


def _compute(units: list[Any], compute: Callable[[list[Any]], Any], batch: np.ndarray) -> Any:
    return compute([units[i] for i in batch])


def _tokenised(
    rows: list[AnyRow], tokenise: Callable[[list[AnyRow]], list[tuple[AnyRow, R]]]
) -> tuple[list[tuple[AnyRow, R]], dict[int, Exception]]:
    """Tokenise rows together; if that raises, find the rows that raise alone."""
    try:
        return tokenise(rows), {}
    except Exception as error:
        if len(rows) == 1:
            return [], {rows[0].index: error}
    middle = len(rows) // 2
    left, left_broken = _tokenised(rows[:middle], tokenise)
    right, right_broken = _tokenised(rows[middle:], tokenise)
    return left + right, left_broken | right_broken


def typed_labels(config: PretrainedConfig) -> list[str]:
    """Label names in the order of the logits."""
    names: Any = config.id2label
    return [str(names[i]) for i in sorted(names)]


def describe_options(options: type) -> Iterator[str]:
    """Every option as a job file would have it: name, choices, default."""
    types = get_type_hints(options)
    for f in dataclasses.fields(options):
        default = (
            "required" if f.default is dataclasses.MISSING else f"default {'none' if f.default is None else f.default}"
        )
        yield f"{f.name}: {_choices(types[f.name])} ({default})"


def _choices(type_: Any) -> str:
    if get_origin(type_) is Literal:
        return " | ".join(map(str, get_args(type_)))
    if get_origin(type_) is dict:
        return "mapping"
    if get_origin(type_) in (list, tuple):
        return f"list of {_choices(get_args(type_)[0])}"
    if arguments := [argument for argument in get_args(type_) if argument is not type(None)]:
        return " | ".join(_choices(argument) for argument in arguments)
    return str(getattr(type_, "__name__", type_))
