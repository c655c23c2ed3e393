"""Rows as Spark gives them, compared with those that the formats' own libraries read."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from tests.engines.spark import Spark
from tests.jobs.sink.table.tables import Tables


def name(tables: Tables) -> str:
    """The table as SQL of Spark names it."""
    return f"delta.`{tables.path}`" if tables.format == "delta" else "lake.nights.reviews"


def ask(spark: Spark, tables: Tables, statement: str) -> list[dict[str, Any]]:
    """The rows that a statement about the table gives; `{table}` stands for its name."""
    return spark.sql(statement.format(table=name(tables)), tables.folder / "catalog.db")


def seen(spark: Spark, tables: Tables, columns: str = "*") -> list[dict[str, Any]]:
    """All rows that Spark sees, in the order of their ids."""
    return [_alike(row) for row in ask(spark, tables, f"SELECT {columns} FROM {{table}} ORDER BY id")]


def counts(spark: Spark, tables: Tables, conditions: Collection[str]) -> dict[str, int]:
    """How many rows Spark finds by each condition, in one statement; it skips files by their statistics."""
    asked = [f"SELECT {i} AS i, count(*) AS n FROM {{table}} WHERE {each}" for i, each in enumerate(conditions)]
    found = {row["i"]: row["n"] for row in ask(spark, tables, " UNION ALL ".join(asked))}
    return {each: found[i] for i, each in enumerate(conditions)}


def expected(table: pa.Table) -> list[dict[str, Any]]:
    """Rows that another library has read, as `seen` has them."""
    return [_alike(row) for row in table.to_pylist(maps_as_pydicts="strict")]


def _alike(value: Any) -> Any:
    """A value in the types of both: Spark's instants have no time zone; columns by name."""
    if isinstance(value, dict):
        return {key: _alike(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_alike(each) for each in value]
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value
