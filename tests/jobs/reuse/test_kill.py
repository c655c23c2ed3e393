"""A run that is killed while it takes rows over leaves finished shards, which the next run keeps."""

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import run, spec
from jobs.execute import shard as shards
from jobs.models.pool import ModelPool
from jobs.source.formats import parquet
from tests import lake
from tests.lake import execute


def test_staged_shards_survive_and_the_rest_is_taken_over_by_the_next_run(tmp_path, shout, monkeypatch):
    monkeypatch.setattr(parquet, "SHARD_ROWS", 10)
    (tmp_path / "in").mkdir()

    def dump(texts):
        ids = [f"r{i:02}" for i in range(len(texts))]
        pq.write_table(pa.table({"id": ids, "text": texts}), tmp_path / "in" / "dump.parquet", row_group_size=10)

    content = {
        "name": "test",
        "source": {"path": str(tmp_path / "in")},
        "tasks": [{"task": shout.task, "column": "text", "into": "loud"}],
        "sink": {"path": str(tmp_path / "out")},
    }
    texts = [f"t{i}" for i in range(30)]
    dump(texts)
    execute(content)
    shout.taken()
    texts[3], texts[25] = "early", "late"
    dump(texts)

    # Nothing is finished: as after a kill.
    with run.holding(run.prepare(spec.parse(content))) as held:
        shards.execute_shard(held.plan, held.plan.shards_todo[0], ModelPool(), held.sink)
    left = tmp_path / "out" / "_nightscribe" / "tmp" / "killed"
    left.mkdir()
    (left / "rows.high").write_bytes(b"half")
    assert shout.taken() == ["early"]
    report = execute(content)
    assert (shout.taken(), report.rows_reused, report.shards_skipped) == (["late"], 28, 1)
    assert lake.read(tmp_path / "out")["loud"].to_pylist() == [text.upper() for text in texts]
    assert not list((tmp_path / "out" / "_nightscribe" / "tmp").iterdir())
