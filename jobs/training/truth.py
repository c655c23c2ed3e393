"""Checks of the truth in labelled rows: labels, entity spans, texts to write. A mistake is one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from jobs.spec.complaint import suggest
from jobs.training.identity import is_text
from transforms.errors import SpecError


def check_type(role: str, column: str, type_: pa.DataType, place: str) -> None:
    """Refuse a column whose Arrow type cannot hold the truth.

    Args:
        role: the canonical column, such as label or entities.
        column: the column as the source names it.
        type_: its type.
        place: the section of the training file, for messages.

    Raises:
        SpecError: names the column, its type and the valid ones.
    """
    inner = type_.value_type if pa.types.is_list(type_) or pa.types.is_large_list(type_) else None
    match role:
        case "entities":
            names = {field.name for field in inner} if inner is not None and pa.types.is_struct(inner) else set()
            fits, wanted = {"label", "start", "end"} <= names, "list<struct<label, start, end>>"
        case "label":
            kind = inner if inner is not None else type_
            fits = is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
            wanted = "the name of a label (string), or a list of names"
        case _:
            fits, wanted = is_text(type_) or inner is not None, "string"
    if not fits:
        raise SpecError(f"column {column!r} of {place} is {type_}, and {role} needs {wanted}")


def require_no_nulls(values: Sequence[Any], column: str, place: str) -> None:
    """Refuse rows without a truth.

    Raises:
        SpecError: names the first row and how many there are.
    """
    missing = [row for row, value in enumerate(values) if value is None]
    if missing:
        raise SpecError(
            f"row {missing[0]} of {place} has no {column} ({len(missing)} of {len(values)} rows have none); leave such "
            f"rows out with {place}.where: {column} is not null"
        )


def require_names(values: Sequence[Any], column: str, place: str) -> None:
    """Refuse labels without a letter.

    Raises:
        SpecError: names the first row and how many there are.
    """
    empty = [row for row, value in enumerate(values) if any(not name.strip() for name in _flat([value]))]
    if empty:
        raise SpecError(
            f"row {empty[0]} of {place} has an empty {column} ({len(empty)} of {len(values)} rows have); leave such "
            f"rows out with {place}.where: {column} != ''"
        )


def label_names(value: Any) -> Any:
    """A label, or a list of labels, as strings: a number and its text are the same label."""
    if isinstance(value, list):
        return sorted({_name(each) for each in value})
    return _name(value)


def check_labels(train: Sequence[Any], holdout: Sequence[Any], column: str, split: bool) -> tuple[str, ...]:
    """The labels of classified rows, sorted.

    A label without a row on one side is an error where the holdout is given. A holdout that is split off the training
    rows by a hash may miss a rare label by chance, and nobody could add a row to it.

    Args:
        train: label, or list of labels, of each training row.
        holdout: the same of the holdout.
        column: the column, for messages.
        split: whether the holdout was split off the training rows.

    Raises:
        SpecError: a label is missing on one side, or there are fewer than two.
    """
    trained, held = Counter(_flat(train)), Counter(_flat(holdout))
    if len(trained) < 2 and not any(isinstance(value, list) for value in train):
        raise SpecError(
            f"the training rows have {len(trained)} label in column {column!r} "
            f"({', '.join(trained) or 'none'}); a classifier needs two or more"
        )
    if split:
        return tuple(sorted({*trained, *held}))
    if unknown := sorted(set(held) - set(trained)):
        near = suggest(unknown[0], sorted(trained), "labels of the training rows")
        raise SpecError(f"label {unknown[0]!r} in data.holdout ({held[unknown[0]]} rows) has no training row{near}")
    if empty := sorted(set(trained) - set(held)):
        more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise SpecError(
            f"label {empty[0]!r}{more} has {trained[empty[0]]} training rows and none in data.holdout, so that it "
            "cannot be measured; add rows to the holdout, or leave the label out with data.train.where"
        )
    return tuple(sorted(trained))


def check_entities(texts: Sequence[str], entities: Sequence[Any], place: str) -> None:
    """Refuse entity spans that do not fit their text.

    Args:
        texts: the text of each row.
        entities: its entities; offsets count Unicode code points.
        place: the section of the training file, for messages.

    Raises:
        SpecError: names the row, the span and what is wrong.
    """
    for row, (text, found) in enumerate(zip(texts, entities, strict=True)):
        check_spans(text, found, f"row {row} of {place}")


def check_spans(text: str, entities: Sequence[Any], row: str) -> None:
    """Refuse entity spans that do not fit a text.

    Args:
        text: the text.
        entities: its entities; offsets count Unicode code points.
        row: the row, for messages.

    Raises:
        SpecError: names the row, the span and what is wrong.
    """
    last = 0
    for entity in sorted(entities, key=lambda each: (each["start"] or 0, each["end"] or 0)):
        label, start, end = entity["label"], entity["start"], entity["end"]
        span = f"{row} has the entity {label!r} at {start} to {end}"
        if label is None or start is None or end is None:
            raise SpecError(f"{span}; give label, start and end")
        if not 0 <= start < end <= len(text):
            raise SpecError(
                f"{span}, and its text has {len(text)} characters; start and end count characters from 0, and end "
                "is one past the last"
            )
        if (stated := entity.get("text")) is not None and stated.strip() != text[start:end].strip():
            raise SpecError(f"{span}, where its text reads {text[start:end]!r} and not {stated!r}; correct the row")
        if start < last:
            raise SpecError(f"{span}, which overlaps the entity before it; keep one of them")
        last = end


def _flat(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        yield from value if isinstance(value, list) else [value]


def _name(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
