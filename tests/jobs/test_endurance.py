"""Long runs at small size: memory, kills, a full disk, a read-only sink, clocks that jump."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager

import pytest

from jobs import spec
from jobs.store import Store
from tests import killing
from tests.bench import endurance
from tests.clock import Clock

ROWS, FILES = 400, 8
# Much more than any of it takes; a machine may be busy.
WAIT_S = 300
READ_ONLY = "the file system is read-only; choose another sink.path"
FULL = "the disk is full; free some space and run again, finished shards are kept"


@pytest.fixture
def lake(tmp_path):
    killing.make_lake(tmp_path / "in", ROWS, FILES)
    return tmp_path / "in"


@contextmanager
def mounted(folder, *arguments):
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *map(str, arguments), str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def wait_for(condition, seconds=WAIT_S):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def code_of(folder, content, way):
    """The exit code of a run."""
    driver = killing.start(folder, content, way)
    try:
        return driver.process.wait(WAIT_S)
    finally:
        driver.kill()


def log(folder):
    return (folder / "log.txt").read_text()


@pytest.mark.parametrize("way", ["parts", *(pytest.param(way, marks=pytest.mark.long) for way in ("local", "workers"))])
def test_after_kills_of_drivers_and_workers_the_sink_is_that_of_an_undisturbed_run(tmp_path, way):
    # Each file is a shard of about a second.
    found = endurance.kills(tmp_path, str(tmp_path), 8 * endurance.FILE_ROWS, way, 3, 1.0, 0.5, seed=2)
    assert found["drivers_killed"] + found["workers_killed"] == 3
    assert (found["rows_once"], found["bytes_equal"], found["workers_ended"], found["files_left"]) == (True,) * 3 + (
        [],
    )


@pytest.mark.long
def test_memory_is_sampled_in_every_process(tmp_path):
    found = endurance.memory(tmp_path, 4 * endurance.FILE_ROWS, "parts")
    assert (found["exit"], found["rows"]) == (0, 4 * endurance.FILE_ROWS)
    assert min(found["peak_driver_mib"], found["peak_worker_mib"]) > 50


def test_clocks_that_jump_by_hours_during_a_run_change_nothing(tmp_path, lake):
    clock = Clock(tmp_path / "hook")
    clock.set(-3 * 3600)
    store = Store(str(tmp_path / "out"))
    content = killing.job(lake, store.url, "parts", milliseconds=20)
    driver = killing.start(tmp_path, content, "parts", clock.environment)
    try:
        wait_for(lambda: len(killing.staged(store)) > 1 or driver.process.poll() is not None)
        clock.set(5 * 3600)
        assert driver.process.wait(WAIT_S) == 0
    finally:
        driver.kill()
    assert "handed out again" not in log(tmp_path)
    # And a run whose clock is behind what the one before wrote.
    clock.set(-24 * 3600)
    again = killing.start(tmp_path, content | {"runner": {}}, "local", clock.environment)
    assert again.process.wait(WAIT_S) == 0
    plain = Store(str(tmp_path / "plain"))
    killing.coordinate(spec.parse(killing.job(lake, plain.url, "parts")), 1)
    assert killing.ids(store).tolist() == list(range(ROWS))
    assert killing.internal(store) == killing.internal(plain)


@pytest.mark.parametrize("way", ["local", pytest.param("parts", marks=pytest.mark.long)])
def test_a_sink_that_has_become_read_only_is_one_sentence_and_a_rerun_continues(tmp_path, lake, way):
    out = tmp_path / "out"
    content = killing.job(lake, str(out), way, milliseconds=20)
    driver = killing.start(tmp_path, content, way)
    wait_for(lambda: len(killing.staged(Store(str(out)))) > 1)
    driver.kill()
    with mounted(out, "--bind", out):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(out)], check=True)
        assert code_of(tmp_path, content, way) == 1
    assert READ_ONLY in log(tmp_path).splitlines()[-1]
    assert code_of(tmp_path, content, way) == 0
    assert killing.ids(Store(str(out))).tolist() == list(range(ROWS))


@pytest.mark.long
def test_a_disk_that_fills_while_workers_write_is_one_sentence_and_a_rerun_continues(tmp_path):
    disk = tmp_path / "disk"
    killing.make_lake(tmp_path / "in", 160_000, 8)
    with mounted(disk, "-t", "tmpfs", "-o", "size=400k", "tmpfs"):
        content = killing.job(tmp_path / "in", str(disk / "out"), "parts")
        assert code_of(tmp_path, content, "parts") == 1
        assert log(tmp_path).strip().splitlines()[-1].endswith(FULL)
        assert "Traceback" not in log(tmp_path)
        subprocess.run(["mount", "-o", "remount,size=30m", str(disk)], check=True)
        assert code_of(tmp_path, content, "parts") == 0
        assert len(killing.ids(Store(str(disk / "out")))) == 160_000
