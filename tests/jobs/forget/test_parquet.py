"""Parquet files of users are written again without some rows, and are otherwise as they were."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.forget import parquet
from jobs.forget.texts import Texts
from jobs.source import files
from transforms.errors import RunError


def table(path):
    (file,) = files.find(str(path), None)
    return parquet.of_source(file, "data.train", Texts())


@pytest.fixture
def path(tmp_path):
    schema = pa.schema(
        [
            pa.field("text", pa.string(), nullable=False),
            pa.field("label", pa.dictionary(pa.int32(), pa.string())),
            pa.field("vector", pa.list_(pa.float32(), 2)),
            pa.field("entities", pa.list_(pa.struct([("start", pa.int64())]))),
        ],
        {b"owner": b"team"},
    )
    labels = pa.array([f"l{i % 3}" for i in range(10)]).dictionary_encode()
    columns = [[f"t{i}" for i in range(10)], labels, [[i, i] for i in range(10)], [[{"start": i}] for i in range(10)]]
    rows = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    path = tmp_path / "rows.parquet"
    codecs = {"text": "gzip", "label": "none", "vector.list.element": "zstd", "entities.list.element.start": "snappy"}
    pq.write_table(rows, path, row_group_size=4, compression=codecs)
    return path


def test_schema_metadata_row_groups_compression_and_mode_stay(path):
    path.chmod(0o640)
    before = pq.read_table(path)
    codecs = [pq.read_metadata(path).row_group(0).column(i).compression for i in range(4)]
    table(path).remove(np.array([0, 3, 5, 8, 9]))
    after = pq.ParquetFile(path)
    assert after.schema_arrow.equals(before.schema, check_metadata=True)
    assert after.read().equals(before.take([1, 2, 4, 6, 7]))
    assert [after.metadata.row_group(0).column(i).compression for i in range(4)] == codecs
    assert [after.metadata.row_group(i).num_rows for i in range(after.num_row_groups)] == [2, 3]
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in path.parent.iterdir()] == ["rows.parquet"]


def test_a_file_can_lose_all_rows_and_is_still_read(path):
    schema = pq.read_schema(path)
    table(path).remove(np.arange(10))
    assert pq.read_table(path).equals(schema.empty_table())


def test_a_link_stays_a_link(path):
    link = path.with_name("link.parquet")
    link.symlink_to(path)
    table(link).remove(np.array([1]))
    assert link.is_symlink()
    assert len(pq.read_table(path)) == 9


def test_a_file_that_changed_or_cannot_be_written_again_stays_as_it_is(path, tmp_path):
    found = table(path)
    pq.write_table(pa.table({"text": ["new"]}), path)
    with pytest.raises(RunError, match="changed while it was searched"):
        found.remove(np.array([0]))
    assert pq.read_table(path)["text"].to_pylist() == ["new"]
    assert [each.name for each in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_damaged_file_is_named(path):
    path.write_bytes(b"PAR1 no")
    with pytest.raises(RunError, match=r"rows.parquet is no readable Parquet file"):
        table(path).schema()
