"""Metrics by slice, and bootstrap intervals."""

import numpy as np
import pyarrow as pa
import pytest

from jobs.evaluation import bootstrap, metrics, perplexity, slices
from jobs.evaluation.predict import prepare
from transforms.errors import SpecError
from transforms.tasks.classify import LABEL


def found(names):
    return pa.array([{"label": name, "score": 0.9} for name in names], LABEL)


TABLE = pa.table(
    {
        "text": list("uvwxyz"),
        "label": ["a", "a", "b", "b", "a", "b"],
        "lang": ["de", "de", "de", "en", "en", None],
        "stars": [1, 1, 2, 2, 2, 2],
    }
)
FOUND = found(["a", "b", "b", "b", "b", "b"])


def test_the_metric_of_a_slice_is_that_of_its_rows_alone():
    by_value = {(s.column, s.value): s for s in slices.by_slice("classify", TABLE, FOUND, ["lang", "stars"])}
    assert list(by_value) == [("lang", "de"), ("lang", "en"), ("lang", None), ("stars", "1"), ("stars", "2")]
    assert by_value["lang", "de"].rows == 3
    assert by_value["lang", "de"].metric == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert by_value["lang", "en"].metric == pytest.approx((2 / 3 + 0) / 2)
    assert by_value["lang", None].metric == 1
    assert by_value["lang", "de"].correctness == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", ["rouge1", "exact_match", "chrf", "bleu"])
def test_metrics_of_texts_by_slice_equal_those_of_the_rows_alone(metric):
    table = pa.table({"text": ["x"] * 4, "target": ["a b c", "d e", "f g h", "i"], "lang": ["de", "en", "de", "en"]})
    written = pa.array(["a b d", "d e", "f g h", None])
    for one in slices.by_slice("translate", table, written, ["lang"], metric):
        chosen = pa.array([i for i, lang in enumerate(table["lang"].to_pylist()) if lang == one.value])
        expected = metrics.measure("translate", table.take(chosen), written.take(chosen), metric)
        assert one.metric == pytest.approx(expected.value)


def test_perplexity_by_slice_equals_that_of_the_rows_alone(causal_model):
    options = {"dtype": "float32", "device": "cpu", "max_new_tokens": 20}
    table = pa.table(
        {"prompt": ["the cat ->", "rain ->", "a mat ->"], "completion": [" sat", " the cat", "x"], "lang": list("aba")}
    )
    measured = perplexity.measure(prepare("generate", causal_model("llama"), None, table, options))
    made = slices.by_slice("generate", table, pa.nulls(3, pa.string()), ["lang"], "perplexity", measured)
    for one, rows in zip(made, ([0, 2], [1]), strict=True):
        alone = perplexity.measure(prepare("generate", causal_model("llama"), None, table.take(rows), options))
        assert one.metric == pytest.approx(alone.value, rel=1e-4)


def test_a_slice_in_which_the_metric_cannot_be_computed_says_why():
    entity = pa.list_(pa.struct([("label", pa.string()), ("start", pa.int64()), ("end", pa.int64())]))
    true = pa.array([[{"label": "PER", "start": 0, "end": 3}], []], entity)
    table = pa.table({"text": ["Ann", "rain"], "entities": true, "lang": ["de", "en"]})
    predicted = pa.array([[{"label": "PER", "text": "Ann", "start": 0, "end": 3, "score": 1.0}], []])
    de, en = slices.by_slice("ner", table, predicted, ["lang"])
    assert de.metric == 1
    assert en.metric is None
    assert en.why.startswith("no row of the holdout has an entity")
    assert en.to_json()["why"] == en.why


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("land", "slices.0 is 'land', which is not in the rows; columns: text, label, lang, stars"),
        ("tags", "slices.0 is 'tags', which is list<"),
        ("id", "slices.0 is 'id', which has 600 values in 600 rows; name a column with at most 500"),
    ],
)
def test_columns_that_are_no_slices_are_refused_in_one_sentence(column, said):
    table = pa.concat_tables([TABLE] * 100)
    if column != "land":
        table = table.append_column(column, pa.array([["t"]] * 600 if column == "tags" else range(600)))
    with pytest.raises(SpecError) as raised:
        slices.members(table, [column])
    assert str(raised.value).startswith(said)


def test_the_bootstrap_estimate_equals_macro_f1_and_lies_in_its_interval():
    rng = np.random.default_rng(0)
    true = rng.choice(list("abcd"), 400, p=[0.6, 0.2, 0.15, 0.05]).tolist()
    guesses = [label if rng.random() < 0.8 else rng.choice(list("abcdz")) for label in true]
    interval = bootstrap.macro_f1(true, guesses)
    expected = metrics.measure("classify", pa.table({"text": true, "label": true}), found(guesses))
    assert interval.value == pytest.approx(expected.value)
    assert interval.low < interval.value < interval.high
    assert bootstrap.macro_f1(true, guesses) == interval


def test_a_row_without_a_prediction_counts_as_wrong_in_the_bootstrap():
    assert bootstrap.macro_f1(["a", "b"], ["a", None]).value == pytest.approx(0.5)


def test_the_bootstrap_interval_of_macro_f1_covers_its_true_value():
    rng = np.random.default_rng(1)
    chances = [0.5, 0.3, 0.2]

    def draw(n):
        true = rng.choice(3, n, p=chances)
        return true, np.where(rng.random(n) < 0.75, true, rng.integers(0, 3, n))

    names = np.array(["a", "b", "c"])
    true, guesses = draw(400_000)
    exact = bootstrap.macro_f1(names[true].tolist(), names[guesses].tolist(), repeats=2).value
    covered = 0
    for seed in range(200):
        true, guesses = draw(300)
        interval = bootstrap.macro_f1(names[true].tolist(), names[guesses].tolist(), repeats=400, seed=seed)
        covered += interval.low <= exact <= interval.high
    assert covered >= 180


def test_the_gain_of_equal_predictions_is_exactly_zero():
    gain = bootstrap.macro_f1_gain(["a", "b", "a"], ["a", "a", "a"], ["a", "a", "a"])
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def test_the_gain_is_the_difference_of_both_macro_f1():
    true, before, after = ["a", "b", "a", "b"] * 30, ["a", "a", "a", "b"] * 30, ["a", "b", "a", "b"] * 30
    gain = bootstrap.macro_f1_gain(true, before, after)
    assert gain.value == pytest.approx(1 - bootstrap.macro_f1(true, before).value)
    assert 0 < gain.low < gain.high
