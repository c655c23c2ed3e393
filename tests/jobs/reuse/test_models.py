"""Results of every Arrow type are taken over as they are, and several processes share one index."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.models import pool
from jobs.source.formats import parquet
from tests import lake
from tests.lake import execute


def dump(folder, rows, **more):
    folder.mkdir(exist_ok=True)
    pq.write_table(rows, folder / "dump.parquet", **more)


def compare(content, tmp_path):
    """The rows of the sink are those of a run into an empty one, up to what the batch of a row does to a float."""
    clean = content | {"sink": {"path": str(tmp_path / "fresh")}}
    execute(clean)
    out, expected = lake.read(tmp_path / "out"), lake.read(tmp_path / "fresh")
    assert out.schema.equals(expected.schema)
    assert near(out.to_pylist(), expected.to_pylist())


def near(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(near, one, other))
    return one == pytest.approx(other, abs=1e-5) if isinstance(one, float) else one == other


def test_labels_entities_and_vectors_of_unchanged_rows_are_those_of_a_new_run(tmp_path, models):
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    content["tasks"] += [
        {"task": "ner", "column": "text", "model": str(models / "ner"), "into": "entities", "dtype": "float32"},
        {"task": "embed", "column": "text", "model": str(models / "mlm"), "into": "vector", "dtype": "float32"},
    ]
    rows = lake.rows(200)
    dump(tmp_path / "in", rows, row_group_size=64)
    execute(content)
    before = lake.read(tmp_path / "out")
    dump(tmp_path / "in", pa.concat_tables([rows.slice(150), rows.slice(0, 140)]))
    report = execute(content)
    kept = pc.is_in(before["id"], lake.read(tmp_path / "out")["id"].combine_chunks())
    assert lake.read(tmp_path / "out").equals(before.filter(kept))
    assert (report.rows_in, report.rows_reused, report.tokens) == (190, 190, 0)
    compare(content, tmp_path)


def test_a_row_whose_adapter_changed_is_computed(tmp_path, models):
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    content["tasks"][0] |= {"adapter_column": "team", "adapters": {"a": "base", "default": "base"}}
    rows = lake.rows(40).slice(0, 19)
    dump(tmp_path / "in", rows.append_column("team", pa.array(["a"] * 19)))
    execute(content)
    dump(tmp_path / "in", rows.append_column("team", pa.array(["a"] * 18 + ["b"])))
    report = execute(content)
    assert (report.rows_in, report.rows_reused) == (19, 18)
    compare(content, tmp_path)


def test_shards_of_a_file_in_several_processes_share_the_index(tmp_path, shout, monkeypatch):
    monkeypatch.setattr(parquet, "SHARD_ROWS", 100)
    texts = [f"text {i}" for i in range(600)]
    ids = [f"r{i:03}" for i in range(600)]
    dump(tmp_path / "in", pa.table({"id": ids, "text": texts}), row_group_size=100)
    content = {
        "name": "test",
        "source": {"path": str(tmp_path / "in")},
        "tasks": [{"task": shout.task, "column": "text", "into": "loud"}],
        "sink": {"path": str(tmp_path / "out")},
        "runner": {"workers": 2},
    }
    execute(content)
    shout.taken()
    texts[100], texts[500] = "first", "second"
    dump(tmp_path / "in", pa.table({"id": ids[::-1], "text": texts[::-1]}), row_group_size=100)
    report = execute(content)
    assert (shout.taken(), report.rows_reused) == (["first", "second"], 598)
    assert lake.read(tmp_path / "out")["loud"].to_pylist() == [text.upper() for text in texts]
    assert not list((tmp_path / "out" / "_nightscribe" / "tmp").iterdir())


def test_a_lake_of_copied_files_loads_no_model(tmp_path, models, monkeypatch):
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    lake.make_lake(tmp_path / "in")
    execute(content)
    (tmp_path / "in" / "lang=de").rename(tmp_path / "in" / "lang=fr")
    loaded = []
    monkeypatch.setattr(pool, "load", loaded.append)
    report = execute(content)
    assert (report.rows_in, report.rows_reused, report.tokens, loaded) == (120, 120, 0, [])
