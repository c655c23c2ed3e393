"""F1 of entities by seqeval: an entity is right if its label, its start and its end are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.evaluation.metrics import Measured
from transforms.errors import SpecError

# label, first code point, one past the last
Span = tuple[str, int, int]


def measure(
    texts: pa.ChunkedArray, truth: pa.Array, predictions: pa.Array, metric: str, labels: Sequence[str] | None
) -> Measured:
    """Entity F1, precision or recall over all rows; see `metrics.measure`.

    Args:
        texts: the texts of the rows; white space at the ends of an entity does not count.
        truth: list<struct<label, start, end>> in code points.
        predictions: what `ner` gives: list<struct<label, text, start, end, score>>.
        metric: entity_f1, entity_precision or entity_recall.
        labels: labels that the model knows, without B- and I-.

    Raises:
        SpecError: an entity of the truth is outside its text or overlaps another, or no row has an entity.
    """
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    pairs = _pairs(texts, truth, predictions)
    if not any(true for true, _ in pairs):
        raise SpecError(f"no row of the holdout has an entity, so {metric} cannot be computed; add rows with entities")
    true_tags, found_tags = zip(*(tags(true, found) for true, found in pairs), strict=True)
    with warnings.catch_warnings():
        # Of labels that one side lacks; they are in the report with zeros.
        warnings.simplefilter("ignore")
        report: Any = classification_report(
            list(true_tags), list(found_tags), mode="strict", scheme=IOB2, output_dict=True, zero_division=0
        )
    total = report["micro avg"]
    values = {
        "entity_f1": float(total["f1-score"]),
        "entity_precision": float(total["precision"]),
        "entity_recall": float(total["recall"]),
    }
    value = values.pop(metric)
    classes = {
        label: {
            "precision": float(entry["precision"]),
            "recall": float(entry["recall"]),
            "f1": float(entry["f1-score"]),
            "entities": int(entry["support"]),
        }
        for label, entry in report.items()
        if not label.endswith(" avg")
    }
    missing = predictions.is_null().to_numpy(zero_copy_only=False)
    present = {label for true, _ in pairs for label, *_ in true}
    empty = [label for label in labels or () if label not in present]
    notes = [f"the holdout has no entity of {', '.join(map(repr, empty))}; add rows to data.holdout"] if empty else []
    right = _correctness(pairs, missing)
    return Measured(metric, value, values | {"classes": classes}, right, len(pairs), int(missing.sum()), notes)


def correctness(texts: pa.ChunkedArray, truth: pa.Array, predictions: pa.Array) -> np.ndarray:
    """The entity F1 of each row, 0 without a prediction; also of rows that have no entities at all.

    Args:
        texts: as of `measure`.
        truth: as of `measure`.
        predictions: as of `measure`.

    Raises:
        SpecError: an entity of the truth is outside its text or overlaps another.
    """
    return _correctness(_pairs(texts, truth, predictions), predictions.is_null().to_numpy(zero_copy_only=False))


def row_f1(true: Sequence[Span], found: Sequence[Span]) -> float:
    """The entity F1 of one row; 1 if it has no entities and none are found."""
    total = len(true) + len(found)
    return 2 * len(set(true) & set(found)) / total if total else 1.0


def tags(true: Sequence[Span], found: Sequence[Span]) -> tuple[list[str], list[str]]:
    """Two lists of B-, I- and O tags with one tag for each piece of text between two ends of any entity.

    seqeval compares tags of tokens; with these pieces as tokens it compares exactly the spans.
    """
    cuts = sorted({cut for _, start, end in (*true, *found) for cut in (start, end)})
    pieces = {start: i for i, start in enumerate(cuts)}
    made = []
    for spans in (true, found):
        row = ["O"] * max(1, len(cuts))
        for label, start, end in spans:
            row[pieces[start] : pieces[end]] = [f"I-{label}"] * (pieces[end] - pieces[start])
            row[pieces[start]] = f"B-{label}"
        made.append(row)
    return made[0], made[1]


def _pairs(texts: pa.ChunkedArray, truth: pa.Array, predictions: pa.Array) -> list[tuple[list[Span], list[Span]]]:
    """The true and the found spans of each row."""
    rows = zip(texts.to_pylist(), truth.to_pylist(), predictions.to_pylist(), strict=True)
    return [
        (_checked(row, text or "", true), _flat(_trimmed(text or "", found or ())))
        for row, (text, true, found) in enumerate(rows)
    ]


def _correctness(pairs: Sequence[tuple[Sequence[Span], Sequence[Span]]], missing: np.ndarray) -> np.ndarray:
    found = np.array([row_f1(true, found) for true, found in pairs], np.float64)
    found[missing] = 0.0
    return found


def _trimmed(text: str, entities: Sequence[dict[str, Any]]) -> list[Span]:
    spans = []
    for entity in entities:
        start, end = entity["start"], entity["end"]
        inside = text[start:end]
        start += len(inside) - len(inside.lstrip())
        spans.append((entity["label"], start, max(start, end - (len(inside) - len(inside.rstrip())))))
    return sorted(set(spans), key=lambda span: (span[1], span[2], span[0]))


def _flat(spans: Sequence[Span]) -> list[Span]:
    """The spans that hold text and do not overlap an earlier one."""
    kept: list[Span] = []
    for span in spans:
        if span[1] < span[2] and (not kept or span[1] >= kept[-1][2]):
            kept.append(span)
    return kept


def _checked(row: int, text: str, entities: Sequence[dict[str, Any]]) -> list[Span]:
    for entity in entities:
        start, end, label = entity["start"], entity["end"], entity["label"]
        if start is None or end is None or label is None or not 0 <= start < end <= len(text):
            raise SpecError(
                f"row {row} of the holdout has the entity {label!r} from {start} to {end}, and its text has "
                f"{len(text)} characters; entities need a label and 0 <= start < end, counted in Unicode code points"
            )
    spans = _trimmed(text, entities)
    if len(flat := _flat(spans)) < len(spans):
        lost = next(span for span in spans if span not in flat)
        raise SpecError(
            f"row {row} of the holdout: the entity {lost[0]!r} from {lost[1]} to {lost[2]} is blank or overlaps "
            "another one; entity F1 needs entities that do not overlap; remove one of them"
        )
    return spans
