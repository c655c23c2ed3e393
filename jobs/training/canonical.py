"""The rows of a source under the canonical names of a training, such as text and label, checked and in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jobs import source
from jobs.spec import SourceSpec
from jobs.spec.complaint import suggest
from jobs.training import answers, drawn, identity, truth
from jobs.training.sections import PAIRED
from jobs.training.spec import TrainingSpec
from transforms.errors import SpecError

BATCH_ROWS = 16_384

# As errors.max_fraction of a job: the share of rows that may be unreadable.
MAX_UNREADABLE = 0.01

ENTITIES = pa.list_(pa.struct([("label", pa.string()), ("start", pa.int64()), ("end", pa.int64())]))

# The columns that have the truth, by any task.
TRUTH_ROLES = ("label", "entities", "target", "completion", "chosen", "rejected")

TRUTH = {"classify": "label", "ner": "entities", "summarize": "target", "translate": "target"}


def read(
    spec: TrainingSpec, section: SourceSpec, place: str, named: Mapping[str, str] | None = None
) -> tuple[pa.Table, int]:
    """The rows of a source under their canonical names with `key`, sorted; and how many had no text.

    Args:
        spec: the training file.
        section: the source.
        place: its key, for errors.
        named: canonical column -> column of this source, where it differs from the training file.

    Raises:
        SpecError: a column is missing, has the wrong type, or has a value that nothing can be learnt from.
        SourceError: a file cannot be read.
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
    kept = list(dict.fromkeys([*wanted.values(), *review]))
    batches, bad = [], []
    for shard in shards:
        for item in source.read(planned, shard, BATCH_ROWS):
            if isinstance(item, pa.RecordBatch):
                batches.append(item.select(kept))
            else:
                bad.append(item)
    count = sum(map(len, batches))
    if bad and len(bad) > max(1, MAX_UNREADABLE * (count + len(bad))):
        raise SpecError(f"{place}: {len(bad)} of {count + len(bad)} rows cannot be read: {bad[0].message}")
    rows = pa.Table.from_batches(batches, pa.schema([planned.schema.field(column) for column in kept]))
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
    return in_order(spec, table), len(has_text) - len(table)


def in_order(spec: TrainingSpec, table: pa.Table) -> pa.Table:
    """The rows in an order that does not depend on files."""
    keys, truths = table.column("key").to_pylist(), written(spec, table)
    return table.take(pa.array(sorted(range(len(table)), key=lambda i: (keys[i], truths[i])), pa.int64()))


def written(spec: TrainingSpec, table: pa.Table) -> list[str]:
    """The truth of each row as text, to compare rows."""
    columns = [role for role in spec.learnt if role not in ("text", "prompt")]
    return [json.dumps(row, sort_keys=True, default=str) for row in table.select(columns).to_pylist()]


def _conversations(spec: TrainingSpec, names: Sequence[str]) -> str:
    """How to read conversations, for rows that have them and not the columns that are missing."""
    other = spec.data.model_copy(update={"messages": "messages"})
    fits = "messages" in other.columns(spec.task, spec.objective) and {spec.data.prompt, spec.data.completion} == {None}
    return "; for conversations write data.messages: messages" if fits and "messages" in names else ""


def _label_type(names: Sequence[Any]) -> pa.DataType:
    return pa.list_(pa.string()) if names and isinstance(names[0], list) else pa.string()
