"""Rows for training: read as a job reads its source, checked, and split so that a row never changes sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.training import answers, canonical, drawn, duplicates, identity, truth
from jobs.training.spec import FractionSpec, TrainingSpec
from transforms.errors import SpecError

# With fewer training rows nothing is learnt, and with an empty holdout nothing is measured.
FEWEST_TRAIN, FEWEST_HOLDOUT = 8, 1


@dataclass(frozen=True)
class Rows:
    """Labelled rows with the canonical columns of the task, the slice columns, and `key`, sorted by `key`.

    Attributes:
        train: rows that the weights learn from.
        validation: training rows that only decide when to stop; may be empty.
        holdout: rows that are measured.
        leaked: training rows taken out because their text is in the holdout, or nearly.
        duplicates: training rows taken out because text and truth are those of another one.
        without_text: rows of both sources without a text.
        labels: names of the labels (classify) or of the kinds of entities (ner), sorted; otherwise empty.
        differences: training rows that were drawn for review because two versions differ, with `drawn.COLUMNS`.
        reviewed: labelled rows in the review folder; None without `data.review`.
        earlier: the rows of the stages before the last one.
        train_hash: hash of the training rows, validation rows included; it does not depend on files or their order.
            With stages it covers the rows of all of them.
        holdout_hash: the same of the holdout rows.
    """

    train: pa.Table
    validation: pa.Table
    holdout: pa.Table
    leaked: int
    duplicates: int
    without_text: int
    train_hash: str
    holdout_hash: str
    labels: tuple[str, ...] = field(default=())
    differences: pa.Table = field(default_factory=lambda: drawn.COLUMNS.empty_table())
    reviewed: int | None = None
    earlier: tuple[Rows, ...] = ()

    @property
    def unlearnt(self) -> tuple[str, ...]:
        """Labels that only rows of the holdout have; a holdout that is split off may take the only rows of a label."""
        learnt = set(_labels_in(self.train))
        return tuple(label for label in self.labels if label not in learnt)


def load(spec: TrainingSpec) -> Rows:
    """Read and check the rows of a training file, and those of its earlier stages.

    Raises:
        SpecError: a column, a label or an entity is wrong, or there are too few rows.
        SourceError: a file cannot be read.
    """
    earlier = tuple(load(stage) for stage in spec.earlier)
    given = spec.data.holdout
    split = isinstance(given, FractionSpec)
    train, dropped = canonical.read(spec, spec.data.train, "data.train")
    count = None if spec.data.review is None else 0
    if (labelled := drawn.labelled(spec.data.review)) is not None:
        # There the truth has the name that `nightscribe labels` gives it.
        truth_is = {role: role for role in spec.columns if role in canonical.TRUTH_ROLES}
        reviewed, more = canonical.read(spec, labelled, "data.review", truth_is)
        train = canonical.in_order(spec, pa.concat_tables([train, reviewed], promote_options="permissive"))
        dropped, count = dropped + more, len(reviewed)
    differences = drawn.differences(train)
    if isinstance(given, FractionSpec):
        held = drawn.held_out(train, given.fraction)
        holdout, train = train.filter(held), train.filter(pc.invert(held))
    else:
        holdout, more = canonical.read(spec, given, "data.holdout")
        dropped += more
    train, holdout = train.drop_columns(drawn.COLUMNS.names), holdout.drop_columns(drawn.COLUMNS.names)
    if len(holdout) < FEWEST_HOLDOUT:
        raise SpecError(
            f"the holdout has no rows, so that nothing can be measured; {len(train)} training rows are there: "
            f"{'raise data.holdout.fraction' if split else 'check data.holdout'}"
        )
    train, repeated = _without_repeats(spec, train)
    train, leaked = _without_leaks(train, holdout)
    if len(train) < FEWEST_TRAIN:
        raise SpecError(
            f"data.train has {len(train)} rows without the holdout, {leaked} rows whose text is in the holdout too, or "
            f"nearly so (numbers do not count), and {repeated} repeated ones; a training needs {FEWEST_TRAIN} or more"
        )
    if spec.objective == "kto":
        for side, place in ((train, "data.train"), (holdout, "the holdout" if split else "data.holdout")):
            answers.check_both(side["label"].to_pylist(), spec.data.label, place)
    labels = _labels(spec, train, holdout, split)
    learnt, validation = _validation(spec, train)
    hashes = _over(earlier, _hash(spec, train)), _hash(spec, holdout)
    return Rows(learnt, validation, holdout, leaked, repeated, dropped, *hashes, labels, differences, count, earlier)


def _over(earlier: Sequence[Rows], own: str) -> str:
    """A hash of the training rows of all stages."""
    if not earlier:
        return own
    return hashlib.sha256(json.dumps([*(rows.train_hash for rows in earlier), own]).encode()).hexdigest()


def _without_repeats(spec: TrainingSpec, table: pa.Table) -> tuple[pa.Table, int]:
    seen: set[tuple[str, str]] = set()
    kept = []
    for row in zip(table["key"].to_pylist(), canonical.written(spec, table), strict=True):
        kept.append(row not in seen)
        seen.add(row)
    return table.filter(pa.array(kept, pa.bool_())), kept.count(False)


def _without_leaks(train: pa.Table, holdout: pa.Table) -> tuple[pa.Table, int]:
    held = set(holdout["key"].to_pylist())
    exact = [key in held for key in train["key"].to_pylist()]
    found = duplicates.near(_texts(train), _texts(holdout))
    kept = [not same and not alike for same, alike in zip(exact, found, strict=True)]
    return train.filter(pa.array(kept, pa.bool_())), kept.count(False)


def _texts(table: pa.Table) -> list[str]:
    columns = [name for name in ("text", "prompt", "messages", "chosen") if name in table.schema.names]
    return [str(identity.read_text(row)) for row in table.select(columns).to_pylist()]


def _labels(spec: TrainingSpec, train: pa.Table, holdout: pa.Table, split: bool) -> tuple[str, ...]:
    if not spec.learns_labels:
        return ()
    if spec.task == "classify":
        sides = train["label"].to_pylist(), holdout["label"].to_pylist()
        return truth.check_labels(*sides, spec.data.label, split)
    kinds = [
        [sorted({entity["label"] for entity in row}) for row in table["entities"].to_pylist()]
        for table in (train, holdout)
    ]
    found = truth.check_labels(kinds[0], kinds[1], spec.data.entities, split)
    if not found:
        raise SpecError(f"no training row has an entity in column {spec.data.entities!r}; check data.entities")
    return found


def _labels_in(table: pa.Table) -> Iterator[str]:
    """The label, or the labels, of every row."""
    for name in ("label", "entities"):
        for value in table[name].to_pylist() if name in table.schema.names else ():
            each = value if isinstance(value, list) else [value]
            yield from (one["label"] if isinstance(one, dict) else one for one in each)


def _validation(spec: TrainingSpec, train: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows that are learnt and those that decide when to stop; a label is never in the latter only."""
    chosen = [identity.position(key, "validation") < spec.data.validation for key in train["key"].to_pylist()]
    if spec.learns_labels and spec.task == "classify":
        names = [value if isinstance(value, list) else [value] for value in train["label"].to_pylist()]
        learnt = {name for row, away in zip(names, chosen, strict=True) if not away for name in row}
        chosen = [away and learnt.issuperset(row) for row, away in zip(names, chosen, strict=True)]
    return train.filter(pa.array([not away for away in chosen], pa.bool_())), train.filter(pa.array(chosen, pa.bool_()))


def _hash(spec: TrainingSpec, table: pa.Table) -> str:
    rows: Sequence[Any] = list(zip(table["key"].to_pylist(), canonical.written(spec, table), strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
