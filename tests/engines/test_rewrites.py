"""Spark rewrites the table of a sink between two nights."""

from __future__ import annotations

import os
import time

import pytest

from tests import lake
from tests.engines.rows import ask, expected, seen
from tests.jobs.sink.table.nights import about, from_scratch, night, plain, write

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

DAYS = 3 * 24 * 3600


def compact(spark, tables) -> None:
    """Rewrite all files into few, and delete all that no version has any more, as a nightly maintenance does."""
    # Files of an hour ago and younger are not deleted by Spark.
    for file in (each for each in tables.path.rglob("*") if each.is_file()):
        os.utime(file, (time.time() - DAYS, time.time() - DAYS))
    if tables.format == "delta":
        ask(spark, tables, "OPTIMIZE {table}")
        ask(spark, tables, "SET spark.databricks.delta.retentionDurationCheck.enabled = false")
        ask(spark, tables, "VACUUM {table} RETAIN 0 HOURS")
        return
    call = "CALL lake.system.{}(table => 'nights.reviews'{})"
    yesterday = f"TIMESTAMP '{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(time.time() - DAYS / 2))}'"
    tomorrow = f"TIMESTAMP '{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(time.time() + DAYS))}'"
    for procedure, more in {
        "rewrite_data_files": ", options => map('rewrite-all', 'true')",
        "rewrite_manifests": "",
        "expire_snapshots": f", older_than => {tomorrow}",
        "remove_orphan_files": f", older_than => {yesterday}",
    }.items():
        ask(spark, tables, call.format(procedure, more))


def test_after_a_compaction_and_a_cleaning_by_spark_only_changed_rows_are_computed(spark, tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(30), b=lake.rows(20, 30))
    job = tables.job(source, models)
    night(job)
    write(source, c=lake.rows(10, 50))
    night(job)
    compact(spark, tables)
    assert night(job).rows_in == 0
    write(source, a=lake.rows(30).slice(0, 25), d=lake.rows(10, 60, seed=7))
    report = night(job)
    # The rows of all files that were moved are read again, and only new ones are computed.
    assert (report.rows_out, report.rows_out - report.rows_reused) == (65, 10)
    assert plain(tables.read()) == about(from_scratch(source, models))
    assert seen(spark, tables) == expected(tables.read())
    assert night(job).rows_in == 0


def test_rows_that_spark_deletes_by_position_stay_deleted(spark, tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(10), b=lake.rows(5, 10))
    job = tables.job(source, models)
    night(job)
    if tables.format == "delta":
        ask(spark, tables, "ALTER TABLE {table} SET TBLPROPERTIES ('delta.enableDeletionVectors' = true)")
    else:
        ask(spark, tables, "ALTER TABLE {table} SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')")
    ask(spark, tables, "DELETE FROM {table} WHERE id = 'r11'")
    assert night(job).rows_in == 0
    write(source, c=lake.rows(5, 20))
    night(job)
    found = seen(spark, tables)
    assert [row["id"] for row in found] == sorted(f"r{i}" for i in [*range(15), *range(20, 25)] if i != 11)
