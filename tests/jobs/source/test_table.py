"""Tables as sources: Delta Lake and Iceberg, read at one version."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs import source
from jobs.source import BadRow, Source
from jobs.spec import SourceSpec
from tests.jobs.table import deletes
from transforms.errors import SourceError, SpecError


def _plan(folder: Path, outside: str | None = None, **keys: Any) -> tuple[Source, list[source.Shard]]:
    return source.plan(SourceSpec(table=f"delta://{folder}", **keys), outside)


def _rows(planned: Source, shards: list[source.Shard]) -> pa.Table:
    batches = []
    for shard in shards:
        found = [item for item in source.read(planned, shard, 1000) if isinstance(item, pa.RecordBatch)]
        assert planned.spec.where is not None or shard.rows == sum(map(len, found))
        batches += found
    return pa.Table.from_batches(batches, planned.schema)


def _data(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts]


def _add(folder: Path, rows: pa.Table) -> None:
    """Add a file that another program has written, in row groups of 30,000 rows."""
    pq.write_table(rows, folder / "added.parquet", row_group_size=30_000)
    size = (folder / "added.parquet").stat().st_size
    add = {"path": "added.parquet", "partitionValues": {}, "size": size, "modificationTime": 1, "dataChange": True}
    deletes.commit(folder, {"add": add | {"stats": json.dumps({"numRecords": len(rows)})}})


def test_rows_have_typed_partition_columns_and_only_the_wanted_columns(tmp_path: Path) -> None:
    days = pa.array([datetime.date(2024, 1, 1), None], pa.date32())
    write_deltalake(tmp_path, pa.table({"id": [1, 2], "day": days, "x": [3, 4]}), partition_by=["day"])
    planned, shards = _plan(tmp_path, columns=["day", "id"])
    assert planned.schema.equals(pa.schema({"day": pa.date32(), "id": pa.int64()}))
    assert planned.divided_by == ("day",)
    assert _rows(planned, shards).sort_by("id")["day"].combine_chunks().equals(days)
    planned, shards = _plan(tmp_path, columns=["day"])
    assert sorted(map(str, _rows(planned, shards)["day"].to_pylist())) == ["2024-01-01", "None"]
    with pytest.raises(SpecError, match=r"source.columns: 'no' is not in delta://.*; columns: id, day, x"):
        _plan(tmp_path, columns=["no"])


def test_a_text_that_is_not_utf8_is_a_bad_row_with_its_number(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": pa.array([], pa.int64()), "text": pa.array([], pa.string())}))
    data = pa.array([b"a", b"\xff", b"c"])
    text = pa.StringArray.from_buffers(3, data.buffers()[1], data.buffers()[2])
    _add(tmp_path, pa.table({"id": [1, 2, 3], "text": text}))
    planned, shards = _plan(tmp_path)
    found = list(source.read(planned, shards[0], 100))
    (bad,) = (item for item in found if isinstance(item, BadRow))
    assert (bad.row, bad.column, bad.error_type) == (2, "text", "InvalidUTF8")
    assert [item["id"].to_pylist() for item in found if isinstance(item, pa.RecordBatch)] == [[1, 3]]


def test_a_large_file_is_cut_between_row_groups_and_deleted_rows_stay_out(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": pa.array([], pa.int64())}))
    _add(tmp_path, pa.table({"id": np.arange(150_000)}))
    gone = [0, 59_999, 60_000, 149_999]
    deletes.add_vector(tmp_path, "added.parquet", gone)
    planned, shards = _plan(tmp_path)
    assert [(shard.start, shard.stop, shard.rows) for shard in shards] == [
        (0, 2, 59_998),
        (2, 4, 59_999),
        (4, 5, 29_999),
    ]
    assert np.array_equal(_rows(planned, shards)["id"].to_numpy(), np.setdiff1d(np.arange(150_000), gone))


def test_planning_opens_no_small_file_and_a_file_that_was_cleaned_up_is_named(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    planned, shards = _plan(tmp_path)
    write_deltalake(tmp_path, pa.table({"id": [2]}), mode="overwrite")
    assert _rows(planned, shards)["id"].to_pylist() == [1]
    DeltaTable(tmp_path).vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    planned, shards = _plan(tmp_path, version=0)
    with pytest.raises(SourceError, match=r"no longer exists, so version 0 .* a clean-up \(VACUUM"):
        _rows(planned, shards)


def test_a_plan_on_another_machine_reads_the_version_that_was_planned(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    planned, shards = _plan(tmp_path)
    write_deltalake(tmp_path, pa.table({"id": [2]}), mode="overwrite")
    source.plan(SourceSpec(table=f"delta://{tmp_path}"))
    assert _rows(Source.from_json(planned.to_json()), shards)["id"].to_pylist() == [1]
    # To a second or so, since the clock of the file system may be coarse.
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=5)
    planned, shards = _plan(tmp_path, timestamp=later)
    assert (planned.spec.version, planned.spec.timestamp) == (1, None)
    assert _rows(planned, shards)["id"].to_pylist() == [2]


def test_a_table_made_anew_after_planning_is_not_read_as_the_old_one(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"id": [1]}))
    planned, shards = _plan(tmp_path / "t")
    (old,) = _data(tmp_path / "t")
    shutil.rmtree(tmp_path / "t")
    write_deltalake(tmp_path / "t", pa.table({"id": [2]}))
    (new,) = _data(tmp_path / "t")
    log = tmp_path / "t" / "_delta_log" / f"{0:020}.json"
    log.write_text(log.read_text().replace(new.name, old.name))
    new.rename(old)
    again, fresh = _plan(tmp_path / "t")
    with pytest.raises(SourceError, match="has changed since the run was planned; run again"):
        _rows(planned, shards)
    assert fresh[0].slot == shards[0].slot
    assert fresh[0].id != shards[0].id
    assert _rows(again, fresh)["id"].to_pylist() == [2]


def test_a_version_that_only_deletes_rows_changes_that_file_alone(tmp_path: Path) -> None:
    for i in range(2):
        write_deltalake(tmp_path, pa.table({"id": [2 * i, 2 * i + 1]}), mode="append")
    _, before = _plan(tmp_path)
    deletes.add_vector(tmp_path, before[0].key, [1])
    planned, after = _plan(tmp_path)
    assert before[1] == after[1]
    assert before[0].slot == after[0].slot
    assert before[0].version != after[0].version
    assert len(_rows(planned, after)) == 3


def test_a_column_dropped_and_added_under_the_same_name_makes_new_versions(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1], "note": ["old"]}))
    deletes.rename_columns(tmp_path, {})
    _, before = _plan(tmp_path)
    deletes.rename_columns(tmp_path, {}, physical={"note": "col-2"})
    planned, after = _plan(tmp_path)
    assert _rows(planned, after)["note"].to_pylist() == [None]
    assert before[0].version != after[0].version


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("lang = 'en'", ["en"]),
        ("upper(lang) IN ('DE', 'FR') AND id > 0", ["de", "fr"]),
        ("lang IS NULL", ["None"]),
        ("lang = 'en' OR lang = 'de'", ["de", "en"]),
        ("id >= 200", ["None", "fr"]),
        ("199 < id AND id < 300", ["fr"]),
        ("id = 150", ["en"]),
        ("id BETWEEN 150 AND 160", ["en"]),
        ("day > DATE '2024-01-02'", ["None", "fr"]),
        ("day > '2024-01-02' AND lang <> 'fr'", []),
        ("id * 2 >= 400 OR true", ["None", "de", "en", "fr"]),
        ("x > 2.5", ["None", "de", "en", "fr"]),
        ("NOT id < 200", ["None", "de", "en", "fr"]),
        ("CAST(lang AS INTEGER) > 3", ["de", "en", "fr"]),
    ],
)
def test_files_that_the_condition_rules_out_are_not_opened(tmp_path: Path, where: str, left: list[str]) -> None:
    for i, lang in enumerate(["de", "en", "fr", None]):
        values = {
            "id": [100 * i, 100 * i + 99],
            "lang": pa.array([lang, lang], pa.string()),
            "day": [datetime.date(2024, 1, 1 + i)] * 2,
            "x": [1.0, float("nan")],
        }
        write_deltalake(tmp_path, pa.table(values), mode="append", partition_by=["lang"])
    planned, shards = _plan(tmp_path, where=where)
    kept = [shard for shard in shards if not shard.pruned]
    found = [shard.key.split("/")[0].removeprefix("lang=") for shard in kept]
    assert sorted("None" if lang.startswith("__HIVE") else lang for lang in found) == left
    assert planned.pruned == 4 - len(left)
    for shard in shards:
        if shard.pruned:
            Path(shard.file).unlink()
    _rows(planned, shards)


def test_no_file_is_ruled_out_by_the_type_that_a_column_had(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [2, 10]}))
    planned, shards = _plan(tmp_path, where="id > '3'", types={"id": "string"})
    assert planned.pruned == 0
    assert _rows(planned, shards)["id"].to_pylist() == []
    planned, shards = _plan(tmp_path, where="id >= '2'", types={"id": "string"})
    assert _rows(planned, shards)["id"].to_pylist() == ["2"]


def test_a_table_that_does_not_exist_or_that_the_job_writes_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"source.table 'delta://.*' does not exist"):
        _plan(tmp_path / "no")
    write_deltalake(tmp_path / "t", pa.table({"id": [1]}))
    for folder in (tmp_path, tmp_path / "t", tmp_path / "t" / "out"):
        with pytest.raises(SpecError, match="lie in each other, and a job cannot read what it writes"):
            _plan(tmp_path / "t", str(folder))
    _plan(tmp_path / "t", str(tmp_path / "out"))
