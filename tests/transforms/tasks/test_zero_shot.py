"""zero_shot gives what transformers' zero-shot-classification pipeline gives."""

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import processors
from transformers import pipeline

from jobs import spec
from tests import tiny
from transforms import pairs
from transforms.annotators import zero_shot as annotator
from transforms.annotators.zero_shot import Item, ZeroShotClassifier
from transforms.contract import Annotation
from transforms.engines.encoder import EncoderLayer
from transforms.errors import ModelError, SpecError
from transforms.model import ModelRef, load
from transforms.tasks import zero_shot

TEXTS = tiny.texts(60)
LABELS = ["sports", "Zoë's café", "politics 😀", "שלום", "un e\u0301galite\u0301", "a b c d e f"]


def task(folder, max_tokens=None, **options) -> ZeroShotClassifier:
    options = {"labels": LABELS} | options if "labels_column" not in options else options
    model = load(ModelRef(str(folder), device="cpu"), zero_shot.ARCHITECTURE)
    return zero_shot.load(zero_shot.Options("text", **options), model, max_tokens)


def annotate(folder, texts=TEXTS, max_tokens=None, **options) -> Annotation:
    return task(folder, max_tokens, **options)(pa.record_batch({"text": pa.array(texts, pa.string())}))


def reference(folder, texts=TEXTS, labels=LABELS, **options):
    return pipeline("zero-shot-classification", model=str(folder), device="cpu")(texts, labels, **options)


def assert_same(got, want):
    for g, w in zip(got, want, strict=True):
        assert [item["label"] for item in g] == w["labels"]
        np.testing.assert_allclose([item["score"] for item in g], w["scores"], atol=1e-4)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["nli", "nli_bytes"])
def test_labels_and_scores_equal_the_pipeline(models, name, multi_label):
    got = annotate(models / name, multi_label=multi_label).values
    assert got.type == pa.list_(zero_shot.LABEL)
    assert_same(got.to_pylist(), reference(models / name, multi_label=multi_label))
    assert len({row[0]["label"] for row in got.to_pylist()}) > 1


@pytest.mark.parametrize("name", ["nli", "nli_bytes"])
def test_the_last_layer_of_an_nli_model_computes_only_the_token_that_its_head_reads(models, name):
    classifier = task(models / name)
    layers = [layer for layer in classifier.model.network.modules() if isinstance(layer, EncoderLayer)]
    assert [layer.first_token for layer in layers] == [False] * (len(layers) - 1) + [True]


@pytest.mark.parametrize("name", ["nli", "nli_bytes"])
def test_a_single_label_is_scored_against_contradiction_as_in_the_pipeline(models, name):
    got = annotate(models / name, labels=["sports"]).values.to_pylist()
    assert_same(got, reference(models / name, labels=["sports"]))
    assert not all(row[0]["score"] > 0.99 for row in got)


def test_another_hypothesis_equals_the_pipeline(models):
    template = "Dieser Text, {{ja}}, handelt von {}!"
    got = annotate(models / "nli", TEXTS[:20], hypothesis=template).values.to_pylist()
    assert_same(got, reference(models / "nli", TEXTS[:20], hypothesis_template=template))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("template", ["joined by hand", "joined by the tokenizer"])
def test_long_texts_are_truncated_and_hypotheses_are_not(models, monkeypatch, side, template):
    classifier = task(models / "nli", labels=LABELS[:2])
    if template == "joined by the tokenizer":
        monkeypatch.setattr(classifier, "template", None)
    stock = pipeline("zero-shot-classification", model=str(models / "nli"), device="cpu")
    classifier.model.tokenizer.truncation_side = stock.tokenizer.truncation_side = side
    texts = [" ".join(["x"] * words) for words in range(40, 60)] + [TEXTS[20] + " " + TEXTS[21] * 9]
    lengths = {len(pair.ids) for _, pair in classifier.tokenise([Item(0, t, LABELS[:2]) for t in texts])}
    assert max(lengths) == tiny.WINDOW > min(lengths)
    got = classifier(pa.record_batch({"text": texts})).values.to_pylist()
    assert_same(got, stock(texts, LABELS[:2]))


def test_a_tokenizer_that_joins_in_its_own_way_is_asked_for_every_pair(models):
    classifier = task(models / "nli")
    stock = pipeline("zero-shot-classification", model=str(models / "nli"), device="cpu")
    for tokenizer in (classifier.model.tokenizer, stock.tokenizer):
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            "[CLS] $A [SEP]", "[CLS] $B [SEP] $A:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
        )
    fresh = zero_shot.load(classifier.options, classifier.model)
    assert fresh.template is None
    assert_same(fresh(pa.record_batch({"text": TEXTS})).values.to_pylist(), stock(TEXTS, LABELS))


def test_each_row_is_scored_with_the_labels_in_its_column(models):
    labels = [["a", "b"], [], None, ["one"], [None, "", "x", "y", "z"], ["a", "b"]]
    texts = ["fine", "fine", "fine", TEXTS[4], TEXTS[5], None]
    batch = pa.record_batch({"text": texts, "tags": pa.array(labels, pa.list_(pa.string()))})
    annotation = task(models / "nli", labels_column="tags")(batch)
    got = annotation.values.to_pylist()
    assert not annotation.failures
    assert [row is None for row in got] == [False, True, True, False, False, True]
    for i, own in ((0, ["a", "b"]), (3, ["one"]), (4, ["x", "y", "z"])):
        assert_same([got[i]], [reference(models / "nli", texts[i], own)])


def test_null_and_empty_texts_give_null_and_no_failure(models):
    for texts in ([], [None, None], [""], [None, "", "fine"]):
        annotation = annotate(models / "nli", texts)
        assert annotation.values.is_null().to_pylist() == [not text for text in texts]
        assert not annotation.failures


def test_top_k_keeps_the_best(models):
    whole, cut = (annotate(models / "nli", top_k=k).values.to_pylist() for k in (None, 2))
    assert cut == [row[:2] for row in whole]
    assert annotate(models / "nli", ["fine"], top_k=99).values.value_lengths().to_pylist() == [len(LABELS)]


def test_neither_the_token_budget_nor_the_piece_changes_the_answer(models, monkeypatch):
    wide = annotate(models / "nli", max_tokens=4096).values
    monkeypatch.setattr(annotator, "PIECE_PAIRS", 20)
    narrow = annotate(models / "nli", max_tokens=64).values
    assert narrow.flatten().field("label").equals(wide.flatten().field("label"))
    scores = (values.flatten().field("score").to_numpy() for values in (wide, narrow))
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_a_text_is_tokenised_once_for_all_its_labels(models, monkeypatch):
    asked = []
    classifier = task(models / "nli")
    bare = pairs.bare

    def counted(tokenizer, texts, **more):
        asked.extend(texts)
        return bare(tokenizer, texts, **more)

    monkeypatch.setattr(pairs, "bare", counted)
    classifier(pa.record_batch({"text": TEXTS[:30]}))
    assert sorted(asked) == sorted([*TEXTS[:30], *(f"This example is {label}." for label in LABELS)])


def test_a_row_that_makes_the_model_raise_fails_alone(models, monkeypatch):
    classifier = task(models / "nli")
    batch = pa.record_batch({"text": TEXTS})
    clean = classifier(batch).values.to_pylist()
    forward = classifier.forward
    poison = classifier.tokenise([Item(17, TEXTS[17], LABELS)])[3][1]

    def fragile(sequences):
        if poison in sequences:
            raise RuntimeError("index out of range")
        return forward(sequences)

    monkeypatch.setattr(classifier, "forward", fragile)
    annotation = classifier(batch)
    assert [(f.row, f.error_type, f.message) for f in annotation.failures] == [
        (17, "RuntimeError", "index out of range")
    ]
    got = annotation.values.to_pylist()
    assert got[17] is None
    for i in set(range(len(TEXTS))) - {17}:
        assert [item["label"] for item in got[i]] == [item["label"] for item in clean[i]]


def test_a_label_too_long_for_the_window_fails_its_row_alone(models):
    labels = [["a", "b"], ["a", "x " * 70], ["c"]]
    batch = pa.record_batch({"text": TEXTS[:3], "tags": labels})
    annotation = task(models / "nli", labels_column="tags")(batch)
    assert annotation.values.is_null().to_pylist() == [False, True, False]
    (failure,) = annotation.failures
    assert (failure.row, failure.error_type) == (1, "ValueError")
    assert "leaves no room for the text in a window of 64" in failure.message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sentiment", "a label called entailment beside others, and this one has negative, neutral, positive; choose"),
        ("ner", "zero_shot needs a model with a head (…ForSequenceClassification), and this one is a Bert"),
    ],
)
def test_a_model_that_does_not_fit_the_task_is_refused(models, name, expected):
    config = load(ModelRef(str(models / name), device="cpu"), _architecture(name)).config
    with pytest.raises(ModelError) as caught:
        zero_shot.check(zero_shot.Options("text", ["a"]), config)
    assert expected in str(caught.value)


def _architecture(name):
    from transforms.tasks import ner

    return ner.ARCHITECTURE if name == "ner" else zero_shot.ARCHITECTURE


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "tasks.0: give either labels (a list for all rows) or labels_column, and not both"),
        ({"labels": ["a"], "labels_column": "tags"}, "tasks.0: give either labels (a list for all rows)"),
        ({"labels": []}, "tasks.0: labels is []; give at least one label, and none that is empty"),
        ({"labels": ["a", ""]}, "tasks.0: labels is ['a', '']; give at least one label"),
        ({"labels": "a, b"}, "tasks.0.labels is 'a, b'; a list is needed"),
        ({"labels": ["a"], "top_k": 0}, "tasks.0: top_k is 0; give a number of labels from 1"),
        ({"labels": ["a"], "hypothesis": "no place"}, "tasks.0: hypothesis is 'no place'; put one {} where"),
        ({"labels": ["a"], "hypothesis": "{} and {}"}, "tasks.0: hypothesis is '{} and {}'; put one {} where"),
        ({"labels": ["a"], "hypothesis": "{label}"}, "tasks.0: hypothesis is '{label}'; put one {} where"),
        ({"labels": ["a"], "lables": ["b"]}, "tasks.0.lables is not a key; did you mean labels?; keys: column, labels"),
    ],
)  # fmt: skip
def test_an_error_for_a_wrong_option_names_it_and_the_valid_values(options, expected):
    content = {
        "name": "j",
        "source": {"path": "in"},
        "tasks": [{"task": "zero_shot", "column": "text", "model": "org/nli", "into": "topic"} | options],
        "sink": {"path": "out"},
    }
    with pytest.raises(SpecError) as caught:
        spec.parse(content)
    assert str(caught.value).startswith(f"job: {expected}")
