"""The order of training rows: every row once, little padding, other batches in every epoch."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.sampler import LengthSampler, by_length


def slots(order, lengths, batch_rows):
    """Tokens computed for rows in this order, padding included."""
    batches = [order[i : i + batch_rows] for i in range(0, len(order), batch_rows)]
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 99))
def test_every_row_comes_once_and_the_longest_batch_first(lengths, batch_rows, seed):
    order = by_length(lengths, batch_rows, torch.Generator().manual_seed(seed))
    assert sorted(order) == list(range(len(lengths)))
    whole = [lengths[row] for row in order[: len(lengths) // batch_rows * batch_rows]]
    assert max(whole, default=0) == max(whole[:batch_rows], default=0)


def test_a_heavy_tailed_corpus_is_computed_with_little_padding():
    rng = np.random.default_rng(0)
    for rows, most in ((256, 1.35), (4000, 1.12)):
        lengths = np.clip(rng.lognormal(4, 0.9, rows), 2, 512).astype(int).tolist()
        order = by_length(lengths, 16, torch.Generator().manual_seed(0))
        assert slots(order, lengths, 16) < most * sum(lengths)
        assert slots(rng.permutation(rows).tolist(), lengths, 16) > 2.5 * sum(lengths)


def test_the_order_depends_on_seed_and_epoch_only():
    lengths = np.random.default_rng(1).integers(1, 60, 100).tolist()
    sampler, again = LengthSampler(lengths, 8, seed=3), LengthSampler(lengths, 8, seed=3)
    first = list(sampler)
    torch.manual_seed(99)
    assert list(again) == first
    sampler.set_epoch(1)
    assert len(sampler) == 100
    batches, others = ({frozenset(order[i : i + 8]) for i in range(0, 96, 8)} for order in (first, list(sampler)))
    assert len(batches & others) < math.ceil(0.5 * len(batches))
