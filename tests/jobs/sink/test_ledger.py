"""The ledger under random crashes and a changing source: every row once, whatever happened before the last run."""

from __future__ import annotations

import itertools
from contextlib import suppress

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import run, spec
from jobs.execute import shard as shards
from jobs.models.pool import ModelPool
from jobs.plan import planning
from jobs.sink.ledger import Ledger
from jobs.source.formats import parquet
from jobs.store import Store, names
from tests import lake


class Crash(BaseException):
    """As final as SIGKILL: nothing in the product catches it."""


class Faulty:
    """Lets a store do `budget` writes; the next one is the last thing that happens, done in full or not at all."""

    def __init__(self, budget: int, done: bool):
        self.left, self.done = budget, done

    def wrap(self, operation):
        def wrapped(*arguments):
            self.left -= 1
            if self.left >= 0:
                return operation(*arguments)
            if self.done and self.left == -1:
                operation(*arguments)
            raise Crash

        return wrapped


def run_once(content, patch):
    """A run without a Beam runner: the same plain functions, in one thread, so that thousands of crashes are cheap."""
    with run.holding(planning.make(spec.parse(content))) as held:
        patch()
        for shard in held.plan.shards_todo:
            shards.execute_shard(held.plan, shard, ModelPool(), held.sink)
        return run.finish(held)


change = st.tuples(st.sampled_from(["write", "delete", "none"]), st.integers(0, 2), st.integers(0, 7))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans(), change), max_size=5))
def test_after_any_crashes_a_finished_run_has_every_row_exactly_once(tmp_path_factory, noop_task, monkeypatch, history):
    root = tmp_path_factory.mktemp("crash")
    monkeypatch.setattr(parquet, "SHARD_ROWS", 2)
    source, sink = root / "in", root / "out"
    source.mkdir()
    numbers = itertools.count()

    def write(i: int, rows: int) -> None:
        ids = [f"row-{next(numbers):05d}" for _ in range(rows)]
        table = pa.table({"id": pa.array(ids, pa.string()), "text": pa.array(ids, pa.string())})
        pq.write_table(table, source / f"{i}.parquet", row_group_size=2)

    for i in range(2):
        write(i, 5)
    content = {
        "name": "crash",
        "source": {"path": str(source)},
        "tasks": [{"task": "noop", "column": "text", "into": "nothing"}],
        "sink": {"path": str(sink), "on_vanished": "remove"},
    }
    for budget, done, (what, i, rows) in history:
        faulty = Faulty(budget, done)
        with monkeypatch.context() as patched:

            def patch(patched=patched, faulty=faulty):
                for name in ("publish", "append", "move", "delete"):
                    original = getattr(Store, name)
                    patched.setattr(Store, name, faulty.wrap(original))

            with suppress(Crash):
                run_once(content, patch)
        if what == "write":
            write(i, rows)
        elif what == "delete" and len(list(source.iterdir())) > 1:
            (source / f"{i}.parquet").unlink(missing_ok=True)
    run_once(content, lambda: None)
    want = sorted(id_ for file in source.iterdir() for id_ in pq.read_table(file)["id"].to_pylist())
    got = [id_ for part in lake.parts(sink) for id_ in pq.read_table(part)["id"].to_pylist()]
    assert sorted(got) == want
    entries = Ledger(Store(str(sink)), names.LEDGER).read().values()
    assert sum(entry.rows_out for entry in entries) == len(want)
    again = run_once(content, lambda: None)
    assert again.shards_skipped == again.shards


def test_a_shard_with_an_incomplete_entry_or_a_missing_part_file_is_not_done(tmp_path, noop_task):
    source, sink = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for i in range(3):
        pq.write_table(lake.rows(4, start=10 * i), source / f"{i}.parquet")
    content = {
        "name": "torn",
        "source": {"path": str(source)},
        "tasks": [{"task": "noop", "column": "text", "into": "nothing"}],
        "sink": {"path": str(sink)},
    }
    run_once(content, lambda: None)
    (segment,) = (sink / names.LEDGER).iterdir()
    segment.write_bytes(segment.read_bytes()[:-9])
    lake.parts(sink)[0].unlink()
    assert run_once(content, lambda: None).shards_skipped in (1, 2)
    assert len(lake.read(sink)) == 12


def test_files_of_other_programs_are_not_changed(tmp_path, noop_task):
    source, sink = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    sink.mkdir()
    pq.write_table(lake.rows(4), source / "a.parquet")
    pq.write_table(lake.rows(2), sink / "mine.parquet")
    content = {
        "name": "mine",
        "source": {"path": str(source)},
        "tasks": [{"task": "noop", "column": "text", "into": "nothing"}],
        "sink": {"path": str(sink)},
    }
    run_once(content, lambda: None)
    assert (sink / "mine.parquet").exists()


def test_duckdb_reads_the_newest_entry_of_each_shard(tmp_path, models):
    source = lake.make_lake(tmp_path / "in", files=2, n=20)
    job = lake.job(source, tmp_path / "out", models)
    lake.execute(job)
    pq.write_table(lake.rows(7, start=500), next(source.rglob("*.parquet")))
    report = lake.execute(job)
    ledger = f"read_json('{tmp_path}/out/_nightscribe/ledger/*.jsonl', union_by_name=true, filename=true)"
    newest = "QUALIFY row_number() OVER (PARTITION BY slot ORDER BY filename DESC) = 1"
    query = f"SELECT key, rows_out, run_id FROM {ledger} WHERE slot IS NOT NULL {newest}"
    with duckdb.connect() as connection:
        rows = connection.sql(query).fetchall()
    assert sorted(count for _, count, _ in rows) == [7, 20]
    assert [run for _, count, run in rows if count == 7] == [report.run_id]
