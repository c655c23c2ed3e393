"""Nights of a job in tests: files are written, a run goes over them, rows are compared with a run from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from jobs.report import Report
from tests import lake


def write(folder: Path, **files: pa.Table) -> Path:
    """Write Parquet files, over older ones."""
    folder.mkdir(exist_ok=True)
    for name, table in files.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def night(job: dict[str, Any]) -> Report:
    """Run a job in this process."""
    return run.run(spec.parse(job))


def from_scratch(source: Path, models: Path, **more: Any) -> pa.Table:
    """The rows that a run into an empty folder gives."""
    out = source.parent / f"scratch-{len(list(source.parent.iterdir()))}"
    run.run(spec.parse(lake.job(source, out, models, **more)))
    return lake.read(out)


def is_same(table: pa.Table, other: pa.Table) -> bool:
    """Whether two tables have the same rows, whatever the order of their columns."""
    return plain(table) == about(other)


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """The rows, with their columns in the order of the names."""
    return table.select(sorted(table.column_names)).to_pylist()


def about(table: pa.Table) -> list[Any]:
    """What `plain` must equal.

    A score may differ in the last digits: the rows of a batch that were not taken over are computed without the others.
    """
    return [_about(row) for row in plain(table)]


def _about(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _about(each) for key, each in value.items()}
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
