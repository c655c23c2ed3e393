"""A job runs end to end on a real Beam runner: every column kept, every row once."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import pipeline

from jobs import run, spec
from jobs.execute import progress
from jobs.execute.stop import NEVER
from jobs.models.pool import ModelPool
from jobs.plan import Plan, planning
from jobs.sink import open_sink
from jobs.store.lease import Lease
from tests import lake
from tests.lake import execute, make_lake
from transforms.errors import SinkError, SpecError


def test_a_job_keeps_every_column_and_adds_its_own(tmp_path, models):
    source = make_lake(tmp_path / "in")
    tasks = lake.job(source, tmp_path / "out", models)["tasks"]
    tasks.append(
        {"task": "ner", "column": "text", "model": str(models / "ner"), "into": "entities", "dtype": "float32"}
    )
    report = execute(lake.job(source, tmp_path / "out", models, tasks=tasks))
    assert (report.rows_in, report.rows_out, report.rows_rejected) == (180, 180, 0)
    assert (report.shards, report.shards_skipped) == (3, 0)
    assert report.padded_tokens >= report.tokens > 0
    got = lake.read(tmp_path / "out")
    assert got.schema.names == ["id", "text", "stars", "sentiment", "entities"]
    want = pa.concat_tables([lake.rows(60, start=1000 * (i + 1), seed=i) for i in range(3)])
    assert got.select(["id", "text", "stars"]).equals(want)
    texts = [text for text in want["text"].to_pylist() if text]
    reference = pipeline("text-classification", model=str(models / "sentiment"), device="cpu")(
        texts, truncation=True, max_length=64
    )
    labels = [row["label"] for row in got["sentiment"].to_pylist() if row is not None]
    assert labels == [row["label"] for row in reference]
    assert sorted(p.parent.name for p in lake.parts(tmp_path / "out")) == ["lang=de", "lang=de", "lang=en"]


def test_the_footer_names_the_weights_that_computed_the_columns(tmp_path, models):
    source = make_lake(tmp_path / "in", files=1)
    execute(lake.job(source, tmp_path / "out", models))
    metadata = pq.read_schema(lake.parts(tmp_path / "out")[0]).metadata
    assert metadata[b"nightscribe.source"] == b"lang=de/part-0.parquet"
    assert metadata[b"nightscribe.tasks.0"].startswith(f"classify + {models / 'sentiment'}@".encode())


def test_columns_of_nulls_have_the_same_schema_in_every_part(tmp_path, models):
    source = tmp_path / "in"
    source.mkdir()
    pq.write_table(lake.rows(5), source / "a.parquet")
    pq.write_table(
        pa.table({"id": ["x"], "text": pa.array([None], pa.string()), "stars": pa.array([None], pa.int8())}),
        source / "b.parquet",
    )
    pq.write_table(lake.rows(5).slice(0, 0), source / "c.parquet")
    execute(lake.job(source, tmp_path / "out", models))
    schemas = {pq.read_schema(part).remove_metadata().to_string() for part in lake.parts(tmp_path / "out")}
    assert len(lake.parts(tmp_path / "out")) == 3
    assert len(schemas) == 1


def test_limit_counts_rows_after_where_and_prepare(tmp_path, models):
    source = make_lake(tmp_path / "in")
    (tmp_path / "clean_prepare.py").write_text(
        "import pyarrow.compute as pc\n"
        "def shout(batch):\n"
        "    i = batch.schema.get_field_index('text')\n"
        "    return batch.set_column(i, 'text', pc.utf8_upper(batch.column(i)))\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        where = {
            "path": str(source),
            "where": "stars = 4",
            "limit": 17,
            "prepare": "clean_prepare:shout",
            "columns": ["id", "text", "stars"],
        }
        report = execute(lake.job(where, tmp_path / "out", models))
    finally:
        sys.path.remove(str(tmp_path))
    got = lake.read(tmp_path / "out")
    assert (report.rows_in, len(got)) == (17, 17)
    assert set(got["stars"].to_pylist()) == {4}
    assert all(text == text.upper() for text in got["text"].to_pylist() if text)


def test_several_processes_give_the_same_files_as_one_and_write_nothing_to_the_terminal(tmp_path, models, capfd):
    source = make_lake(tmp_path / "in")
    one, two = tmp_path / "one", tmp_path / "two"
    execute(lake.job(source, one, models))
    parsed = spec.parse(lake.job(source, two, models, runner={"name": "local", "workers": 2}))
    with run.holding(run.prepare(parsed)) as held:
        capfd.readouterr()
        run.execute(held)
        assert capfd.readouterr().err == ""
        told = [
            json.loads(held.sink.store.get(name)) for name in held.sink.store.names(progress.folder(held.plan.run_id))
        ]
        assert sorted(worker["shards"] for worker in told) == [1, 2]
        run.finish(held)
    assert lake.contents(one).keys() == lake.contents(two).keys()
    assert (
        lake.read(one)["sentiment"]
        .combine_chunks()
        .field("label")
        .equals(lake.read(two)["sentiment"].combine_chunks().field("label"))
    )


def test_parts_of_a_plan_can_be_executed_by_other_processes(tmp_path, models):
    from jobs.runners import beam

    source = make_lake(tmp_path / "in")
    plan = Plan.from_json(planning.make(spec.parse(lake.job(source, tmp_path / "out", models))).to_json())
    beam.execute(plan, plan.shards[2:])
    held = run.Held(plan, sink := open_sink(plan.spec.sink), Lease(sink.store, 1), ModelPool(), NEVER)
    with pytest.raises(SinkError, match=r"2 of 3 shards are not done, first 'lang=de/part-0.parquet'; run again"):
        run.finish(held)
    beam.execute(plan, plan.shards[:2])
    assert run.finish(held).rows_out == 180


def test_a_sink_inside_its_source_is_refused(tmp_path, models):
    source = make_lake(tmp_path / "in")
    content = lake.job(f"{source}/**/*.parquet", source / "enriched", models)
    with pytest.raises(SpecError, match=r"lies inside source.path .* point sink.path to a folder beside the source"):
        execute(content)
    assert not (source / "enriched").exists()
