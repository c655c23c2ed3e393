"""A sample says what rows of whole chunks take, though it has few of them."""

import numpy as np
import pytest

from jobs.estimate import sample
from jobs.estimate.padding import positions_of_token
from jobs.estimate.sample import Cost, Rows, Stratum
from transforms import batches


def rows_of(sizes, compute=lambda indices: Cost(), chunk_rows=40):
    every = np.arange(len(sizes))
    chunk = every[np.argsort(sizes, kind="stable")]
    chunks = [every[i : i + chunk_rows] for i in range(0, len(every), chunk_rows)]
    return Rows(sizes, np.full(len(sizes), 1 / len(sizes)), chunk, chunks, compute)


def test_padding_is_that_of_the_batches_of_whole_chunks():
    sizes = np.random.default_rng(0).lognormal(5, 0.9, 400).round() + 1
    rows = rows_of(sizes)
    positions = 0
    for chunk in rows.chunks:
        lengths = sizes[chunk] / 4
        positions += sum(len(batch) * lengths[batch].max() for batch in batches.cut(lengths, 256))
    strata = [
        Stratum(float(np.median(sizes)), Cost(1, 40.0, 1.0, 10.0)),
        Stratum(sizes.max(), Cost(1, 800.0, 1.0, 200.0)),
    ]
    assert positions_of_token(rows, strata, 256, 2048) == pytest.approx(positions / (sizes.sum() / 4))


def test_rows_without_texts_and_tasks_without_tokens_have_no_padding():
    strata = [Stratum(1.0, Cost(1, 1.0, 0.1, 0.0))]
    assert positions_of_token(rows_of(np.ones(50)), strata, 256, 2048) == 1.0


def test_each_class_of_lengths_is_sampled_and_a_class_costs_what_its_rows_cost():
    sizes = np.random.default_rng(1).lognormal(5, 0.9, 500).round() + 1
    computed = []

    def compute(indices):
        computed.append(indices)
        return Cost(
            len(indices), float(sizes[indices].sum()), float(sizes[indices].sum()), float(sizes[indices].sum() / 4)
        )

    # There is no time for more than one look at each.
    found = sample.sorted_rows(rows_of(sizes, compute), 64, seconds=0.0)
    assert found.mean is None
    assert len(found.strata) == len(computed) - 1 > 4
    for stratum in found.strata:
        assert stratum.cost.tokens == stratum.cost.size / 4
    longest = [stratum.longest for stratum in found.strata]
    assert longest == sorted(longest)
    assert longest[-1] == sizes.max()


def test_rows_that_are_generated_together_cost_what_they_cost_when_many_are_in_flight():
    sizes = np.full(1000, 50.0)

    def compute(indices):
        return Cost(len(indices), float(sizes[indices].sum()), 1 + len(indices) / 10, 20.0 * len(indices))

    found = sample.written_rows(rows_of(sizes, compute), seconds=10.0)
    (stratum,) = found.strata
    # 64 rows are computed, for more there is no time: a second for all rows, and a tenth for each.
    assert stratum.cost.rows == 64
    assert stratum.cost.seconds / stratum.cost.rows == pytest.approx(0.101)
    found = sample.written_rows(rows_of(sizes, compute), seconds=5.0)
    (stratum,) = found.strata
    assert stratum.cost.rows == 8
    assert stratum.cost.seconds / stratum.cost.rows == pytest.approx(1 / 64 + 0.1)


def test_a_sample_is_drawn_by_weight_and_has_all_lengths():
    sizes = np.arange(1.0, 1001.0)
    weights = np.where(sizes <= 500, 3.0, 1.0)
    drawn = sample.draw(weights / weights.sum(), sizes, 100)
    assert len(drawn) == 100
    assert (sizes[drawn] <= 500).sum() == 75
    assert list(drawn) == sorted(drawn)
    assert len(sample.draw(weights, sizes, 5000)) == 1000
