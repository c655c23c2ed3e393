"""A version on labelled rows, and two versions against each other, with real tiny models."""

import math

import numpy as np
import pyarrow as pa
import pytest

from jobs.evaluation import bootstrap, labels, metrics
from jobs.evaluation.evaluate import compare, evaluate
from tests import tiny
from transforms.errors import SpecError

FLOAT = {"dtype": "float32", "device": "cpu"}


def labelled(n=80):
    names = ["negative", "neutral", "positive", "neutral"]
    return pa.table(
        {
            "text": [text.strip() or "." for text in tiny.texts(n)],
            "label": [names[i % 4] for i in range(n)],
            "lang": ["de" if i % 3 else None for i in range(n)],
        }
    )


@pytest.fixture(scope="module")
def versions(models, tmp_path_factory):
    """Two models with the same labels and other weights."""
    other = tiny.bert(tmp_path_factory.mktemp("other") / "model", "classify", ["negative", "neutral", "positive"], 8)
    return models / "sentiment", other


def test_an_evaluation_has_predictions_metrics_and_slices(versions):
    table = labelled()
    found = evaluate("classify", versions[0], None, table, slices=["lang"], options=FLOAT)
    expected = metrics.measure("classify", table, found.predictions.values)
    assert found.measured.value == expected.value
    assert list(found.metrics) == ["macro_f1", "accuracy"]
    assert set(found.metrics_by_slice) == {"lang=de", "lang=(none)"}
    assert found.metrics_by_slice["lang=(none)"]["rows"] == 27


def test_two_versions_are_compared_row_by_row(versions):
    table = labelled()
    one, other = (evaluate("classify", v, None, table, slices=["lang"], options=FLOAT) for v in versions)
    found = compare("classify", table, one, other, ["lang"])
    assert found.differences.mean() == pytest.approx(other.metrics["accuracy"] - one.metrics["accuracy"])
    assert {name: len(rows) for name, rows in found.slices.items()} == {"lang=de": 53, "lang=(none)": 27}
    assert found.gain.value == pytest.approx(other.measured.value - one.measured.value)
    assert found.gain.low <= found.gain.value <= found.gain.high
    assert found.changed.changed > 0
    assert found.changed.flips[0].right_before is not None


def test_class_weights_scale_the_differences(versions):
    table = labelled()
    one, other = (evaluate("classify", v, None, table, "accuracy", options=FLOAT) for v in versions)
    weights = labels.class_weights({"negative": 20, "neutral": 40, "positive": 20})
    plain, weighted = compare("classify", table, one, other), compare("classify", table, one, other, weights=weights)
    is_neutral = np.array(table["label"].to_pylist()) == "neutral"
    assert weighted.differences[is_neutral] == pytest.approx(plain.differences[is_neutral] / 2)
    assert weighted.differences[~is_neutral] == pytest.approx(plain.differences[~is_neutral])


def test_a_version_compared_with_itself_has_no_gain_and_no_flips(versions):
    table = labelled(20)
    one = evaluate("classify", versions[0], None, table, options=FLOAT)
    found = compare("classify", table, one, one)
    assert (found.gain.low, found.gain.high, found.changed.changed) == (0, 0, 0)


def test_texts_are_evaluated_by_perplexity_and_by_chrf(writers):
    table = pa.table({"text": ["a cat sat", "birds"], "target": ["a cat sat", "birds"], "lang": ["de", "en"]})
    options = FLOAT | {"target_language": "deu"}
    found = evaluate("translate", writers("marian"), None, table, "perplexity", ["lang"], options)
    assert found.measured.value == pytest.approx(math.exp(found.measured.others["nll"]))
    assert len(found.metrics_by_slice) == 2
    chrf = evaluate("translate", writers("marian"), None, table, "chrf", ["lang"], options)
    assert next(iter(chrf.metrics)) == "chrf"
    assert compare("translate", table, chrf, chrf).gain.value == 0


def test_the_bootstrap_interval_of_a_mean_is_near_the_normal_one():
    values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 500, p=[0.1, 0.7, 0.2])
    interval = bootstrap.mean(values)
    half = 1.96 * values.std() / np.sqrt(500)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)


@pytest.mark.parametrize(
    ("metric", "slices", "said"),
    [
        ("bleu", [], "cannot be computed for classify"),
        (None, ["land"], "slices.0 is 'land', which is not in the rows"),
    ],
)
def test_a_wrong_metric_or_slice_is_refused_before_a_model_is_loaded(tmp_path, metric, slices, said):
    with pytest.raises(SpecError, match=said):
        evaluate("classify", tmp_path / "no model here", None, labelled(4), metric, slices)


def test_versions_measured_on_other_rows_are_not_compared(versions):
    one, other = (evaluate("classify", versions[0], None, labelled(n), options=FLOAT) for n in (10, 12))
    with pytest.raises(SpecError, match="measure both on the same rows"):
        compare("classify", labelled(12), one, other)
