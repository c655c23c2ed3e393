"""Iceberg tables in a catalog in SQLite, written by the package `pyiceberg`."""

from __future__ import annotations

import datetime
import sqlite3
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, StringType

from jobs.table import DataFile, Snapshot, Table, open_table, rows
from tests.jobs.table import position_deletes
from transforms.errors import SinkError, SourceError, SpecError

DAYS = [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]


def _table(name: str = "ns.t") -> Table:
    return open_table(f"iceberg://lake/{name}", "source.table")


def _snapshot() -> Snapshot:
    found = _table().snapshot()
    assert found is not None
    return found


def _read(snapshot: Snapshot) -> list[dict[str, object]]:
    table = _table()
    found: list[dict[str, object]] = []
    for file in snapshot.files:
        with table.open(file) as stream:
            read = rows.read(
                stream, file.url, (0, 0), snapshot.columns, file.deleted, snapshot.ids, file.partition, 1000
            )
            for _, batch in read:
                found += batch.cast(snapshot.schema).to_pylist()
    return found


def _read_file(file: DataFile) -> list[dict[str, object]]:
    return _read(replace(_snapshot(), files=[file]))


def test_a_snapshot_lists_the_files_of_the_manifests_with_typed_partition_values(catalog: Catalog) -> None:
    given = pa.table({"id": [1, 2], "day": pa.array(DAYS)})
    table = catalog.create_table("ns.t", given.schema)
    assert _snapshot().version == -1
    with table.update_spec() as update:
        update.add_field("day", IdentityTransform(), "day")
    table.append(given)
    found = _snapshot()
    assert found.schema.equals(given.schema)
    assert found.partition_columns == ("day",)
    assert sorted(str(file.partition) for file in found.files) == [str({"day": day}) for day in DAYS]
    assert [file.rows for file in found.files] == [1, 1]
    assert all(file.key.startswith("data/day=") for file in found.files)
    assert sorted(_read(found), key=str) == sorted(given.to_pylist(), key=str)


def test_a_table_that_does_not_exist_is_none(catalog: Catalog) -> None:
    assert _table("ns.no").snapshot() is None
    assert _table("other.no").snapshot() is None


def test_columns_are_found_by_id_after_they_were_renamed_added_widened_and_dropped(catalog: Catalog) -> None:
    inner = pa.struct([("a", pa.int32()), ("b", pa.string())])
    given = pa.table(
        {
            "id": pa.array([1, 2], pa.int32()),
            "s": pa.array([{"a": 1, "b": "x"}, None], inner),
            "l": pa.array([[{"a": 2, "b": "y"}], []], pa.list_(inner)),
            "m": pa.array([[("k", {"a": 3, "b": "z"})], []], pa.map_(pa.string(), inner)),
            "old": ["p", "q"],
        }
    )
    table = catalog.create_table("ns.t", given.schema)
    table.append(given)
    before = _snapshot()
    with table.update_schema() as update:
        update.delete_column("old")
        update.update_column("id", LongType())
    with table.update_schema() as update:
        update.rename_column("id", "key")
        for path in ("s", "l.element", "m.value"):
            update.rename_column(f"{path}.b", "c")
    with table.update_schema() as update:
        for path in ("s", "l.element", "m.value"):
            update.add_column((*path.split("."), "b"), StringType())
        update.add_column("old", LongType())
    after = _snapshot()
    assert after.schema.field("key").type == pa.int64()
    assert _read(after) == [
        {
            "key": 1,
            "s": {"a": 1, "c": "x", "b": None},
            "l": [{"a": 2, "c": "y", "b": None}],
            "m": [("k", {"a": 3, "c": "z", "b": None})],
            "old": None,
        },
        {"key": 2, "s": None, "l": [], "m": [], "old": None},
    ]
    assert before.version == after.version


def test_files_of_an_older_partition_spec_are_read(catalog: Catalog) -> None:
    given = pa.table({"id": [1, 2], "day": pa.array(DAYS)})
    table = catalog.create_table("ns.t", given.schema)
    table.append(given)
    with table.update_spec() as update:
        update.add_field("day", IdentityTransform(), "day")
    table.append(given)
    found = _snapshot()
    assert sorted(len(file.partition) for file in found.files) == [0, 1, 1]
    assert len(_read(found)) == 4


def test_old_snapshots_are_read_by_id_and_by_time_with_their_columns(catalog: Catalog) -> None:
    given = pa.table({"id": [1]})
    table = catalog.create_table("ns.t", given.schema)
    table.append(given)
    first = table.current_snapshot()
    assert first is not None
    with table.update_schema() as update:
        update.rename_column("id", "key")
        update.add_column("more", StringType())
    table.overwrite(pa.table({"key": [2], "more": ["x"]}))
    at = datetime.datetime.fromtimestamp(first.timestamp_ms / 1000, datetime.UTC)
    for found in (_table().snapshot(version=first.snapshot_id), _table().snapshot(timestamp=at)):
        assert found is not None
        assert _read(found) == [{"id": 1}]
    assert _read(_snapshot()) == [{"key": 2, "more": "x"}]
    with pytest.raises(SpecError, match=r"source.version 5 is not a snapshot .* or has expired; the newest are: "):
        _table().snapshot(version=5)
    with pytest.raises(SpecError, match="before every snapshot"):
        _table().snapshot(timestamp=datetime.datetime(1999, 1, 1))


def test_a_catalog_that_is_not_configured_is_named(catalog: Catalog) -> None:
    with pytest.raises(SpecError, match=r"catalog 'other' is not configured; .* set PYICEBERG_CATALOG__OTHER__URI"):
        open_table("iceberg://other/ns.t").snapshot()


def test_a_catalog_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__GONE__URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("PYICEBERG_CATALOG__GONE__TYPE", "rest")
    with pytest.raises(SourceError, match="catalog 'gone' does not answer: ") as found:
        open_table("iceberg://gone/ns.t").snapshot()
    assert "secret" not in str(found.value)


def test_rows_that_delete_files_and_vectors_name_are_not_read(catalog: Catalog) -> None:
    table = catalog.create_table("ns.t", pa.schema({"id": pa.int64()}))
    for start in (0, 100, 200):
        table.append(pa.table({"id": range(start, start + 10)}))
    before = {min(int(str(row["id"])) for row in _read_file(file)): file for file in _snapshot().files}
    position_deletes.by_position(table, {before[0].name: [0, 9], before[100].name: [5]})
    position_deletes.by_vector(table, before[0].name, [0, 3])
    found = {file.name: file for file in _snapshot().files}
    assert [found[before[start].name].rows for start in (0, 100, 200)] == [7, 9, 10]
    assert [bool(found[before[start].name].deletes) for start in (0, 100, 200)] == [True, True, False]
    left = {*range(10), *range(100, 110), *range(200, 210)} - {0, 3, 9, 105}
    assert {row["id"] for row in _read(_snapshot())} == left
    # A delete file that is written anew, with others, deletes the same rows.
    position_deletes.by_position(table, {before[0].name: [0, 3, 9]})
    assert {file.name: file.deletes for file in _snapshot().files} == {name: f.deletes for name, f in found.items()}


def test_equality_deletes_are_refused_with_the_fix(catalog: Catalog) -> None:
    table = catalog.create_table("ns.t", pa.schema({"id": pa.int64()}))
    table.append(pa.table({"id": [1, 2]}))
    position_deletes.by_value(table, 1, pa.table({"id": [1]}))
    with pytest.raises(SpecError, match="has equality deletes, which cannot be read; compact it with the engine"):
        _table().snapshot()


def test_files_of_other_programs_are_read_by_the_names_of_their_columns(catalog: Catalog, tmp_path: Path) -> None:
    table = catalog.create_table(
        "ns.t", pa.schema({"id": pa.int64(), "day": pa.date32(), "s": pa.struct({"a": pa.int64()})})
    )
    rows_ = pa.table({"s": [{"a": 5}], "id": [1], "day": [DAYS[0]]})
    pq.write_table(rows_, tmp_path / "given.parquet")
    table.add_files([str(tmp_path / "given.parquet")])
    with table.update_schema() as update:
        update.rename_column("id", "key")
    (file,) = _snapshot().files
    assert file.key == str(tmp_path / "given.parquet").lstrip("/")
    assert _read(_snapshot()) == [{"key": 1, "day": DAYS[0], "s": {"a": 5}}]


def test_a_catalog_whose_database_is_locked_is_named_when_a_commit_is_looked_for(
    catalog: Catalog, tmp_path: Path
) -> None:
    catalog.create_table("ns.t", pa.schema([("id", pa.int64())]))
    other = sqlite3.connect(tmp_path / "catalog.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SinkError, match=r"'ns.t' cannot be written: .*database is locked"):
        _table().committed("one")
    other.close()
    assert not _table().committed("one")
