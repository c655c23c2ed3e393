"""Results of rows that another writer has moved to other files of the table."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import run, spec
from jobs.execute import shard as shards
from jobs.models.pool import ModelPool
from tests import lake
from tests.jobs.sink.table.nights import night, write


class Killed(BaseException):
    """Stands for the end of the process."""


def stage_first(job):
    """A run that ends after its first shard is staged."""
    try:
        with run.holding(run.prepare(spec.parse(job))) as held:
            shards.execute_shard(held.plan, held.plan.shards_todo[0], ModelPool(), held.sink)
            raise Killed
    except Killed:
        pass


def test_a_row_of_another_partition_is_no_donor_after_a_compaction(tables, models, tmp_path, shout):
    source, texts = tmp_path / "in", [f"t{i}" for i in range(8)]

    def dump(lang, name, rows):
        folder = source / f"lang={lang}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": [f"{lang}-{name}-{row}" for row in rows], "text": rows}), folder / name)

    task = {"task": shout.task, "column": "text", "other": "lang", "into": "loud"}
    job = tables.job(source, models) | {"tasks": [task]}
    # Each night adds a file to each partition, so that there is something to compact.
    for lang, name, rows in [("de", "a", texts[:4]), ("en", "c", ["x1"]), ("de", "b", texts[4:]), ("en", "d", ["x2"])]:
        dump(lang, f"{name}.parquet", rows)
        if lang == "en":
            night(job)
    tables.compact()
    dump("en", "c.parquet", ["x1", *texts])
    night(job)
    rows = tables.read().to_pylist()
    assert len(rows) == 18
    assert all(row["loud"] == f"{row['text']}+{row['lang']}".upper() for row in rows)


def test_a_killed_night_after_a_compaction_still_takes_over_what_did_not_change(tables, models, tmp_path, shout):
    source = write(tmp_path / "in", a=lake.rows(10), b=lake.rows(20, 30, seed=1))
    job = tables.job(source, models) | {"tasks": [{"task": shout.task, "column": "text", "into": "loud"}]}
    night(job)
    write(source, c=lake.rows(15, 50, seed=2))
    night(job)
    tables.compact()
    write(source, a=lake.rows(10, seed=4))
    shout.taken()
    stage_first(job)
    night(job)
    assert shout.taken() == sorted(map(str, lake.rows(10, seed=4)["text"].to_pylist()))


def test_with_a_key_a_changed_file_takes_over_what_did_not_change(tables, models, tmp_path, shout):
    source = write(tmp_path / "in", a=lake.rows(10))
    job = tables.job(source, models, sink={"key": ["id"]})
    job |= {"tasks": [{"task": shout.task, "column": "text", "into": "loud"}]}
    night(job)
    write(source, b=lake.rows(20, 30, seed=1))
    night(job)
    tables.compact()
    rows = lake.rows(20, 30, seed=1).to_pylist()
    rows[-1]["text"] = "new"
    write(source, b=pa.Table.from_pylist(rows, lake.rows(1).schema))
    shout.taken()
    night(job)
    assert shout.taken() == ["new"]


def test_with_a_key_rows_that_the_source_has_deleted_leave_a_compacted_table(tables, models, tmp_path, shout):
    source = write(tmp_path / "in", a=lake.rows(10))
    job = tables.job(source, models, sink={"key": ["id"], "on_vanished": "remove"})
    job |= {"tasks": [{"task": shout.task, "column": "text", "into": "loud"}]}
    night(job)
    write(source, b=lake.rows(20, 30))
    night(job)
    write(source, c=lake.rows(5, 60))
    night(job)
    tables.compact()
    shout.taken()
    write(source, b=lake.rows(20, 30).slice(4))
    (source / "a.parquet").unlink()
    night(job)
    assert sorted(tables.read()["id"].to_pylist()) == sorted(f"r{i}" for i in [*range(34, 50), *range(60, 65)])
    assert shout.taken() == []
