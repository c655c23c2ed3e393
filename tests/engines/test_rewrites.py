"""Spark changes the table of a sink between two nights."""

from __future__ import annotations

import pytest

from tests import lake
from tests.engines.rows import ask, seen
from tests.jobs.sink.table.nights import night, write

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]


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
