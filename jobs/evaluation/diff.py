"""What would change: two predictions of the same rows side by side, as a table of label flips with examples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.evaluation.labels import GIVEN
from transforms.errors import SpecError

NOTHING = "(nothing)"
TEXT, OTHER_TEXT = "(a text)", "(another text)"

# Characters of a row's text, or of a written text, that are shown.
SHOWN = 80

# Kinds of change in the text; the JSON has all of them.
MOST_FLIPS = 30


@dataclass(frozen=True)
class Flip:
    """One kind of change.

    Attributes:
        before: the label of the one version.
        after: the label of the other version.
        rows: rows with this change; for entities the number of entities.
        right_before: rows in which the first label is the true one; None if the truth is unknown.
        right_after: likewise for the second.
    """

    before: str
    after: str
    rows: int
    right_before: int | None = None
    right_after: int | None = None


@dataclass(frozen=True)
class Example:
    """A row that changes.

    Attributes:
        row: its index in the table.
        text: the beginning of its text.
        before: what the one version gives, with its score.
        after: what the other version gives, with its score.
        truth: the true value, if known.
    """

    row: int
    text: str
    before: str
    after: str
    truth: str | None = None


@dataclass(frozen=True)
class Diff:
    """What changes between two predictions of the same rows.

    Attributes:
        rows: rows that were compared.
        changed: rows that the two versions label differently; scores alone are no change.
        flips: the kinds of change, most frequent first.
        examples: some of the changed rows, of every kind of change in turn.
        unit: what `flips` count: rows or entities.
    """

    rows: int
    changed: int
    flips: tuple[Flip, ...]
    examples: tuple[Example, ...]
    unit: str = "rows"

    def text(self) -> str:
        """A plain text table of the flips, and one of the examples."""
        share = self.changed / self.rows if self.rows else 0.0
        lines = [f"{self.changed:,} of {self.rows:,} rows change ({share:.1%})"]
        if not self.changed:
            return lines[0]
        known = self.flips and self.flips[0].right_before is not None
        head = ["before", "after", self.unit, *(["right before", "right after"] if known else [])]
        body = [
            [flip.before, flip.after, f"{flip.rows:,}"]
            + ([str(flip.right_before), str(flip.right_after)] if known else [])
            for flip in self.flips[:MOST_FLIPS]
        ]
        lines += ["", *_aligned([head, *body])]
        if rest := self.flips[MOST_FLIPS:]:
            lines.append(f"and {sum(flip.rows for flip in rest):,} {self.unit} with {len(rest):,} other changes")
        head = ["row", "before", "after", *(["truth"] if known else []), "text"]
        body = [[str(e.row), e.before, e.after, *([e.truth or ""] if known else []), e.text] for e in self.examples]
        return "\n".join([*lines, "", *_aligned([head, *body])])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"share": self.changed / self.rows if self.rows else 0.0}


def diff(
    rows: pa.Table,
    before: pa.Array,
    after: pa.Array,
    examples: int = 20,
    column: str | None = None,
    truth: pa.Array | None = None,
) -> Diff:
    """Compare two predictions of the same rows.

    Args:
        rows: the rows.
        before: what the one version gives for each row, as `predict` or a job's column has it.
        after: what the other version gives, of the same type.
        examples: number of changed rows to show.
        column: the text column to show; by default `text`, `prompt`, or the first column of texts.
        truth: the true label of each row, or its true text, if known.

    Raises:
        SpecError: the predictions have other lengths or types, or there is no such column.
    """
    if not len(rows) == len(before) == len(after):
        raise SpecError(
            f"there are {len(rows)} rows, and {len(before)} and {len(after)} predictions; give one for each row"
        )
    if before.type != after.type:
        raise SpecError(f"the predictions are {before.type} and {after.type}; compare two versions of one task")
    texts = _texts(rows, column)
    true = [None] * len(rows) if truth is None else [_shown(value) for value in truth.to_pylist()]
    entities = _is_entities(before.type)
    counts: Counter[tuple[str, str]] = Counter()
    right: Counter[tuple[str, str, str]] = Counter()
    places: dict[tuple[str, str], list[int]] = {}
    pairs = list(zip(before.to_pylist(), after.to_pylist(), strict=True))
    changed = 0
    for row, (one, other) in enumerate(pairs):
        kinds = list(_entity_flips(one, other) if entities else _flips(one, other))
        changed += bool(kinds)
        counts.update(kinds)
        for kind in dict.fromkeys(kinds):
            places.setdefault(kind, []).append(row)
            right[(*kind, "before")] += _name(one) == true[row]
            right[(*kind, "after")] += _name(other) == true[row]
    known = truth is not None and not entities
    flips = [
        Flip(*kind, count, right[(*kind, "before")] if known else None, right[(*kind, "after")] if known else None)
        for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    chosen = _in_turn([places[flip.before, flip.after] for flip in flips], examples)
    shown = [Example(row, texts[row], _scored(pairs[row][0]), _scored(pairs[row][1]), true[row]) for row in chosen]
    return Diff(len(rows), changed, tuple(flips), tuple(shown), "entities" if entities else "rows")


def differ(before: pa.Array, after: pa.Array) -> np.ndarray:
    """Whether each row is labelled differently, bool `(rows,)`; scores alone are no difference.

    Args:
        before: what the one version gives for each row.
        after: what the other version gives.
    """
    kinds = _entity_flips if _is_entities(before.type) else _flips
    pairs = zip(before.to_pylist(), after.to_pylist(), strict=True)
    return np.array([any(True for _ in kinds(one, other)) for one, other in pairs], bool)


def _flips(one: Any, other: Any) -> Iterator[tuple[str, str]]:
    """The change of a row, if there is one."""
    if not _is_labelled(other if one is None else one):
        if one != other:
            yield (NOTHING if one is None else TEXT), (NOTHING if other is None else OTHER_TEXT)
    elif _name(one) != _name(other):
        yield _name(one), _name(other)


def _entity_flips(one: Any, other: Any) -> Iterator[tuple[str, str]]:
    """Entities of other labels, and those that only one side has."""
    mine, theirs = ({(e["start"], e["end"]): e["label"] for e in value or ()} for value in (one, other))
    for span in sorted(mine.keys() | theirs.keys()):
        labels = mine.get(span, NOTHING), theirs.get(span, NOTHING)
        if labels[0] != labels[1]:
            yield labels


def _in_turn(groups: Sequence[Sequence[int]], count: int) -> list[int]:
    """The first of each group, then the second of each, and so on, each row once."""
    longest = max(map(len, groups), default=0)
    order = (group[i] for i in range(longest) for group in groups if i < len(group))
    return list(dict.fromkeys(order))[:count]


def _is_entities(type_: pa.DataType) -> bool:
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_)
    return is_list and pa.types.is_struct(type_.value_type) and type_.value_type.get_field_index("start") >= 0


def _is_labelled(value: Any) -> bool:
    entry = value[0] if isinstance(value, list) and value else value
    return value == [] or (isinstance(entry, dict) and set(entry) == {"label", "score"})


def _name(value: Any) -> str:
    """The label of a row, its given labels, or its text."""
    if value is None:
        return NOTHING
    if isinstance(value, dict) and _is_labelled(value):
        return str(value["label"])
    if isinstance(value, list) and _is_labelled(value):
        return ", ".join(sorted(entry["label"] for entry in value if entry["score"] >= GIVEN)) or NOTHING
    return _shown(value)


def _scored(value: Any) -> str:
    """What a version gives for a row, in a few words."""
    if isinstance(value, dict) and _is_labelled(value):
        return f"{value['label']} ({value['score']:.2f})"
    if isinstance(value, list) and value and isinstance(value[0], dict) and "start" in value[0]:
        return _cut(", ".join(f"{entry['label']} {entry['text']!r}" for entry in value))
    return _cut(_name(value if value != [] else None))


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(sorted(value)) or NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _texts(rows: pa.Table, column: str | None) -> list[str]:
    names = [f.name for f in rows.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    if column is not None and column not in rows.schema.names:
        raise SpecError(f"column {column!r} is not in the rows; columns: {', '.join(rows.schema.names)}")
    chosen = column or next((name for name in ("text", "prompt", *names) if name in rows.schema.names), None)
    if chosen is None:
        return [""] * len(rows)
    return [_cut(value if isinstance(value, str) else _shown(value)) for value in rows.column(chosen).to_pylist()]


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of equal width; columns of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    numeric = [all(cell.replace(",", "").isdigit() for cell in column[1:]) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in table
    ]
