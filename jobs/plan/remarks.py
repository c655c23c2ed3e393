"""What a person should know of a plan, because a run would do it without an error: sentences."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from jobs.plan import Plan
from jobs.report.shown import count
from jobs.sink.folder import FolderSink
from transforms.options import column_of


def lacking(plan: Plan) -> Iterator[str]:
    """The columns that a task reads and that some of the files to do do not have: null in all of their rows.

    Nothing is said of a job with `prepare`, which may give the column to those files.
    """
    if plan.layouts is None or plan.source.spec.prepare is not None:
        return
    names = plan.source.file_schema.names
    files = list(dict.fromkeys(shard.key for shard in plan.shards_todo if shard.rows != 0))
    told = set()
    for task in plan.tasks:
        for column in task.spec.reads:
            if column_of(column, names) not in names or column in told:
                continue
            told.add(column)
            known = [(key, schema) for key in files if (schema := plan.layouts.schema(key)) is not None and len(schema)]
            without = [(key, schema) for key, schema in known if not _has(schema, column)]
            if without:
                key, schema = without[0]
                alike = [name for name in schema.names if name.lower() == column.lower()]
                other = f", which has {alike[0]!r}" if alike else ""
                place = key if len(without) == 1 else f"the first is {key}"
                yield (
                    f"Column {column!r}, which {task.spec.task} reads, is not in {len(without):,} of "
                    f"{count(len(files), 'file')} to do ({place}{other}): it is null in their rows."
                )


def kept(plan: Plan, sink: FolderSink) -> Iterator[str]:
    """The rows that stay in the sink although their source files are gone; a plan with a limit does not know."""
    spec = plan.spec
    if spec.sink.on_vanished != "keep" or spec.source.table or spec.source.limit or plan.attempts is not None:
        return
    there = {shard.key for shard in plan.shards} | plan.left_out
    gone = [entry for entry in sink.published_entries().values() if entry.key not in there]
    if rows := sum(entry.rows_out for entry in gone):
        yield stay(rows)


def stay(rows: int) -> str:
    """Rows of files that are gone, as a sentence."""
    verb = "stays" if rows == 1 else "stay"
    what = f"{count(rows, 'row')} of source files that are gone {verb} in the sink"
    return f"{what}; sink.on_vanished: remove takes them out."


def _has(schema: pa.Schema, column: str) -> bool:
    """Whether a file has a column, or a field of a struct."""
    name = column_of(column, schema.names)
    if name not in schema.names:
        return False
    type_ = schema.field(name).type
    for part in column.removeprefix(name).split(".")[1:]:
        if not pa.types.is_struct(type_) or (i := type_.get_field_index(part)) < 0:
            # What is no struct is an error elsewhere, and a column of nulls has no fields.
            return not pa.types.is_struct(type_) and not pa.types.is_null(type_)
        type_ = type_.field(i).type
    return True
