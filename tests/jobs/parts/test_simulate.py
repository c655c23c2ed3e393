"""The simulation of parts says what three worker processes do."""

import pytest

from tests.bench import simulate


def test_a_run_of_three_worker_processes_takes_as_long_as_simulated(tmp_path):
    waits = simulate.seconds_of(None, 18, mean=0.6, sigma=0.6, seed=1)
    found = simulate.compare(tmp_path, waits)
    # The start of a process takes most of these seconds, and differs most on a machine that is busy.
    assert found["ratio"] == pytest.approx(1, abs=0.3)


def test_shards_that_were_measured_are_drawn_again(tmp_path):
    file = tmp_path / "seconds.txt"
    file.write_text("1.5\n3\n")
    assert simulate.seconds_of(file, 0, 1.0, 1.0) == [1.5, 3.0]
    assert set(simulate.seconds_of(file, 50, 1.0, 1.0)) == {1.5, 3.0}
