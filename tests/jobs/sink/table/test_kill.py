"""A run that ends between any two steps of publishing: readers see the old rows or the new ones, the next run finishes.

Each change to the store or the table is a step; the run ends before the k-th of them, for each k.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pyarrow as pa
import pytest

from jobs import run, spec
from jobs.store import Store
from jobs.table.delta import Delta
from jobs.table.iceberg import Iceberg
from tests import lake
from tests.jobs.sink.table.nights import about, from_scratch, is_same, night, plain, write

CHANGES = [(Store, name) for name in ("put", "put_if_absent", "put_if_match", "publish", "copy", "move", "delete")] + [
    (kind, name) for kind in (Delta, Iceberg) for name in ("create", "commit")
]


class Killed(BaseException):
    """Stands for the end of the process: no `except Exception` sees it."""


class Steps:
    """Ends the process, or raises `Killed`, before the k-th change."""

    def __init__(self, patch: pytest.MonkeyPatch, last: int, hard: bool):
        self.count, self.last, self.hard = 0, last, hard
        for kind, name in CHANGES:
            patch.setattr(kind, name, self._counted(getattr(kind, name)))

    def _counted(self, call):
        def counted(*arguments, **more):
            self.count += 1
            if self.count == self.last:
                self._end()
            return call(*arguments, **more)

        return counted

    def _end(self):
        if self.hard:
            os.kill(os.getpid(), signal.SIGKILL)
        raise Killed


def finish_with(job, last: int, hard: bool = False) -> int:
    """Publish a night that is executed, end it at a step; the number of steps that it took."""
    with run.holding(run.prepare(spec.parse(job))) as held:
        with pytest.MonkeyPatch.context() as patch:
            steps = Steps(patch, last, hard)
            run.finish(held)
        return steps.count


def read_first(call, read):
    def first(*arguments, **more):
        read()
        return call(*arguments, **more)

    return first


def two_nights(tables, models, folder):
    source = write(folder / "in", a=lake.rows(12), b=lake.rows(8, 12), c=lake.rows(5, 20))
    job = tables.job(source, models, sink={"on_vanished": "remove"})
    night(job)
    write(source, b=lake.rows(9, 12, seed=4), d=lake.rows(3, 30))
    (source / "c.parquet").unlink()
    with run.holding(run.prepare(spec.parse(job))) as held:
        run.execute(held)
    return source, job


def test_a_run_that_ends_at_any_step_of_publishing_is_finished_by_the_next(tables, models, tmp_path):
    source, job = two_nights(tables, models, tmp_path)
    old, new = tables.read(), from_scratch(source, models)
    lake_files = tmp_path / "copy"
    tables.save(lake_files)
    last, done = 1, False
    while not done:
        tables.restore(lake_files)
        try:
            done = finish_with(job, last) < last
        except Killed:
            seen = tables.read()
            assert is_same(seen, old) or is_same(seen, new), f"step {last}"
        before = tables.versions()
        night(job)
        assert plain(tables.read()) == about(new), f"step {last}"
        assert tables.versions() <= before + 1
        last += 1
    assert last > 10
    assert not list((tables.path / "_nightscribe" / "staged").rglob("*.staged"))


def test_kill_9_while_publishing_loses_nothing(tables, models, tmp_path):
    source, job = two_nights(tables, models, tmp_path)
    new = from_scratch(source, models)
    file = lake.write_job(tmp_path, job)
    code = (
        "import sys, yaml; from tests.jobs.sink.table.test_kill import finish_with; "
        "finish_with(yaml.safe_load(open(sys.argv[1])), int(sys.argv[2]), hard=True)"
    )
    for last in (4, 8):
        ended = subprocess.run([sys.executable, "-c", code, str(file), str(last)], check=False, timeout=120)
        assert ended.returncode == -signal.SIGKILL
    night(job)
    assert plain(tables.read()) == about(new)


def test_a_reader_in_a_loop_sees_the_old_rows_or_the_new_ones(tables, models, tmp_path):
    source, job = two_nights(tables, models, tmp_path)
    old, new = tables.read(), from_scratch(source, models)
    with run.holding(run.prepare(spec.parse(job))) as held:
        seen: list[pa.Table] = []
        with pytest.MonkeyPatch.context() as patch:
            for kind, name in CHANGES:
                patch.setattr(kind, name, read_first(getattr(kind, name), lambda: seen.append(tables.read())))
            run.finish(held)
    kinds = [is_same(each, new) for each in seen]
    assert all(is_same(each, old) or is_same(each, new) for each in seen)
    assert kinds == sorted(kinds)
    assert (kinds[0], kinds[-1]) == (False, True)
