"""Readers in a loop, while runs publish, see the rows before a run or after it, never a mix."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pyarrow as pa
import pytest

from tests import lake
from tests.engines.rows import ask
from tests.jobs.sink.table.nights import night, write

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

NIGHTS = 3


def read_in_loop(read: Callable[[], list[int]], into: list[list[int]], stop: threading.Event) -> None:
    while not stop.is_set():
        into.append(sorted(read()))


def test_readers_of_a_table_see_whole_nights(spark, tables, models, tmp_path):
    def files(night_: int) -> dict[str, pa.Table]:
        return {
            name: lake.rows(10, 10 * i).set_column(2, "stars", pa.array([night_] * 10, pa.int8()))
            for i, name in enumerate("abc")
        }

    source = write(tmp_path / "in", **files(0))
    job = tables.job(source, models, sink={"part_mb": 1})
    night(job)
    readers = {
        "spark": lambda: [row["stars"] for row in ask(spark, tables, "SELECT stars FROM {table}")],
        "library": lambda: tables.read()["stars"].to_pylist(),
    }
    answers: dict[str, list[list[int]]] = {name: [] for name in readers}
    stop = threading.Event()
    threads = [
        threading.Thread(target=read_in_loop, args=(read, answers[name], stop), name=name)
        for name, read in readers.items()
    ]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, NIGHTS + 1):
            write(source, **files(number))
            night(job)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for name, found in answers.items():
        assert found, name
        for rows in found:
            assert len(rows) == 30, name
            assert len(set(rows)) == 1, name
        order = [rows[0] for rows in found]
        assert order == sorted(order), name
