"""When a distribution counts as moved, and that chance alone does not move it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.report import drift
from jobs.report.findings import LENGTH_EDGES, SCORE_EDGES, Findings

SHARES = np.array([0.2, 0.3, 0.5])


def night(*counts, scores=None):
    return Findings(
        rows=sum(counts),
        labels={"sentiment": dict(zip("abc", counts, strict=True))},
        scores={"sentiment": scores} if scores else {},
    )


def of(found, what):
    return next(item for item in found if item.what == what)


def test_the_population_stability_index_equals_its_formula():
    found = of(drift.compare(night(200, 300, 500), [night(400, 300, 300)]), "labels of sentiment")
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.3, 0.3])
    assert found.psi == pytest.approx(np.sum((p - q) * np.log(p / q)), abs=0.002)
    assert found.threshold == drift.MOVED
    assert found.moved
    assert found.largest == "a: 40.0% to 20.0%"


def test_the_last_nights_are_added_up():
    found = of(drift.compare(night(500, 300, 200), [night(900, 50, 50), night(100, 550, 350)]), "labels of sentiment")
    assert found.psi == pytest.approx(0, abs=1e-4)


def test_a_new_label_counts_as_drift():
    found = of(drift.compare(night(0, 0, 1000), [night(500, 500, 0)]), "labels of sentiment")
    assert found.moved
    assert np.isfinite(found.psi)


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(20, 5000), seed=st.integers(0, 2**32 - 1))
def test_random_differences_do_not_count_as_drift(rows, seed):
    rng = np.random.default_rng(seed)
    nights = [night(*rng.multinomial(rows, SHARES).tolist()) for _ in range(2)]
    found = of(drift.compare(nights[0], nights[1:]), "labels of sentiment")
    # Three standard deviations of a skewed distribution: about one night in a hundred would be past the noise alone.
    assert found.psi < 2 * found.threshold


def test_lower_scores_count_as_drift():
    low, high = ([0] * (len(SCORE_EDGES) - 1) for _ in range(2))
    low[10], high[20] = 800, 800
    found = of(drift.compare(night(1, 1, 1, scores=low), [night(1, 1, 1, scores=high)]), "scores of sentiment")
    assert found.moved
    assert "0.8 to 0.85" in found.largest or "0.3 to 0.35" in found.largest


def test_a_first_run_has_nothing_to_compare_with():
    assert drift.compare(night(1, 2, 3), []) == []
    assert len(Findings().lengths) == len(LENGTH_EDGES) - 1
