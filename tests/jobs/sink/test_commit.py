"""A commit replaces rows after the accounts are checked, can be killed at any step, and touches only files of ours."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import replace

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from jobs.execute import shard as shards
from jobs.models.pool import ModelPool
from jobs.plan import planning
from jobs.sink.fewer import shrunk
from jobs.sink.ledger import Ledger
from jobs.sink.orphans import part_name
from jobs.source import Shard
from jobs.source.formats import parquet
from jobs.store import Store, lease, names
from tests import lake, s3
from transforms.errors import SpecError, TooManyRejects


class Crash(BaseException):
    """As final as SIGKILL: nothing in the product catches it."""


def job(root, sink=None, **more):
    tasks = [{"task": "noop", "column": "text", "into": "nothing"}]
    content = {"name": "nightly", "source": {"path": str(root / "in")}, "tasks": tasks}
    return content | {"sink": {"path": str(sink or root / "out")}, "errors": {"max_fraction": 1.0}} | more


def write_csv(root, name, rows, bad=0):
    (root / "in").mkdir(exist_ok=True)
    lines = [f"{name}-{i},text {i}" for i in range(rows)] + [f"{name}-bad-{i},text,one more" for i in range(bad)]
    (root / "in" / f"{name}.csv").write_text("\n".join(["id,text", *lines]) + "\n")


def ids(sink):
    found = [pq.read_table(part, partitioning=None)["id"].to_pylist() for part in lake.parts(sink)]
    return sorted(id_ for part in found for id_ in part)


def crash_at(monkeypatch, step, done):
    """From now on the store does `step` changes; the next one is the last, done or not. The number of those done."""
    count = [0]
    for name in ("publish", "append", "move", "delete"):
        original = getattr(Store, name)

        def wrapped(*arguments, original=original):
            count[0] += 1
            if count[0] <= step or (done and count[0] == step + 1):
                original(*arguments)
            if count[0] > step:
                raise Crash

        monkeypatch.setattr(Store, name, wrapped)
    return count


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_commit_killed_at_any_step_is_finished_by_the_next_run(tmp_path, noop_task, monkeypatch, run_once, done):
    for step in range(100):
        root = tmp_path / str(step)
        root.mkdir()
        write_csv(root, "changed", 3, bad=2)
        write_csv(root, "gone", 2, bad=1)
        write_csv(root, "same", 1)
        content = job(root)
        content["sink"]["on_vanished"] = "remove"
        run_once(content)
        write_csv(root, "changed", 4)
        (root / "in" / "gone.csv").unlink()
        with monkeypatch.context() as patched:
            plan = planning.make(spec.parse(content))
            try:
                with run.holding(plan) as held:
                    for shard in held.plan.shards_todo:
                        shards.execute_shard(held.plan, shard, ModelPool(), held.sink)
                    crash_at(patched, step, done)
                    run.finish(held)
            except Crash:
                finished = False
            else:
                finished = True
        # Readers see each file's old rows or its new ones.
        seen = ids(root / "out")
        assert [id_ for id_ in seen if id_.startswith("changed")] in (
            [f"changed-{i}" for i in range(n)] for n in (3, 4)
        )
        assert [id_ for id_ in seen if id_.startswith("gone")] in ([], ["gone-0", "gone-1"])
        report = run_once(content)
        assert report.shards_skipped == 2
        assert ids(root / "out") == [f"changed-{i}" for i in range(4)] + ["same-0"]
        assert not list((root / "out/_rejected").rglob("*.rejected"))
        assert not (root / "out" / names.COMMIT).exists()
        assert not list((root / "out/_nightscribe/staged").rglob("*.*"))
        if finished:
            break
    assert 8 < step < 99


def test_too_many_rejects_leave_what_is_published_and_the_next_run_publishes_without_redoing(
    tmp_path, noop_task, run_once
):
    write_csv(tmp_path, "a", 3)
    run_once(job(tmp_path))
    before = lake.contents(tmp_path / "out")
    write_csv(tmp_path, "a", 3, bad=3)
    strict = job(tmp_path, errors={"max_fraction": 0.1})
    with pytest.raises(TooManyRejects, match=rf"nothing was published.*{names.STAGED_REJECTED}"):
        run_once(strict)
    assert lake.contents(tmp_path / "out") == before
    (staged,) = (tmp_path / "out" / names.STAGED_REJECTED).rglob("*.parquet.rejected.*.staged")
    assert len(pq.read_table(staged)) == 3
    report = run_once(job(tmp_path))
    assert (report.shards_skipped, len(lake.rejected(tmp_path / "out"))) == (1, 3)


def test_a_run_with_other_options_that_was_stopped_makes_the_next_one_redo_nothing(tmp_path, noop_task, run_once):
    for name in ("a", "b"):
        write_csv(tmp_path, name, 3)
    run_once(job(tmp_path))
    other = job(tmp_path)
    other["tasks"][0]["into"] = "something"
    with run.holding(planning.make(spec.parse(other))) as held:
        shards.execute_shard(held.plan, held.plan.shards_todo[0], ModelPool(), held.sink)
    assert run_once(job(tmp_path)).shards_skipped == 2
    assert not list((tmp_path / "out/_nightscribe/staged").rglob("*.*"))
    assert "something" not in lake.read(tmp_path / "out").column_names
    # Nor does the run that goes on with them.
    with run.holding(planning.make(spec.parse(other))) as held:
        shards.execute_shard(held.plan, held.plan.shards_todo[0], ModelPool(), held.sink)
    assert run_once(other).shards_skipped == 1
    assert "something" in lake.read(tmp_path / "out").column_names


def test_a_copied_source_file_gives_its_version_only_to_the_entry_of_the_same_content(tmp_path, noop_task, run_once):
    write_csv(tmp_path, "a", 3)
    run_once(job(tmp_path))
    file = tmp_path / "in/a.csv"
    file.write_text(file.read_text().replace("text 1", "text 9"))
    with run.holding(planning.make(spec.parse(job(tmp_path)))) as held:
        shards.execute_shard(held.plan, held.plan.shards_todo[0], ModelPool(), held.sink)
    os.utime(file, (1, 1))
    with run.holding(planning.make(spec.parse(job(tmp_path)))) as held:
        assert not held.plan.todo
        (published,) = held.sink.published.read().values()
        assert published.version != held.plan.shards[0].version
    run_once(job(tmp_path))
    assert lake.read(tmp_path / "out")["text"].to_pylist() == ["text 0", "text 9", "text 2"]


def test_readers_of_a_sink_find_only_enriched_rows_even_during_a_run(tmp_path, noop_task, run_once):
    sink = tmp_path / "out"
    write_csv(tmp_path, "a", 3, bad=2)
    run_once(job(tmp_path))
    write_csv(tmp_path, "b", 4, bad=1)
    with run.holding(planning.make(spec.parse(job(tmp_path)))) as held:
        for shard in held.plan.shards_todo:
            shards.execute_shard(held.plan, shard, ModelPool(), held.sink)
        assert duckdb.sql(f"select count(*) from '{sink}/**/*.parquet'").fetchall() == [(3,)]
        run.finish(held)
    assert duckdb.sql(f"select count(*) from '{sink}/**/*.parquet'").fetchall() == [(7,)]
    assert pa.dataset.dataset(sink).count_rows() == 7
    assert duckdb.sql(f"select count(*) from read_parquet('{sink}/_rejected/**/*.rejected')").fetchall() == [(3,)]


def test_a_sink_of_version_0_1_keeps_working(tmp_path, noop_task, run_once):
    write_csv(tmp_path, "a", 3, bad=1)
    write_csv(tmp_path, "b", 2)
    run_once(job(tmp_path))
    age(tmp_path / "out")
    assert planning.make(spec.parse(job(tmp_path))).todo.keys() == set(
        Ledger(Store(str(tmp_path / "out")), names.LEDGER).read()
    )
    with pytest.raises(SpecError, match="belongs to job 'nightly'"):
        planning.make(spec.parse(job(tmp_path, name="another")))
    report = run_once(job(tmp_path))
    assert (report.rows_out, report.rows_rejected) == (5, 1)
    assert len(ids(tmp_path / "out")) == 5
    assert len(lake.rejected(tmp_path / "out")) == 1
    assert not list((tmp_path / "out/_rejected").rglob("*.parquet"))


def age(sink):
    """Make a sink look as version 0.1.0 left it: one string as fingerprint, rejected rows in `.parquet`, no owner."""
    segments = list((sink / names.LEDGER).iterdir())
    for entry in [json.loads(line) for file in segments for line in file.read_text().splitlines()[1:]]:
        if entry["rejected"]:
            old = entry["rejected"].removesuffix(names.REJECTED_ENDING)
            (sink / entry["rejected"]).rename(sink / old)
            entry["rejected"] = old
        for key in ("content", "findings", "reused", "lease", "rows_reused", "pieces", "in_table"):
            del entry[key]
        old = json.dumps(entry | {"fingerprint": "0123456789abcdef0123"})
        (sink / names.LEDGER / f"{entry['slot']}.json").write_text(old)
    for file in segments:
        file.unlink()
    (sink / names.OWNER).unlink()


def test_only_files_that_nightscribe_wrote_are_deleted(tmp_path, noop_task, run_once):
    sink = tmp_path / "out"
    write_csv(tmp_path, "a", 2)
    run_once(job(tmp_path))
    (part,) = lake.parts(sink)
    pq.write_table(pa.table({"x": [1]}), sink / "export-20240101-5.parquet")
    (sink / "torn-20240101-6.parquet").write_bytes(b"PAR1")
    copy = sink / "copy-20240101-0.parquet"
    copy.write_bytes(part.read_bytes())
    # What a killed run of version 0.1.0 leaves: a part file without an entry.
    schema = pq.read_schema(part)
    orphan = sink / part_name(Shard("", "a.csv", "", "", 70, 0))
    pq.write_table(schema.empty_table(), orphan)
    run_once(job(tmp_path))
    assert not orphan.exists()
    assert {path.name for path in sink.glob("*.parquet")} == {
        part.name,
        "export-20240101-5.parquet",
        "torn-20240101-6.parquet",
        copy.name,
    }


def test_entries_parts_and_commits_carry_the_number_of_the_lease(tmp_path, noop_task, run_once):
    for number in (1, 2):
        write_csv(tmp_path, f"file-{number}", 2)
        run_once(job(tmp_path))
    entries = Ledger(Store(str(tmp_path / "out")), names.LEDGER).read().values()
    assert sorted((entry.key, entry.lease) for entry in entries) == [("file-1.csv", 1), ("file-2.csv", 2)]


def test_fewer_rows_of_the_same_version_are_found_and_those_of_changed_or_vanished_files_are_not(
    tmp_path, noop_task, run_once
):
    for name in ("a", "b", "c"):
        write_csv(tmp_path, name, 3)
    run_once(job(tmp_path))
    before = Ledger(Store(str(tmp_path / "out")), names.LEDGER).read()
    a, b, c = sorted(before.values(), key=lambda entry: entry.key)
    after = {a.slot: replace(a, rows_in=2), b.slot: replace(b, version="another", rows_in=1)}
    assert shrunk(before, after, [c]) == [("a.csv", 3, 2)]
    assert shrunk(before, before) == []


def test_a_sink_on_s3_is_written_resumed_and_refused_to_another_job(tmp_path, noop_task, run_once, monkeypatch):
    monkeypatch.setattr(parquet, "SHARD_ROWS", 2)
    with s3.server():
        store = Store(f"s3://lake/{uuid.uuid4().hex}")
        content = job(tmp_path, sink=store.url)
        content["sink"]["on_vanished"] = "remove"
        write_csv(tmp_path, "a", 3, bad=1)
        write_csv(tmp_path, "gone", 2)
        assert (run_once(content).rows_out, run_once(content).shards_skipped) == (5, 2)
        write_csv(tmp_path, "a", 4)
        (tmp_path / "in/gone.csv").unlink()
        with monkeypatch.context() as patched, pytest.raises(Crash):
            run_once(content, lambda: crash_at(patched, 5, done=False))
        # A killed process leaves its lease behind, which runs out.
        *_, name = store.names(names.LEASES)
        store.put(name, json.dumps(json.loads(store.get(name)) | {"until": 0}).encode())
        run_once(content)
        (part,) = store.find(".parquet")
        with store.open(part) as stream:
            assert pq.read_table(stream)["id"].to_pylist() == [f"a-{i}" for i in range(4)]
        assert store.find(names.REJECTED_ENDING) == []
        with pytest.raises(SpecError, match="belongs to job 'nightly'"):
            run_once(content | {"name": "another"})
        with lease.hold(store) as held:
            assert held.number == 5
