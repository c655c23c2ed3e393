"""Rows for training: read as a job reads its source, checked, and split so that a row never changes sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs import source
from jobs.spec import SourceSpec
from jobs.spec.complaint import suggest
from jobs.training import answers, drawn, duplicates, identity, truth
from jobs.training.sections import PAIRED
from jobs.training.spec import FractionSpec, TrainingSpec
from transforms.errors import SpecError

BATCH_ROWS = 16_384

# With fewer training rows nothing is learnt, and with an empty holdout nothing is measured.
FEWEST_TRAIN, FEWEST_HOLDOUT = 8, 1

# As errors.max_fraction of a job: the share of rows that may be unreadable.
MAX_UNREADABLE = 0.01

ENTITIES = pa.list_(pa.struct([("label", pa.string()), ("start", pa.int64()), ("end", pa.int64())]))

# The columns that have the truth, by any task.
TRUTH_ROLES = ("label", "entities", "target", "completion", "chosen", "rejected")

TRUTH = {"classify": "label", "ner": "entities", "summarize": "target", "translate": "target"}


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
    train, dropped = _canonical(spec, spec.data.train, "data.train")
    count = None if spec.data.review is None else 0
    if (labelled := drawn.labelled(spec.data.review)) is not None:
        # There the truth has the name that `nightscribe labels` gives it.
        truth_is = {role: role for role in spec.columns if role in TRUTH_ROLES}
        reviewed, more = _canonical(spec, labelled, "data.review", truth_is)
        train = _sorted(spec, pa.concat_tables([train, reviewed], promote_options="permissive"))
        dropped, count = dropped + more, len(reviewed)
    differences = drawn.differences(train)
    if isinstance(given, FractionSpec):
        held = drawn.held_out(train, given.fraction)
        holdout, train = train.filter(held), train.filter(pc.invert(held))
    else:
        holdout, more = _canonical(spec, given, "data.holdout")
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
            f"data.train has {len(train)} rows without the holdout, {leaked} rows that are in the holdout too and "
            f"{repeated} repeated ones; a training needs {FEWEST_TRAIN} or more"
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


def _conversations(spec: TrainingSpec, names: Sequence[str]) -> str:
    """How to read conversations, for rows that have them and not the columns that are missing."""
    other = spec.data.model_copy(update={"messages": "messages"})
    fits = "messages" in other.columns(spec.task, spec.objective) and {spec.data.prompt, spec.data.completion} == {None}
    return "; for conversations write data.messages: messages" if fits and "messages" in names else ""


def _canonical(
    spec: TrainingSpec, section: SourceSpec, place: str, named: Mapping[str, str] | None = None
) -> tuple[pa.Table, int]:
    """The rows of a source under their canonical names with `key`, sorted; and how many had no text.

    Args:
        spec: the training file.
        section: the source.
        place: its key, for errors.
        named: canonical column -> column of this source, where it differs from the training file.
    """
    roles = spec.columns | dict(named or {})
    wanted = roles | {name: name for name in spec.slices}
    texts = [column for name, column in roles.items() if name in ("text", "target", "prompt", *answers.ANSWERS)]
    planned, shards = source.plan(section, texts=texts)
    if spec.objective in PAIRED and spec.data.prompt is None and roles["prompt"] not in planned.schema.names:
        # Chosen and rejected may begin with the prompt.
        roles, wanted = ({k: v for k, v in names.items() if k != "prompt"} for names in (roles, wanted))
    for role, column in wanted.items():
        if column not in planned.schema.names:
            key = "slices" if role in spec.slices else f"data.{role}"
            raise SpecError(
                f"column {column!r} ({key}) is not in {place}{suggest(column, planned.schema.names, 'columns')}"
                f"{_conversations(spec, planned.schema.names)}"
            )
    if spec.task == "generate" or spec.objective in PAIRED:
        types = {role: planned.schema.field(column).type for role, column in roles.items()}
        answers.check_types(spec.objective, types, roles, place)
    for role, column in roles.items():
        type_ = planned.schema.field(column).type
        if role in TRUTH_ROLES:
            truth.check_type(role, column, type_, place)
        elif role in ("text", "prompt") and not identity.is_text(type_) and not pa.types.is_list(type_):
            raise SpecError(f"column {column!r} of {place} is {type_}, and {role} needs string")
    review = [name for name in drawn.COLUMNS.names if name in planned.schema.names]
    read = list(dict.fromkeys([*wanted.values(), *review]))
    batches, bad = [], []
    for shard in shards:
        for item in source.read(planned, shard, BATCH_ROWS):
            if isinstance(item, pa.RecordBatch):
                batches.append(item.select(read))
            else:
                bad.append(item)
    count = sum(map(len, batches))
    if bad and len(bad) > max(1, MAX_UNREADABLE * (count + len(bad))):
        raise SpecError(f"{place}: {len(bad)} of {count + len(bad)} rows cannot be read: {bad[0].message}")
    rows = pa.Table.from_batches(batches, pa.schema([planned.schema.field(column) for column in read]))
    table = pa.table({role: rows.column(column) for role, column in wanted.items()})
    for column, values in zip(drawn.COLUMNS, drawn.take_columns(rows, place), strict=True):
        table = table.append_column(column, values)
    if spec.objective != "distill":
        return _checked(spec, table, place)
    from jobs.training import distill

    answered, without_text = _checked(spec, distill.answered(spec, table), place)
    return answered, without_text + len(table) - len(answered)


def _checked(spec: TrainingSpec, table: pa.Table, place: str) -> tuple[pa.Table, int]:
    roles = spec.learnt
    if spec.objective in PAIRED:
        for role in ("chosen", "rejected"):
            truth.require_no_nulls(table.column(role).to_pylist(), roles[role], place)
        table = answers.with_prompts(table)
    # A reward model may learn from two texts without a prompt; the other models answer one.
    unread = {*TRUTH.values(), *(() if spec.objective == "reward" else answers.ANSWERS)}
    read = [identity.read_text(row) for row in table.select([role for role in roles if role not in unread]).to_pylist()]
    has_text = [bool(text and text.strip()) for text in read]
    table = table.filter(pa.array(has_text, pa.bool_()))
    for role, column in roles.items():
        values = table.column(role).to_pylist()
        if role != "prompt":
            truth.require_no_nulls(values, column, place)
        if role == "label" and spec.learns_labels:
            names = [truth.label_names(value) for value in values]
            truth.require_names(names, column, place)
            table = table.set_column(table.schema.get_field_index(role), role, pa.array(names, _label_type(names)))
        if role == "entities":
            truth.check_entities(table["text"].to_pylist(), values, place)
            same = pa.array(
                [[{key: one[key] for key in ("label", "start", "end")} for one in row] for row in values], ENTITIES
            )
            table = table.set_column(table.schema.get_field_index(role), role, same)
    answers.check(spec.objective, table, roles, place)
    keys = [identity.key(text) for text, kept in zip(read, has_text, strict=True) if text is not None and kept]
    table = table.append_column("key", pa.array(keys, pa.string()))
    return _sorted(spec, table), len(has_text) - len(table)


def _sorted(spec: TrainingSpec, table: pa.Table) -> pa.Table:
    """The rows in an order that does not depend on files."""
    keys, written = table.column("key").to_pylist(), _written(spec, table)
    return table.take(pa.array(sorted(range(len(table)), key=lambda i: (keys[i], written[i])), pa.int64()))


def _written(spec: TrainingSpec, table: pa.Table) -> list[str]:
    """The truth of each row as text, to compare rows."""
    columns = [role for role in spec.learnt if role not in ("text", "prompt")]
    return [json.dumps(row, sort_keys=True, default=str) for row in table.select(columns).to_pylist()]


def _without_repeats(spec: TrainingSpec, table: pa.Table) -> tuple[pa.Table, int]:
    seen: set[tuple[str, str]] = set()
    kept = []
    for row in zip(table["key"].to_pylist(), _written(spec, table), strict=True):
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
    if spec.task == "ner":
        kinds = [
            [sorted({entity["label"] for entity in row}) for row in table["entities"].to_pylist()]
            for table in (train, holdout)
        ]
        found = truth.check_labels(kinds[0], kinds[1], spec.data.entities, split)
        if not found:
            raise SpecError(f"no training row has an entity in column {spec.data.entities!r}; check data.entities")
        return found
    return ()


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
    rows: Sequence[Any] = list(zip(table["key"].to_pylist(), _written(spec, table), strict=True))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _label_type(names: Sequence[Any]) -> pa.DataType:
    return pa.list_(pa.string()) if names and isinstance(names[0], list) else pa.string()
