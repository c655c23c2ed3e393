"""A job whose cost is waiting, what it writes on this machine, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs import run, spec
from jobs.spec import JobSpec, RunnerSpec
from tests import lake

FILES, ROWS = 4, 60


def waiting_job(folder: Path, milliseconds: float = 5.0, **more: Any) -> JobSpec:
    """Four files of 60 rows in shards of 20 row groups; `milliseconds` for each row."""
    lake_folder = folder / "lake"
    if not lake_folder.exists():
        lake.make_lake(lake_folder, FILES, ROWS)
    task = {"task": "tests.waiting_task", "column": "text", "milliseconds": milliseconds, "into": "length"}
    content = {
        "name": "test",
        "source": {"path": str(lake_folder)},
        "tasks": [task],
        "sink": {"path": str(folder / "out")},
    }
    return spec.parse(content | more)


def local_contents(folder: Path, job: JobSpec) -> dict[str, bytes]:
    """The bytes of the same job, run here into another folder."""
    other = job.model_copy(
        update={"runner": RunnerSpec(), "sink": job.sink.model_copy(update={"path": str(folder / "local")})}
    )
    run.run(other)
    return lake.contents(folder / "local")


def leftovers(folder: Path) -> list[Path]:
    """Files of the sink that no run needs any more."""
    internal = folder / "out" / "_nightscribe"
    kept = ("staged/files", "parts", "progress", "tmp")
    return [
        path
        for path in internal.rglob("*")
        if path.is_file() and path.relative_to(internal).as_posix().startswith(kept)
    ]
