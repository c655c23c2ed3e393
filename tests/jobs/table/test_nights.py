"""Nights on a table as the source: Delta Lake and Iceberg, into a folder of Parquet files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.table.snapshots import Operation, Summary

from jobs import spec
from jobs.plan import planning
from jobs.sink import open_sink
from jobs.spec import SinkSpec
from tests import lake
from tests.jobs.table import deletes
from transforms.errors import SpecError


class Delta:
    """A Delta table."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.url = f"delta://{folder}"

    def append(self, rows: pa.Table) -> None:
        write_deltalake(self.folder, rows, mode="append", schema_mode="merge")

    def overwrite(self, rows: pa.Table) -> None:
        write_deltalake(self.folder, rows, mode="overwrite")

    def delete(self, condition: str) -> None:
        DeltaTable(self.folder).delete(condition)

    def drop(self) -> None:
        shutil.rmtree(self.folder)

    def compact(self) -> None:
        DeltaTable(self.folder).optimize.compact()


class Iceberg:
    """An Iceberg table."""

    def __init__(self, catalog: Catalog):
        self.catalog = catalog
        self.url = "iceberg://lake/ns.t"

    def append(self, rows: pa.Table) -> None:
        try:
            table = self.catalog.load_table("ns.t")
        except NoSuchTableError:
            table = self.catalog.create_table("ns.t", rows.schema)
        with table.update_schema() as update:
            update.union_by_name(rows.schema)
        table.append(rows)

    def overwrite(self, rows: pa.Table) -> None:
        self.catalog.load_table("ns.t").overwrite(rows)

    def delete(self, condition: str) -> None:
        self.catalog.load_table("ns.t").delete(condition)

    def compact(self) -> None:
        # Rewrites the files in a snapshot of the kind `replace`, as Spark's rewrite_data_files does.
        table = self.catalog.load_table("ns.t")
        with table.transaction() as transaction:
            overwrite = transaction.update_snapshot().overwrite()
            # The package computes no summary for it.
            overwrite._summary = lambda *_: Summary(Operation.REPLACE)  # type: ignore[method-assign]
            with overwrite:
                for task in table.scan().plan_files():
                    overwrite.delete_data_file(task.file)
                for file in _dataframe_to_data_files(table.metadata, table.scan().to_arrow(), table.io):
                    overwrite.append_data_file(file)

    def drop(self) -> None:
        self.catalog.drop_table("ns.t")


@pytest.fixture(params=["delta", "iceberg"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Delta | Iceberg:
    if request.param == "delta":
        return Delta(tmp_path / "t")
    return Iceberg(request.getfixturevalue("catalog"))


@pytest.fixture
def night(table: Delta | Iceberg, tmp_path: Path, models: Path) -> Callable[..., Any]:
    """Run the job, and return the report."""

    def run(**source: Any) -> Any:
        return lake.execute(lake.job({"table": table.url} | source, tmp_path / "out", models))

    return run


def _check(table: Delta | Iceberg, tmp_path: Path, models: Path) -> None:
    """The sink has exactly the rows of a run from scratch, with the same labels."""
    lake.execute(lake.job({"table": table.url}, tmp_path / "scratch", models))
    found, scratch = ((lake.read(tmp_path / name)) for name in ("out", "scratch"))
    # The last digits of a score depend on the rows that were computed together.
    assert found.drop_columns("sentiment").equals(scratch.drop_columns("sentiment"))
    assert pc.struct_field(found["sentiment"], "label").equals(pc.struct_field(scratch["sentiment"], "label"))


def _reasons(table: Delta | Iceberg, tmp_path: Path, models: Path) -> set[str]:
    plan = planning.make(spec.parse(lake.job({"table": table.url}, tmp_path / "out", models)))
    return set(plan.todo.values())


def test_each_night_computes_only_the_files_that_the_log_has_added(
    table: Delta | Iceberg, night: Callable[..., Any], tmp_path: Path, models: Path
) -> None:
    table.append(lake.rows(30))
    assert night().rows_in == 30
    table.append(lake.rows(20, start=100, seed=1))
    assert night().rows_in == 20
    report = night()
    assert (report.rows_in, report.shards_skipped) == (0, 2)
    _check(table, tmp_path, models)


def test_rows_that_the_table_no_longer_has_leave_the_sink(
    table: Delta | Iceberg, night: Callable[..., Any], tmp_path: Path
) -> None:
    table.append(lake.rows(30))
    table.append(lake.rows(20, start=100, seed=1))
    night()
    table.delete("id = 'r3'")
    report = night()
    assert report.rows_removed == 30
    assert len(lake.read(tmp_path / "out")) == 49
    table.overwrite(lake.rows(10, start=500, seed=2))
    report = night()
    assert (report.rows_in, report.rows_removed, report.rows_vanished) == (10, 49, 0)
    assert len(lake.read(tmp_path / "out")) == 10
    table.delete("stars >= 0")
    assert night().rows_removed == 10
    assert lake.parts(tmp_path / "out") == []


def test_a_limit_leaves_finished_files_after_it_alone(
    table: Delta | Iceberg, night: Callable[..., Any], tmp_path: Path, models: Path
) -> None:
    table.append(lake.rows(30))
    table.append(lake.rows(20, start=100, seed=1))
    night()
    job = lake.job({"table": table.url, "limit": 1}, tmp_path / "out", models)
    job["sink"]["allow_fewer_rows"] = True
    lake.execute(job)
    assert len(lake.read(tmp_path / "out")) == 50
    table.overwrite(lake.rows(10, start=500, seed=2))
    lake.execute(job)
    assert lake.read(tmp_path / "out")["id"].to_pylist() == ["r500"]


def test_a_table_dropped_and_made_anew_leaves_no_old_row(
    table: Delta | Iceberg, night: Callable[..., Any], tmp_path: Path
) -> None:
    table.append(lake.rows(30))
    night()
    table.drop()
    table.append(lake.rows(10, seed=5))
    assert night().rows_in == 10
    assert len(lake.read(tmp_path / "out")) == 10


def test_a_column_added_to_the_table_appears_in_the_next_night(
    table: Delta | Iceberg, night: Callable[..., Any], tmp_path: Path, models: Path
) -> None:
    table.append(lake.rows(30))
    night()
    more = lake.rows(10, start=100, seed=1)
    table.append(more.append_column("note", pa.array(["x"] * 10)))
    assert _reasons(table, tmp_path, models) == {"new file", "other columns"}
    night()
    assert lake.read(tmp_path / "out")["note"].null_count == 30
    _check(table, tmp_path, models)


def test_the_condition_reads_only_files_that_it_does_not_rule_out(
    table: Delta | Iceberg, night: Callable[..., Any], tmp_path: Path, models: Path
) -> None:
    for i in range(3):
        rows = lake.rows(10, start=100 * i, seed=i)
        table.append(rows.append_column("day", pa.array([i] * 10, pa.int32())))
    report = night(where="day >= 1")
    assert (report.shards, report.rows_out) == (2, 20)
    # The rows of a file that a new condition rules out are protected like others.
    job = lake.job({"table": table.url, "where": "day >= 2"}, tmp_path / "out", models)
    with pytest.raises(SpecError, match=r"allow the removal of the rows with sink\.allow_fewer_rows=true"):
        lake.execute(job)
    lake.execute(job | {"sink": {"path": str(tmp_path / "out"), "allow_fewer_rows": True}})
    assert len(lake.read(tmp_path / "out")) == 10


def test_an_older_version_can_be_enriched(table: Delta | Iceberg, tmp_path: Path, models: Path) -> None:
    table.append(lake.rows(30))
    planned = planning.make(spec.parse(lake.job({"table": table.url}, tmp_path / "out", models)))
    table.append(lake.rows(20, start=100, seed=1))
    version = planned.source.spec.version
    report = lake.execute(lake.job({"table": table.url, "version": version}, tmp_path / "out", models))
    assert report.rows_out == 30


@pytest.mark.parametrize("table", ["delta"], indirect=True)
def test_a_killed_run_resumes_where_it_stopped_although_the_table_has_changed(
    table: Delta | Iceberg, night: Callable[..., Any], tmp_path: Path, models: Path
) -> None:
    for i in range(6):
        table.append(lake.rows(100, start=1000 * i, seed=i))
    file = lake.write_job(tmp_path, lake.job({"table": table.url}, tmp_path / "out", models))
    process = subprocess.Popen([sys.executable, "-m", "jobs.cli", "run", str(file), "--quiet"], stdout=subprocess.PIPE)
    while not (done := open_sink(SinkSpec(path=str(tmp_path / "out"))).entries()):
        time.sleep(0.02)
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    table.append(lake.rows(20, start=9000, seed=9))
    report = night()
    assert report.shards == 7
    assert report.shards_skipped >= len(done)
    _check(table, tmp_path, models)


def test_a_compaction_computes_nothing_and_is_named_as_the_reason(
    table: Delta | Iceberg, night: Callable[..., Any], tmp_path: Path, models: Path
) -> None:
    for i in range(3):
        table.append(lake.rows(20, start=100 * i, seed=i))
    night()
    table.compact()
    assert _reasons(table, tmp_path, models) == {"compacted file of the table"}
    report = night()
    assert (report.rows_in, report.rows_reused, report.tokens) == (60, 60, 0)
    _check(table, tmp_path, models)


@pytest.mark.parametrize("table", ["delta"], indirect=True)
def test_a_deletion_vector_changes_its_file_alone(
    table: Delta, night: Callable[..., Any], tmp_path: Path, models: Path
) -> None:
    table.append(lake.rows(30))
    table.append(lake.rows(20, start=100, seed=1))
    night()
    name = next(path.name for path in table.folder.glob("*.parquet"))
    deletes.add_vector(table.folder, name, [0, 5])
    report = night()
    assert report.shards_skipped == 1
    assert report.rows_out in (28, 18)
    assert report.rows_reused == report.rows_out
    _check(table, tmp_path, models)
