"""Batches keep the budget, lose nothing, restore the order, and survive what a batch can do to them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transforms.batches import Caps, ahead, cut, padded, run

lengths_strategy = st.lists(st.integers(1, 600), max_size=200)


@given(lengths_strategy, st.integers(1, 2048))
def test_every_sequence_is_in_exactly_one_batch_and_no_batch_passes_the_budget(lengths, max_tokens):
    batches = list(cut(np.array(lengths, dtype=np.int64), max_tokens))
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= max_tokens


@given(lengths_strategy, st.integers(1, 2048))
def test_outputs_come_back_in_the_order_of_the_inputs(lengths, max_tokens):
    outcome = run(lengths, lambda batch: torch.tensor(batch[:, None] * 2.0), max_tokens)
    assert [output.tolist() for output in outcome.outputs] == [[2.0 * i] for i in range(len(lengths))]
    assert outcome.tokens == sum(lengths) <= outcome.padded_tokens or not lengths
    assert not outcome.failures


@given(lengths_strategy)
def test_token_outputs_are_trimmed_to_each_sequence(lengths):
    def compute(batch):
        width = max(lengths[i] for i in batch)
        return torch.stack([torch.full((width, 3), float(i)) for i in batch])

    outcome = run(lengths, compute, 512)
    assert [output.shape for output in outcome.outputs] == [(length, 3) for length in lengths]
    assert all((output == i).all() for i, output in enumerate(outcome.outputs))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.sets(st.integers(0, 59)), st.integers(20, 400))
def test_sequences_that_raise_fail_alone_and_all_others_are_computed(lengths, poison, max_tokens):
    def compute(batch):
        if poison & set(batch.tolist()):
            raise ValueError("poison")
        return torch.tensor(batch[:, None], dtype=torch.float32)

    outcome = run(lengths, compute, max_tokens)
    bad = {i for i in poison if i < len(lengths)}
    assert outcome.failures.keys() == bad
    assert {i for i, output in enumerate(outcome.outputs) if output is None} == bad


@given(st.lists(st.integers(1, 100), min_size=1, max_size=80), st.integers(100, 400))
def test_out_of_memory_halves_the_batch_and_is_remembered_for_that_length(lengths, room):
    asked = []

    def compute(batch):
        slots = len(batch) * max(lengths[i] for i in batch)
        asked.append(slots > room)
        if slots > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(len(batch), 1)

    caps = Caps()
    first = run(lengths, compute, 1600, caps)
    assert not first.failures
    failed_before = sum(asked)
    asked.clear()
    assert not run(lengths, compute, 1600, caps).failures
    assert sum(asked) <= failed_before


def test_a_sequence_that_never_fits_into_memory_fails_alone():
    def compute(batch):
        if 0 in batch:
            raise MemoryError("can't allocate memory")
        return torch.zeros(len(batch), 1)

    outcome = run([5000, 1, 1], compute, 1024)
    assert list(outcome.failures) == [0]


def test_a_lost_device_stops_the_run_without_failing_a_row(monkeypatch):
    monkeypatch.setattr(torch, "AcceleratorError", RuntimeError)

    def compute(batch):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        run([1, 2, 3], compute, 1024)


def test_values_that_are_not_finite_fail_only_their_sequence():
    outcome = run([3, 3], lambda batch: torch.tensor([[1.0], [float("inf")]])[batch], 1024)
    assert outcome.outputs[0] is not None
    assert outcome.outputs[1] is None
    assert isinstance(outcome.failures[1], FloatingPointError)


@given(lengths_strategy, st.integers(1, 2048))
def test_batches_of_one_length_hold_one_length_and_every_sequence_once(lengths, max_tokens):
    batches = list(cut(np.array(lengths, dtype=np.int64), max_tokens, Caps(one_length=True)))
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len({lengths[i] for i in batch}) == 1
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= max_tokens
    fullest = {length: max(1, max_tokens // length) for length in lengths}
    assert len(batches) == sum(-(-lengths.count(length) // rows) for length, rows in fullest.items())


def test_padding_is_on_the_right_or_on_the_left():
    assert padded([[1, 2, 3], [4]], 9).tolist() == [[1, 2, 3], [4, 9, 9]]
    assert padded([[1, 2, 3], [4]], 9, left=True).tolist() == [[1, 2, 3], [9, 9, 4]]


@given(st.lists(st.integers()))
def test_reading_ahead_changes_neither_items_nor_order(items):
    assert list(ahead(iter(items))) == items


def test_reading_ahead_passes_errors_on():
    def broken():
        yield 1
        raise KeyError("gone")

    iterator = ahead(broken())
    assert next(iterator) == 1
    with pytest.raises(KeyError):
        next(iterator)
