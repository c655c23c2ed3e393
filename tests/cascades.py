"""Two tiny models that mostly agree, and jobs in which the smaller one is asked first."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from jobs import spec
from jobs.plan import planning
from jobs.plan.first import Measured
from tests import lake, tiny

# So little that some 200 rows can certify it.
EASY = {"agree": 0.6, "confidence": 0.8}
# Seconds since 1970.
WRITTEN_AT = 1_767_225_600


def like(model: Path, folder: Path, noise: float = 0.02, seed: int = 0) -> Path:
    """A model that gives mostly the answers of another one: its weights with some noise."""
    shutil.copytree(model, folder)
    file = folder / "model.safetensors"
    torch.manual_seed(seed)
    weights = {
        name: each + noise * each.std(correction=0) * torch.randn_like(each) for name, each in load_file(file).items()
    }
    save_file(weights, file, {"format": "pt"})
    return folder


def rows(n: int, seed: int = 3) -> pa.Table:
    """Different texts, each with an id; every 25th is null, every 26th empty."""
    texts: list[str | None] = [f"{i} {text}" for i, text in enumerate(tiny.texts(n + 11, seed)[11:])]
    texts = [None if i % 25 == 24 else "" if i % 26 == 25 else text for i, text in enumerate(texts)]
    return pa.table({"id": [f"{seed}-{i:05}" for i in range(n)], "text": pa.array(texts, pa.string())})


def write(folder: Path, n: int = 400, files: int = 2, seed: int = 3) -> Path:
    """A Parquet lake."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        file = folder / f"part-{seed}-{number}.parquet"
        pq.write_table(rows(n // files, seed * 100 + number), file, row_group_size=50)
        at_a_fixed_time(file)
    return folder


def at_a_fixed_time(file: Path) -> None:
    """Set the time of a file: it is part of the file's version, from which the rows of a sample are drawn."""
    os.utime(file, (WRITTEN_AT, WRITTEN_AT))


def job(tmp_path: Path, large: Path, small: Path | None, task: str = "classify", **more: Any) -> dict[str, Any]:
    """A job over the lake `in` below a folder; without a smaller model if there is none."""
    first = (
        {} if small is None else {"first": {"model": str(small), "dtype": "float32", **EASY, **more.pop("first", {})}}
    )
    item = {"task": task, "column": "text", "model": str(large), "into": "found", "dtype": "float32", "device": "cpu"}
    item |= first | more.pop("task_keys", {})
    content = {"name": "cascade", "source": {"path": str(tmp_path / "in")}, "tasks": [item]}
    return content | {"sink": {"path": str(tmp_path / "out")}} | more


def values(sink: Path) -> list[Any]:
    """What a job has found, by row."""
    found: list[Any] = lake.read(sink)["found"].to_pylist()
    return found


def measured(content: dict[str, Any]) -> Measured | None:
    """What a plan of the job knows of its threshold."""
    first = planning.make(spec.parse(content)).tasks[0].first
    return None if first is None else first.measured


def alone(content: dict[str, Any], sink: Path, model: Path | None = None) -> list[Any]:
    """What one of the models, the large one if none is given, finds in every row."""
    [task] = content["tasks"]
    task = {key: value for key, value in task.items() if key != "first"} | ({"model": str(model)} if model else {})
    lake.execute(content | {"tasks": [task], "sink": {"path": str(sink)}})
    return values(sink)
