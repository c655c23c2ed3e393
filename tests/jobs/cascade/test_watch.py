"""The watch over checked answers stops a model that breaks its promise, and leaves one alone that keeps it."""

import numpy as np
import pytest

from jobs.cascade import certify
from jobs.cascade.watch import LEVEL, AgreementWatch, log_e_value
from transforms.cascade import Checks


def rows_until_stopped(rng, agrees, agree=0.99, most=20_000):
    watch = AgreementWatch(agree)
    for row in range(0, most, 10):
        watch.see(np.arange(row, row + 10, dtype=np.uint64), rng.random(10) < agrees)
        if watch.is_over:
            return row + 10
    return None


def test_a_model_that_agrees_just_as_often_as_promised_is_stopped_in_at_most_one_of_a_hundred_runs():
    rng = np.random.default_rng(7)
    stopped = sum(rows_until_stopped(rng, 0.99, most=3_000) is not None for _ in range(200))
    # 200 runs at exactly 0.01 have more than 8 in fewer than one of a thousand cases.
    assert stopped <= 8


@pytest.mark.parametrize(("agrees", "rows"), [(0.5, 20), (0.9, 200), (0.97, 2_000)])
def test_a_model_that_agrees_less_often_is_stopped_the_sooner_the_less_it_agrees(agrees, rows):
    rng = np.random.default_rng(3)
    assert np.median([rows_until_stopped(rng, agrees) or np.inf for _ in range(30)]) <= rows


@pytest.mark.parametrize("agree", [0.5, 0.9, 0.99, 0.9999])
def test_the_expected_evidence_against_the_promise_is_at_most_one_if_it_is_kept(agree):
    both = np.exp([log_e_value(1, 1, agree), log_e_value(1, 0, agree)])
    assert both @ [agree, 1 - agree] == pytest.approx(1.0)
    better = (1 + agree) / 2
    assert both @ [better, 1 - better] < 1.0


def rows(first, last):
    return np.arange(first, last, dtype=np.uint64)


def test_a_stopped_watch_knows_what_it_has_seen():
    watch = AgreementWatch(0.9)
    watch.see(rows(0, 50), np.arange(50) > 0)
    assert not watch.is_over
    watch.see(rows(50, 100), np.zeros(50, bool))
    assert (watch.is_over, watch.refuted.checked, watch.refuted.agreed) == (True, 100, 49)
    watch.see(rows(100, 150), np.ones(50, bool))
    assert watch.refuted.checked == 100
    assert LEVEL == 0.01


def test_a_row_that_is_computed_again_is_one_observation():
    watch = AgreementWatch(0.9)
    for _ in range(100):
        watch.see(np.array([7, 7, 8], np.uint64), np.array([False, False, True]))
    assert (watch.checked, watch.agreed, watch.is_over) == (2, 1, False)


@pytest.mark.parametrize("seed", range(5))
def test_a_promise_that_holds_by_row_is_certified_and_kept_however_often_a_text_is_repeated(seed):
    """Four fifths of the rows are one text on which the models agree; of the other texts they agree on 0.98."""
    rng = np.random.default_rng(seed)
    agreed = (rng.random(300_000) < 0.8) | (rng.random(300_000) < 0.98)
    sizes = certify.sizes(len(agreed), 0.99, 0.05)
    sample = agreed[rng.permutation(len(agreed))[: sizes.first + sizes.second]]
    thresholds = certify.order(np.ones(sizes.first), sizes.second, 0.99, 0.05, sample[: sizes.first])
    tested = certify.certify(np.ones(sizes.second), thresholds, 0.99, 0.05, sample[sizes.first :].__getitem__)
    assert tested.certified is not None
    places = rows(0, len(agreed))
    chosen = Checks(f"{seed:016}", 0.05).chosen(places)
    watch = AgreementWatch(0.99)
    for start in range(0, len(places), 1024):
        of = slice(start, start + 1024)
        watch.see(places[of][chosen[of]], agreed[of][chosen[of]])
    assert (watch.is_over, watch.checked) == (False, chosen.sum())


def test_a_text_that_the_models_part_on_counts_as_often_as_it_is_repeated():
    """Of the rows one in twenty has one text on which the models disagree, which breaks the promise."""
    agreed = np.random.default_rng(2).random(300_000) >= 0.05
    chosen = Checks("0123456789abcdef", 0.01).chosen(rows(0, len(agreed)))
    watch = AgreementWatch(0.99)
    watch.see(rows(0, len(agreed))[chosen], agreed[chosen])
    assert watch.is_over
