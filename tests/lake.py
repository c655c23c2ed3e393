"""Small lakes and job files for tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import yaml

from jobs import run, spec
from jobs.report import Report
from tests import tiny


def rows(n: int, start: int = 0, seed: int = 0) -> pa.Table:
    """id, text, stars; every 20th text null, every 21st empty."""
    texts = tiny.texts(n, seed)
    texts = [None if i % 20 == 19 else "" if i % 21 == 20 else text for i, text in enumerate(texts)]
    ids = [f"r{start + i}" for i in range(n)]
    return pa.table(
        {"id": ids, "text": pa.array(texts, pa.string()), "stars": pa.array([i % 5 for i in range(n)], pa.int8())}
    )


def job(source: Any, sink: Path, models: Path, **more: Any) -> dict[str, Any]:
    """A job with one classify task in float32."""
    source = source if isinstance(source, dict) else {"path": str(source)}
    task = {
        "task": "classify",
        "column": "text",
        "model": str(models / "sentiment"),
        "into": "sentiment",
        "dtype": "float32",
    }
    return {"name": "test", "source": source, "tasks": [task], "sink": {"path": str(sink)}} | more


def write_job(folder: Path, content: dict[str, Any]) -> Path:
    """Save a job file."""
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def command(*arguments: object, cwd: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `nightscribe` in a process of its own."""
    words = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False)


def parts(sink: Path) -> list[Path]:
    """The part files that a reader of the lake sees."""
    hidden = (path for path in sink.rglob("*.parquet"))
    return sorted(p for p in hidden if not any(name.startswith(("_", ".")) for name in p.relative_to(sink).parts))


def read(sink: Path) -> pa.Table:
    """All enriched rows, in the order of their ids."""
    tables = [pq.read_table(part, partitioning=None) for part in parts(sink)]
    table = pa.concat_tables(tables)
    return table.take(pa.compute.sort_indices(table, sort_keys=[("id", "ascending")]))


def rejected(sink: Path) -> pa.Table:
    """All rejected rows."""
    return pa.concat_tables(
        [pq.read_table(part, partitioning=None) for part in sorted((sink / "_rejected").rglob("*.parquet.rejected"))]
    )


def contents(sink: Path) -> dict[str, bytes]:
    """Bytes of every part file and rejected file by name."""
    found = [*sink.rglob("*.parquet"), *sink.rglob("*.parquet.rejected")]
    return {str(p.relative_to(sink)): p.read_bytes() for p in found if "_nightscribe" not in p.parts}


def make_lake(folder: Path, files: int = 3, n: int = 60) -> Path:
    """A Parquet lake in two partition folders, `n` rows a file in row groups of 20."""
    for i in range(files):
        target = folder / f"lang={'en' if i % 2 else 'de'}" / f"part-{i}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows(n, start=1000 * (i + 1), seed=i), target, row_group_size=20)
    return folder


def execute(content: dict[str, Any]) -> Report:
    """Run a job in this process."""
    return run.run(spec.parse(content))
