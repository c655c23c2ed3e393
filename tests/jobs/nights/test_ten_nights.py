"""Nights on lakes that somebody changes by day: dumps, updates, deletes, compactions, on both sides, and kills.

After each night the sink, read with the library of its format, has exactly the rows of the source, and only texts that
were not there the night before were computed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from pyiceberg.catalog import load_catalog

from jobs import run, spec
from tests import lake
from tests.jobs.nights import sinks, sources
from tests.jobs.sink.table.nights import night
from tests.jobs.sink.table.test_kill import Killed, Steps, finish_with

COLUMNS = ["id", "text", "stars", "topic", "lang"]

KILLED = "import sys, yaml; from tests.jobs.nights import test_ten_nights as t; t.killed(*sys.argv[1:])"


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    """The Iceberg catalog `lake`, which sources and sinks share."""
    settings = {"TYPE": "sql", "URI": f"sqlite:///{tmp_path}/catalog.db", "WAREHOUSE": f"file://{tmp_path}/warehouse"}
    for name, value in settings.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LAKE__{name}", value)
    return load_catalog("lake", **{name.lower(): value for name, value in settings.items()})


def rows_of(table: Any, *columns: str) -> Counter[tuple[Any, ...]]:
    """How often each row is there."""
    return Counter(zip(*(table[name].to_pylist() for name in columns), strict=True))


def enriched(source: Any) -> Counter[tuple[Any, ...]]:
    """The rows that the sink must have."""
    return Counter(
        {(*row, None if row[1] is None else row[1].upper()): n for row, n in rows_of(source.read(), *COLUMNS).items()}
    )


def killed(file: str, step: str) -> None:
    """A run of a job file whose process ends before a change to the store or a table."""
    with pytest.MonkeyPatch.context() as patch:
        Steps(patch, int(step), hard=True)
        night(yaml.safe_load(Path(file).read_text()))


def stopped(job: dict[str, Any], step: int) -> None:
    """A run that ends before a step of publishing."""
    with run.holding(run.prepare(spec.parse(job))) as held:
        run.execute(held)
    with suppress(Killed):
        finish_with(job, step)


def let_pass(
    source: Any, sink: Any, chance: Random, shout: Any, tmp_path: Any, nights: int, kill: int | None = None
) -> None:
    """Let nights pass, and check each.

    Args:
        source: the source.
        sink: the sink.
        chance: what happens.
        shout: the log of the task.
        tmp_path: a folder.
        nights: how many.
        kill: the step of the third night before which its process ends.
    """
    task = {"task": shout.task, "column": "text", "into": "loud"}
    job = {"name": "nights", "source": source.section, "tasks": [task], "sink": sink.section}
    texts: set[str] = set()
    for number in range(nights):
        did = [each(chance) for each in (source.somebody, source.somebody, sink.somebody)] if number else []
        if number == 2 and kill is not None:
            file = lake.write_job(tmp_path, job)
            ended = subprocess.run([sys.executable, "-c", KILLED, str(file), str(kill)], check=False, timeout=120)
            assert ended.returncode == -signal.SIGKILL
        elif number and chance.random() < 0.3:
            did.append("killed")
            stopped(job, chance.randint(1, 15))
            did.append(sink.somebody(chance))
        night(job)
        wanted, found = enriched(source), rows_of(sink.read(), *COLUMNS, "loud")
        assert (found - wanted, wanted - found) == (Counter(), Counter()), f"night {number}: {did}"
        computed, now = set(shout.taken()), {str(text) for _, text, *_ in wanted}
        # Texts that rows of other files had before are computed; that is so of rows without a text alone.
        assert computed <= (now - texts) | {"None"}, f"night {number}: {did}"
        texts = now
    assert night(job).rows_in == 0


def test_ten_nights_from_parquet_dumps_to_a_partitioned_delta_table(tmp_path, shout):
    chance = Random(7)
    sink = sinks.DeltaSink(tmp_path / "out", partition_by=["topic", "lang"], part_mb=1)
    let_pass(sources.Folder(tmp_path / "in", chance), sink, chance, shout, tmp_path, 10, 9)


def test_nights_from_a_delta_table_to_an_iceberg_table(tmp_path, shout, catalog):
    chance = Random(2)
    sink = sinks.IcebergSink(catalog, tmp_path / "out")
    let_pass(sources.DeltaSource(tmp_path / "in", chance), sink, chance, shout, tmp_path, 5, 5)


def test_nights_from_an_iceberg_table_to_parquet_files(tmp_path, shout, catalog):
    chance = Random(3)
    let_pass(sources.IcebergSource(catalog, chance), sinks.FolderSink(tmp_path / "out"), chance, shout, tmp_path, 5)
