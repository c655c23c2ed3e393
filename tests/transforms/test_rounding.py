"""A model that is loaded once computes what float32 computes, and then what int8 computes."""

import pyarrow as pa
import pytest
import torch

from tests import tiny, tiny_encoders
from transforms import registry
from transforms.agreement import agreement
from transforms.engines.int8 import Int8Linear
from transforms.model import load
from transforms.reference import ModelRef
from transforms.rounding import Rounding

BATCH = pa.record_batch({"text": [text for text in tiny.texts(40) if text.strip()]})
OPTIONS = {
    "classify": {"column": "text"},
    "ner": {"column": "text"},
    "embed": {"column": "text"},
    "zero_shot": {"column": "text", "labels": ["good", "bad"]},
    "fill_mask": {"column": "text"},
    "summarize": {"column": "text", "max_new_tokens": 4},
}


def on(task, model):
    """A task on a loaded model."""
    module = registry.get(task)
    return module.load(module.Options(**OPTIONS[task]), model)


def both(task, folder, batch=BATCH):
    """What was loaded, the ranges in float32, and the values in float32, in int8 with these, with ranges per batch."""
    rounding = Rounding(ModelRef(str(folder), device="cpu", dtype="int8"), registry.get(task).ARCHITECTURE)
    with rounding.observed(ranges := {}):
        exact = on(task, rounding.exact)(batch).values
    fixed = on(task, rounding.rounded(ranges))(batch).values
    with rounding.in_float32():
        assert on(task, rounding.exact)(batch).values.equals(exact)
    per_batch = on(task, rounding.rounded(None))(batch).values
    return rounding, ranges, exact, fixed, per_batch


@pytest.mark.parametrize(
    ("task", "folder"), [("classify", "sentiment"), ("ner", "ner"), ("embed", "sentiment"), ("zero_shot", "nli")]
)
def test_one_load_gives_what_a_load_of_each_dtype_gives(models, task, folder):
    _, ranges, exact, fixed, per_batch = both(task, models / folder)
    architecture = registry.get(task).ARCHITECTURE
    for got, dtype, given in ((fixed, "int8", ranges), (per_batch, "int8", None)):
        ref = ModelRef(str(models / folder), device="cpu", dtype=dtype, ranges=given)
        assert got.equals(on(task, load(ref, architecture))(BATCH).values)
    in_float32 = on(task, load(ModelRef(str(models / folder), device="cpu"), architecture))(BATCH).values
    assert agreement(in_float32, exact) > 0.999
    assert agreement(exact, fixed) > max(0.8, agreement(exact, per_batch) - 0.1)
    assert not fixed.equals(per_batch)


@pytest.mark.parametrize("family", ["deberta-v2", "big_bird", "mobilebert"])
def test_families_without_layers_of_their_own_here_have_a_range_per_linear_layer(tmp_path, family):
    folder = tiny_encoders.save(tmp_path / family, family, "AutoModelForSequenceClassification")
    rounding, ranges, exact, fixed, per_batch = both("classify", folder)
    layers = [layer for layer in rounding.model.network.modules() if isinstance(layer, Int8Linear)]
    rounding.rounded(ranges)
    assert sum(layer.input is not None for layer in layers) > 0.8 * len(layers)
    assert agreement(exact, fixed) > agreement(exact, per_batch) - 0.1


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_writers_have_ranges(writers, family):
    batch = BATCH.slice(0, 12)
    _, ranges, exact, fixed, per_batch = both("summarize", writers(family), batch)
    assert ranges
    assert agreement(exact, fixed) >= agreement(exact, per_batch) - 0.4


def test_rows_outside_the_ranges_are_clamped(models):
    ref = ModelRef(str(models / "sentiment"), device="cpu", dtype="int8")
    architecture = registry.get("classify").ARCHITECTURE
    with (narrow := Rounding(ref, architecture)).observed(ranges := {}):
        on("classify", narrow.exact)(pa.record_batch({"text": ["one"]}))
    with torch.inference_mode():
        rounded = narrow.rounded({name: (low / 100, high / 100) for name, (low, high) in ranges.items()})
        scores = on("classify", rounded)(BATCH).values.field("score")
    assert scores.null_count == 0
    assert len(scores.unique()) < len(BATCH)
