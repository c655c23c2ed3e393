"""Repositories of the Hub with rows, and what a source reads of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import source
from jobs.source import BadRow
from jobs.spec import SourceSpec
from tests.hub.repositories import Repository
from transforms.errors import NightscribeError, SpecError

CARD = """---
dataset_info:
  features:
  - name: nr
    dtype: int32
  - name: label
    dtype:
      class_label:
        names:
          '0': bad
          '1': good
---
# About
"""


def parquet(table: pa.Table | dict[str, Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(table), stream, **options)
    return stream.getvalue()


def rows(repository: Repository, **keys: Any) -> list[Any]:
    planned, shards = source.plan(SourceSpec(dataset=repository.name, **keys))
    items = [item for shard in shards for item in source.read(planned, shard, 100)]
    return [row for item in items for row in ([item] if isinstance(item, BadRow) else item.to_pylist())]


def refused(repository: Repository, kind: type[NightscribeError] = SpecError, **keys: Any) -> str:
    with pytest.raises(kind) as caught:
        rows(repository, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def shards(repository: Repository, **keys: Any) -> dict[str, str]:
    """Key of each shard -> its version."""
    return {shard.key: shard.version for shard in source.plan(SourceSpec(dataset=repository.name, **keys))[1]}


def job(repository: Repository, tmp_path: Path, **keys: Any) -> dict[str, Any]:
    return {
        "name": "nightly",
        "source": {"dataset": repository.name} | keys,
        "tasks": [{"task": "noop", "column": "text", "into": "nothing"}],
        "sink": {"path": str(tmp_path / "out")},
    }


def table(start: int, n: int = 3) -> dict[str, Any]:
    return {"id": [f"r{i}" for i in range(start, start + n)], "text": [f"text {i}" for i in range(start, start + n)]}
