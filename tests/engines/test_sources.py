"""Spark writes the tables that runs read."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
import pytest

from tests import lake
from tests.engines.rows import ask
from tests.jobs.sink.table.nights import night

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

# What makes Spark mark rows as deleted and leave their files as they are.
BY_POSITION = {
    "delta": "USING delta TBLPROPERTIES ('delta.enableDeletionVectors' = true)",
    "iceberg": "USING iceberg TBLPROPERTIES ('format-version' = '2', 'write.delete.mode' = 'merge-on-read', "
    "'write.update.mode' = 'merge-on-read', 'write.merge.mode' = 'merge-on-read')",
}


def texts(rows: Any) -> dict[str, Any]:
    return {row["id"]: (row["text"], row["stars"]) for row in rows}


def test_deletes_and_updates_of_spark_are_honoured(spark, tables, models, tmp_path):
    if tables.format == "iceberg":
        tables.catalog().create_namespace("nights")
    pq.write_table(lake.rows(50), tmp_path / "rows.parquet")
    statement = (
        f"CREATE TABLE {{table}} {BY_POSITION[tables.format]} AS SELECT * FROM parquet.`{tmp_path}/rows.parquet`"
    )
    ask(spark, tables, statement)
    sink = tmp_path / "sink"
    job = lake.job({"table": tables.url}, sink, models)
    night(job)
    assert texts(lake.read(sink).to_pylist()) == texts(ask(spark, tables, "SELECT * FROM {table}"))
    before = tables.files()
    ask(spark, tables, "DELETE FROM {table} WHERE id IN ('r3', 'r30')")
    ask(spark, tables, "UPDATE {table} SET text = 'another text' WHERE id = 'r7'")
    assert set(before) < set(tables.files())
    report = night(job)
    assert report.rows_reused == 47
    found = lake.read(sink)
    assert len(found) == 48
    assert texts(found.to_pylist()) == texts(ask(spark, tables, "SELECT * FROM {table}"))
    assert night(job).rows_in == 0
