"""The rows of a step are shared out: each counts once, and every process has as many batches."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.training import memory
from jobs.training.shares import Shares, items

NUMBERS = st.integers(1, 5)


@given(st.integers(1, 90), NUMBERS, NUMBERS, NUMBERS)
def test_each_row_counts_once_in_its_step_whoever_computes_it(rows, size, accumulated, processes):
    order = list(range(rows))[::-1]
    together = size * accumulated * processes
    shares = [Shares(order, size, accumulated, processes, rank) for rank in range(processes)]
    batches = [list(each) for each in shares]
    assert {len(each) for each in batches} == {len(shares[0])}
    steps = -(-rows // together)
    assert len(shares[0].steps) == steps
    taken = [iter(each) for each in batches]
    for step in range(steps):
        counted = []
        for share, mine in zip(shares, taken, strict=True):
            for real in share.real(step):
                batch = next(mine)
                assert 1 <= len(batch) <= size
                assert len(batch) == max(1, real)
                counted += batch[:real]
        assert sorted(counted) == sorted(order[step * together : (step + 1) * together])


def test_whole_steps_have_batches_of_consecutive_rows_in_turn():
    first, second = (list(Shares(range(12), 2, 3, 2, rank)) for rank in range(2))
    assert first == [[0, 1], [4, 5], [8, 9]]
    assert second == [[2, 3], [6, 7], [10, 11]]


def test_a_last_step_with_fewer_rows_can_be_left_out_unless_it_is_the_only_one():
    assert Shares(range(11), 4, 1, 1, 0, drop_last=True).steps == [4, 4]
    assert Shares(range(3), 4, 1, 1, 0, drop_last=True).steps == [3]


def test_items_are_the_labels_that_count():
    labels = torch.tensor([[5, -100, 3], [-100, -100, 1]])
    assert items({"labels": labels}, shifted=False) == 3
    assert items({"labels": labels}, shifted=True) == 2
    assert items({"labels": torch.tensor([1, 0, 2])}, shifted=False) == 3
    assert items({"input_ids": torch.zeros(4, 7)}, shifted=False) == 4


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 64))
def test_fewer_rows_at_once_leave_the_rows_of_a_step_as_they_are(rows, accumulated, parts):
    size, times = memory.at_once(rows, accumulated, parts)
    assert size * times == rows * accumulated
    assert 1 <= size <= max(1, rows // parts)
