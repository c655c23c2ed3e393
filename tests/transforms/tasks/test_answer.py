"""answer gives what the question-answering pipeline of transformers 4 gave; offsets are code points of the context."""

import random

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import pre_tokenizers, processors

from jobs import spec
from tests import tiny
from transforms import pairs, registry
from transforms.annotators.answer import Answerer, Item
from transforms.contract import Annotation
from transforms.errors import ModelError, SpecError
from transforms.model import ModelRef, load
from transforms.tasks import answer

CONTEXTS = tiny.texts(60)
QUESTION = "where is São Paulo 😀?"
STRIDE = 8


def task(folder, max_tokens=None, **options) -> Answerer:
    options = {"question": QUESTION, "stride": STRIDE} | options
    if "question_column" in options:
        del options["question"]
    return answer.load(
        answer.Options("text", **options), load(ModelRef(str(folder), device="cpu"), answer.ARCHITECTURE), max_tokens
    )


def annotate(folder, contexts=CONTEXTS, max_tokens=None, **options) -> Annotation:
    return task(folder, max_tokens, **options)(pa.record_batch({"text": pa.array(contexts, pa.string())}))


def reference(model, context, question, top_k=1, null=False, longest=15, stride=STRIDE):
    """The removed pipeline as a plain loop, spaces around answers apart: one window at a time, every pair of tokens."""
    tokenizer = model.tokenizer
    first = tokenizer.padding_side == "right"
    encoded = tokenizer(
        *((question, context) if first else (context, question)),
        truncation="only_second" if first else "only_first",
        max_length=min(384, model.max_length),
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    found, null_score = [], 1e6
    for i, ids in enumerate(encoded["input_ids"]):
        inputs = {"input_ids": torch.tensor([ids])}
        if "token_type_ids" in model.inputs:
            inputs["token_type_ids"] = torch.tensor([encoded["token_type_ids"][i]])
        with torch.inference_mode():
            output = model.network(**inputs)
        own = np.array([sequence == int(first) for sequence in encoded.sequence_ids(i)])
        cls = ids.index(tokenizer.cls_token_id)
        allowed = own | (np.arange(len(ids)) == cls)
        start, end = (
            np.exp(x - x.max()) / np.exp(x - x.max()).sum()
            for x in (np.where(allowed, logit[0].numpy(), -1e4) for logit in (output.start_logits, output.end_logits))
        )
        null_score = min(null_score, float(start[cls] * end[cls]))
        candidates = [
            (float(start[s] * end[e]), s, e)
            for s in np.flatnonzero(own)
            for e in np.flatnonzero(own)
            if s <= e < s + longest
        ]
        window = encoded.encodings[i]
        for score, s, e in sorted(candidates, key=lambda c: -c[0])[: 2 * top_k + 10]:
            begin = window.word_to_chars(window.token_to_word(s), int(first))[0]
            stop = window.word_to_chars(window.token_to_word(e), int(first))[1]
            begin += len(context[begin:stop]) - len(context[begin:stop].lstrip())
            text = context[begin:stop].rstrip()
            if not text:
                continue
            same = [a for a in found if a["text"].lower() == text.lower()]
            if same:
                same[0]["score"] += score
            else:
                found.append({"text": text, "score": score, "start": begin, "end": begin + len(text)})
    if null:
        found.append({"text": None, "score": null_score, "start": None, "end": None})
    return sorted(found, key=lambda a: -a["score"])[:top_k]


def assert_same(got, want):
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert [(a["text"], a["start"], a["end"]) for a in g or ()] == [(a["text"], a["start"], a["end"]) for a in w]
        np.testing.assert_allclose([a["score"] for a in g or ()], [a["score"] for a in w], atol=1e-4)


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("name", ["answer", "answer_bytes"])
def test_the_best_answer_equals_the_old_pipeline(models, name, null):
    model = load(ModelRef(str(models / name), device="cpu"), answer.ARCHITECTURE)
    got = annotate(models / name, null_threshold=0 if null else None).values
    assert got.type == answer.ANSWER
    assert_same(
        [[a] if a else [] for a in got.to_pylist()], [reference(model, c, QUESTION, null=null) for c in CONTEXTS]
    )
    assert null or len({a["text"] for a in got.to_pylist() if a}) > 20


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize(("top_k", "longest"), [(3, 15), (2, 1), (4, 100)])
def test_lists_of_answers_equal_the_old_pipeline(models, top_k, longest, padding_side):
    answerer = task(models / "answer", top_k=top_k, max_answer_tokens=longest)
    answerer.model.tokenizer.padding_side = padding_side
    answerer = answer.load(answerer.options, answerer.model)
    got = answerer(pa.record_batch({"text": CONTEXTS})).values
    assert got.type == pa.list_(answer.ANSWER)
    assert_same(got.to_pylist(), [reference(answerer.model, c, QUESTION, top_k, longest=longest) for c in CONTEXTS])


@pytest.mark.parametrize("stride", [0, 5, 20])
@pytest.mark.parametrize("name", ["answer", "answer_bytes"])
def test_windows_over_a_long_context_equal_those_of_the_tokenizer(models, name, stride):
    answerer = task(models / name, stride=stride, question="a b?")
    tokenizer, edge = answerer.model.tokenizer, [" ".join(["x"] * words) for words in range(50, 66)]
    for context in [*edge, *CONTEXTS]:
        encoded = tokenizer(
            "a b?", context, truncation="only_second", max_length=tiny.WINDOW, stride=stride,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        windows = [window for _, window in answerer.tokenise([Item(0, context, "a b?")])]
        assert [window.ids for window in windows] == encoded["input_ids"]
        for i, window in enumerate(windows):
            own = [j for j, sequence in enumerate(encoded.sequence_ids(i)) if sequence == 1]
            assert list(range(*window.context.indices(len(window.ids)))) == own
            places = [encoded["offset_mapping"][i][j] for j in own]
            assert list(zip(window.starts.tolist(), window.ends.tolist(), strict=True)) == places


def test_each_row_gets_the_question_in_its_own_column(models):
    rng = random.Random(5)
    questions = [" ".join(rng.choices(CONTEXTS[20].split(), k=rng.randint(1, 6))) for _ in CONTEXTS]
    batch = pa.record_batch({"text": CONTEXTS, "ask": questions})
    answerer = task(models / "answer", question_column="ask", top_k=2, stride=4)
    want = [reference(answerer.model, c, q, 2, stride=4) for c, q in zip(CONTEXTS, questions, strict=True)]
    assert_same(answerer(batch).values.to_pylist(), want)


def test_the_text_equals_the_context_between_the_offsets(models):
    for row, found in zip(CONTEXTS, annotate(models / "answer_bytes", top_k=5).values.to_pylist(), strict=True):
        assert all(a["text"] == row[a["start"] : a["end"]] for a in found)


def test_sentencepiece_answers_equal_the_old_pipeline_without_the_space_before_a_word(models):
    answerer = task(models / "answer", top_k=3)
    answerer.model.tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    plain = pairs.bare(answerer.model.tokenizer, ["of the"], return_offsets_mapping=True)["offset_mapping"][0]
    assert any("of the"[start] == " " for start, _ in plain)
    got = answerer(pa.record_batch({"text": CONTEXTS})).values.to_pylist()
    assert_same(got, [reference(answerer.model, c, QUESTION, 3) for c in CONTEXTS])
    assert all(a["text"] == a["text"].strip() != "" for row in got for a in row)


def test_null_and_empty_texts_give_null_and_no_failure(models):
    contexts = [None, "", "fine", "fine", "fine", " "]
    batch = pa.record_batch({"text": contexts, "ask": ["who", "who", None, "", "who", "who"]})
    for top_k in (None, 2):
        annotation = task(models / "answer", question_column="ask", top_k=top_k)(batch)
        assert not annotation.failures
        # A context without a single token was read and has no answer: that is an empty list, not an unknown one.
        assert annotation.values.is_null().to_pylist() == [True, True, True, True, False, top_k is None]
    assert annotate(models / "answer", []).values.to_pylist() == []


def test_no_answer_has_a_score_without_text_and_depends_on_the_threshold(models):
    # In a single window scores add up to 1 at most, so that a threshold of -1 silences every row.
    contexts = [context for context in CONTEXTS if len(context) < 40 and not context.isspace()]
    spoken, silent = (annotate(models / "answer", contexts, null_threshold=t).values.to_pylist() for t in (None, -1))
    assert all(a["text"] for a in spoken)
    assert {(a["text"], a["start"], a["end"]) for a in silent} == {(None, None, None)}
    gaps = np.array([no["score"] - a["score"] for no, a in zip(silent, spoken, strict=True)])
    low, high = np.sort(gaps)[len(gaps) // 2 - 1 :][:2]
    between = annotate(models / "answer", contexts, null_threshold=float(low + high) / 2).values.to_pylist()
    assert between == [no if gap >= high else a for no, a, gap in zip(silent, spoken, gaps, strict=True)]
    assert low < high


def test_the_token_budget_does_not_change_the_answers(models):
    wide, narrow = (annotate(models / "answer", max_tokens=n).values for n in (4096, 64))
    assert wide.field("text").equals(narrow.field("text"))
    np.testing.assert_allclose(
        wide.field("score").to_numpy(zero_copy_only=False),
        narrow.field("score").to_numpy(zero_copy_only=False),
        atol=1e-5,
    )


def test_a_row_that_makes_the_model_raise_fails_alone(models, monkeypatch):
    answerer = task(models / "answer")
    batch = pa.record_batch({"text": CONTEXTS})
    clean = answerer(batch).values.to_pylist()
    forward = answerer.forward
    poison = answerer.tokenise([Item(17, CONTEXTS[17], QUESTION)])[0][1].ids

    def fragile(windows):
        if any(window.ids == poison for window in windows):
            raise RuntimeError("index out of range")
        return forward(windows)

    monkeypatch.setattr(answerer, "forward", fragile)
    annotation = answerer(batch)
    assert [(f.row, f.error_type, f.message) for f in annotation.failures] == [
        (17, "RuntimeError", "index out of range")
    ]
    got = annotation.values.to_pylist()
    assert got[17] is None
    assert [a and a["text"] for a in got[18:]] == [a and a["text"] for a in clean[18:]]


def test_a_question_that_fills_the_window_fails_its_row_alone(models):
    batch = pa.record_batch({"text": CONTEXTS[:3], "ask": ["who", "x " * 61, "x " * 60]})
    annotation = task(models / "answer", question_column="ask")(batch)
    (failure,) = annotation.failures
    assert (failure.row, failure.error_type) == (1, "ValueError")
    assert failure.message == "the question has 61 tokens, which leaves no room for the context in a window of 64"
    assert annotation.values.is_null().to_pylist() == [False, True, False]


def test_a_fixed_question_that_fills_the_window_is_refused_when_the_model_is_loaded(models):
    with pytest.raises(ModelError, match="the question has 70 tokens, which leaves no room"):
        task(models / "answer", question="x " * 70)


def test_a_model_of_another_kind_is_refused(models):
    config = load(ModelRef(str(models / "sentiment"), device="cpu"), registry.get("classify").ARCHITECTURE).config
    with pytest.raises(
        ModelError, match=r"answer needs a model with a head \(…ForQuestionAnswering\), and this one is a"
    ):
        answer.check(answer.Options("text", "who?"), config)
    config.architectures = ["XLNetForQuestionAnsweringSimple"]
    answer.check(answer.Options("text", "who?"), config)


def test_no_answer_without_a_cls_token_is_refused(models):
    answerer = task(models / "answer")
    answerer.model.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "$A [SEP]", "$A [SEP] $B:1", [("[SEP]", 3)]
    )
    answer.load(answerer.options, answerer.model)
    with pytest.raises(ModelError, match="null_threshold needs a tokenizer that puts a CLS token into each sequence"):
        answer.load(answer.Options("text", "who?", null_threshold=0), answerer.model)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "tasks.0: give either question (one for all rows) or question_column, and not both"),
        ({"question": "who?", "question_column": "ask"}, "tasks.0: give either question (one for all rows) or"),
        ({"question": ""}, "tasks.0: question is ''; write a question"),
        ({"question": "who?", "top_k": 0}, "tasks.0: top_k is 0; give a number from 1"),
        ({"question": "who?", "max_answer_tokens": 0}, "tasks.0: max_answer_tokens is 0; give a number from 1"),
        ({"question": "who?", "stride": -1}, "tasks.0: stride is -1; give a number from 0"),
        ({"question": "who?", "null_threshold": 5}, "tasks.0: null_threshold is 5.0; give a difference of scores from"),
        ({"question": "who?", "questions": "ask"}, "tasks.0.questions is not a key; did you mean question?"),
    ],
)
def test_an_error_for_a_wrong_option_names_it_and_the_valid_values(options, expected):
    content = {
        "name": "j",
        "source": {"path": "in"},
        "tasks": [{"task": "answer", "column": "text", "model": "org/qa", "into": "reply"} | options],
        "sink": {"path": "out"},
    }
    with pytest.raises(SpecError) as caught:
        spec.parse(content)
    assert str(caught.value).startswith(f"job: {expected}")
