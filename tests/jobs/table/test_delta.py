"""Delta Lake tables, written by the package `deltalake`."""

from __future__ import annotations

import datetime
import json
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.table import Snapshot, Table, open_table, rows
from tests.jobs.table import deletes
from transforms.errors import SourceError, SpecError


def _table(folder: Path) -> Table:
    return open_table(f"delta://{folder}", "source.table")


def _snapshot(folder: Path) -> Snapshot:
    found = _table(folder).snapshot()
    assert found is not None
    return found


def _read(folder: Path, snapshot: Snapshot) -> pa.Table:
    table = _table(folder)
    batches = []
    for file in snapshot.files:
        with table.open(file) as stream:
            read = rows.read(
                stream, file.url, (0, 0), snapshot.columns, file.deleted, snapshot.ids, file.partition, 1000
            )
            batches += [batch.cast(snapshot.schema) for _, batch in read]
    return pa.Table.from_batches(batches, snapshot.schema)


def test_a_snapshot_lists_the_files_of_the_log_with_typed_partition_values(tmp_path: Path) -> None:
    days = [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2), None]
    given = pa.table({"id": [1, 2, 3], "lang": ["a b", "d/=%x", None], "day": pa.array(days, pa.date32())})
    write_deltalake(tmp_path / "t", given, partition_by=["lang", "day"])
    (tmp_path / "t" / "not-in-the-log.parquet").write_bytes(b"x")
    found = _snapshot(tmp_path / "t")
    assert found.partition_columns == ("lang", "day")
    assert found.schema.equals(given.schema)
    assert {tuple(file.partition.values()) for file in found.files} == {
        ("a b", days[0]),
        ("d/=%x", days[1]),
        (None, None),
    }
    assert [file.rows for file in found.files] == [1, 1, 1]
    assert all((tmp_path / "t" / file.key).stat().st_size == file.size for file in found.files)
    assert _read(tmp_path / "t", found).sort_by("id").equals(given)


def test_a_table_that_does_not_exist_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert _table(tmp_path / "no").snapshot() is None
    assert _table(tmp_path / "empty").snapshot() is None


def test_old_versions_are_read_by_number_and_by_time(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    time.sleep(0.01)
    between = datetime.datetime.now(datetime.UTC)
    time.sleep(0.01)
    write_deltalake(tmp_path, pa.table({"id": [2]}), mode="overwrite")
    for found in (_table(tmp_path).snapshot(version=0), _table(tmp_path).snapshot(timestamp=between)):
        assert found is not None
        assert found.version == 0
        assert _read(tmp_path, found)["id"].to_pylist() == [1]
    with pytest.raises(SpecError, match=r"source.version 7 .* versions up to 1 exist"):
        _table(tmp_path).snapshot(version=7)
    with pytest.raises(SpecError, match=r"before the first version .* give a later time"):
        _table(tmp_path).snapshot(timestamp=datetime.datetime(1999, 1, 1))


def test_a_version_whose_log_was_cleaned_up_is_refused(tmp_path: Path) -> None:
    for i in range(3):
        write_deltalake(tmp_path, pa.table({"id": [i]}), mode="append")
    DeltaTable(tmp_path).create_checkpoint()
    (tmp_path / "_delta_log" / f"{0:020}.json").unlink()
    with pytest.raises(SpecError, match=r"source.version 0 .* their log was not cleaned up"):
        _table(tmp_path).snapshot(version=0)
    assert len(_snapshot(tmp_path).files) == 3


@pytest.mark.parametrize("checkpoint", [False, True])
def test_rows_in_a_deletion_vector_are_not_read(tmp_path: Path, checkpoint: bool) -> None:
    write_deltalake(tmp_path, pa.table({"id": list(range(100))}))
    write_deltalake(tmp_path, pa.table({"id": [1000]}), mode="append")
    before = _snapshot(tmp_path)
    deletes.add_vector(tmp_path, next(file.name for file in before.files if file.rows == 100), [0, 7, 99])
    if checkpoint:
        DeltaTable(tmp_path).create_checkpoint()
    after = _snapshot(tmp_path)
    assert sorted(file.rows or 0 for file in after.files) == [1, 97]
    assert sorted(bool(file.deletes) for file in after.files) == [False, True]
    assert sorted(_read(tmp_path, after)["id"].to_pylist()) == [*(i for i in range(1, 99) if i != 7), 1000]


def test_a_table_whose_columns_were_renamed_is_read_by_their_names_in_the_files(tmp_path: Path) -> None:
    inner = pa.struct([("a", pa.int64()), ("b", pa.string())])
    given = pa.table({"id": [1, 2], "s": pa.array([{"a": 1, "b": "x"}, None], inner), "p": ["u", "v"]})
    write_deltalake(tmp_path, given, partition_by=["p"])
    deletes.rename_columns(tmp_path, {"id": "key", "s": "t", "b": "c", "p": "part"})
    found = _snapshot(tmp_path)
    assert found.schema.names == ["key", "t", "part"]
    assert found.partition_columns == ("part",)
    assert _read(tmp_path, found).sort_by("key").to_pylist() == [
        {"key": 1, "t": {"a": 1, "c": "x"}, "part": "u"},
        {"key": 2, "t": None, "part": "v"},
    ]


def test_a_column_that_was_added_later_is_null_in_older_files(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1], "s": [{"a": 1}]}))
    more = pa.table({"id": [2], "s": [{"a": 2, "b": "x"}], "more": ["y"]})
    write_deltalake(tmp_path, more, mode="append", schema_mode="merge")
    found = _read(tmp_path, _snapshot(tmp_path)).sort_by("id").to_pylist()
    assert found == [
        {"id": 1, "s": {"a": 1, "b": None}, "more": None},
        {"id": 2, "s": {"a": 2, "b": "x"}, "more": "y"},
    ]


def test_a_table_with_an_unknown_feature_is_refused_with_its_name(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    log = tmp_path / "_delta_log" / f"{1:020}.json"
    features = ["deletionVectors", "variantType"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    log.write_text(json.dumps({"protocol": protocol}))
    with pytest.raises(SpecError, match="variantType"):
        _table(tmp_path).snapshot()


def test_a_damaged_log_is_one_sentence(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    (tmp_path / "_delta_log" / f"{0:020}.json").write_text("{")
    with pytest.raises(SourceError, match=r"^source.table 'delta://.*' cannot be read: "):
        _table(tmp_path).snapshot()


def test_a_table_made_anew_has_another_id(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    before = _snapshot(tmp_path).id
    shutil.rmtree(tmp_path)
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    assert _snapshot(tmp_path).id != before
