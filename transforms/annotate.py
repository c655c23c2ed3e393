"""The steps that every encoder task shares: tokenise in advance, form batches, compute, collect results by row."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms import batches
from transforms.contract import Annotation, Failure, failures_of
from transforms.distinct import places

R = TypeVar("R")
T = TypeVar("T")


class Indexed(Protocol):
    """A row that a task annotates."""

    @property
    def index(self) -> int:
        """The row's index in the batch."""
        ...


AnyRow = TypeVar("AnyRow", bound=Indexed)


@dataclass(frozen=True)
class Row:
    """One text to annotate: its index in the batch and its code points."""

    index: int
    text: str


# Row index -> its (sequence, float32 output) pairs, for rows that did not fail; failures; tokens; padded tokens.
Gathered = tuple[dict[int, list[tuple[Any, np.ndarray]]], list[Failure], int, int]


@dataclass(frozen=True)
class Work:
    """What a task asks to be computed: the arguments of `annotate_rows` that depend on the task."""

    rows: list[Any]
    tokenise: Callable[[list[Any]], list[tuple[Any, Any]]]
    length: Callable[[Any], int]
    compute: Callable[[list[Any]], Any]
    piece_rows: int = batches.PIECE_ROWS


# A task over a batch, in steps: it yields work and is sent the results, so that several can be computed together.
Steps = Generator[Work, Gathered, Annotation]


def alone(steps: Generator[Work, Gathered, T], max_tokens: int, caps: batches.Caps) -> T:
    """Compute the work of one task.

    Args:
        steps: the task over a batch.
        max_tokens: the most tokens of a batch, padding included.
        caps: memory limits found so far.

    Returns:
        What the task returns at its end.
    """
    try:
        work = next(steps)
        while True:
            found = annotate_rows(
                work.rows, work.tokenise, work.length, work.compute, max_tokens, caps, work.piece_rows
            )
            work = steps.send(found)
    except StopIteration as end:
        result: T = end.value
        return result


def annotate_texts(
    texts: pa.Array,
    tokenise: Callable[[list[Row]], list[tuple[Row, Any]]],
    length: Callable[[Any], int],
    compute: Callable[[list[Any]], Any],
    max_tokens: int,
    caps: batches.Caps,
) -> Gathered:
    """`annotate_rows` for one text column, a string-like Arrow array; null and empty texts are skipped.

    Equal texts are computed once, and counted once.
    """
    return alone(of_texts(texts, tokenise, length, compute), max_tokens, caps)


def of_texts(
    texts: pa.Array,
    tokenise: Callable[[list[Row]], list[tuple[Row, Any]]],
    length: Callable[[Any], int],
    compute: Callable[[list[Any]], Any],
) -> Generator[Work, Gathered, Gathered]:
    """`annotate_texts` in steps."""
    same = {text: rows for text, rows in places(texts.to_pylist()).items() if text}
    rows = [Row(indices[0], text) for text, indices in same.items()]
    gathered, failures, tokens, padded_tokens = yield Work(rows, tokenise, length, compute)
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
) -> Gathered:
    """Tokenise in advance, form batches within the token budget, compute them, and collect the results by row.

    Args:
        rows: the rows that have something to annotate.
        tokenise: rows -> (row, sequence) pairs; a long text may give several sequences (windows), and a row that the
            task must refuse gives an exception instead of a sequence.
        length: sequence -> its number of tokens.
        compute: the sequences of one batch -> tensor `(batch, ...)`.
        max_tokens: the most tokens of a batch, padding included.
        caps: memory limits found so far.
        piece_rows: rows that are tokenised and sorted together; fewer for a task that makes many sequences per row.

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
    return gathered, failures_of(failed), tokens, padded_tokens


def cut_at(gathered: Mapping[int, Sequence[tuple[Any, Any]]], rows: int, max_length: int) -> NDArray[np.int32]:
    """`Annotation.cut_at` of a task whose sequences say by `is_cut` whether they lost tokens.

    Args:
        gathered: row index -> its (sequence, output) pairs.
        rows: rows of the batch.
        max_length: the tokens of a sequence that is cut.
    """
    found = np.zeros(rows, np.int32)
    found[[row for row, pairs in gathered.items() if any(sequence.is_cut for sequence, _ in pairs)]] = max_length
    return found


def _compute(units: list[Any], compute: Callable[[list[Any]], Any], batch: np.ndarray) -> Any:
    return compute([units[i] for i in batch])


def _tokenised(
    rows: list[AnyRow], tokenise: Callable[[list[AnyRow]], list[tuple[AnyRow, R]]]
) -> tuple[list[tuple[AnyRow, R]], dict[int, Exception]]:
    """Tokenise rows together; if that raises, find the rows that also raise on their own."""
    try:
        return tokenise(rows), {}
    except Exception as error:
        if len(rows) == 1:
            return [], {rows[0].index: error}
    middle = len(rows) // 2
    left, left_broken = _tokenised(rows[:middle], tokenise)
    right, right_broken = _tokenised(rows[middle:], tokenise)
    return left + right, left_broken | right_broken
