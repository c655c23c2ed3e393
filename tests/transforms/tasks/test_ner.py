"""ner gives what transformers' token-classification pipeline gives; offsets are code points of the original text."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, pipeline

from tests import tiny
from transforms.annotators import ner as annotator
from transforms.model import ModelRef, load
from transforms.spans import Spans
from transforms.tasks import ner

TEXTS = tiny.texts(100)


def annotate(folder, texts, max_tokens=None, **options):
    model = load(ModelRef(str(folder), device="cpu"), ner.ARCHITECTURE)
    task = ner.load(ner.Options("text", **options), model, max_tokens)
    return task(pa.record_batch({"text": pa.array(texts, pa.string())})).values


def trimmed(entities, text):
    """The pipeline's entities without the white space around them, and none of nothing else."""
    kept = []
    for entity in entities:
        piece = text[entity["start"] : entity["end"]]
        start = entity["start"] + len(piece) - len(piece.lstrip())
        if piece.strip():
            kept.append(entity | {"start": start, "end": start + len(piece.strip())})
    return kept


def assert_same(got, want, texts):
    want = [trimmed(entities, text) for entities, text in zip(want, texts, strict=True)]
    assert sum(map(len, want)) > len(texts)
    for row, (g, w) in enumerate(zip(got.to_pylist(), want, strict=True)):
        assert [(s["label"], s["start"], s["end"]) for s in g] == [(s["entity_group"], s["start"], s["end"]) for s in w]
        np.testing.assert_allclose([s["score"] for s in g], [s["score"] for s in w], atol=1e-4)
        assert all(s["text"] == texts[row][s["start"] : s["end"]] for s in g)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("how", ["simple", "first", "average", "max"])
@pytest.mark.parametrize("name", ["ner", "ner_lower", "ner_plain", "ner_bytes"])
def test_spans_equal_the_pipeline(models, name, how):
    reference = pipeline("token-classification", model=str(models / name), device="cpu", aggregation_strategy=how)
    assert_same(annotate(models / name, TEXTS, aggregation=how, long_text="truncate"), reference(TEXTS), TEXTS)


SPACES = [
    "two  spaces \t and a tab",
    "no-break\xa0space \xa0 and \u3000 wide ones\u3000",
    " \n leading lines\r\n",
    "zero\u200bwidth \ufeff is no white space \u200b",
    " ",
    "\xa0\u2003 \u3000",
]


@pytest.fixture(scope="module")
def spacious(models, tmp_path_factory):
    """Two models whose tokens begin with the space before their word: byte-level as GPT-2's, metaspace as T5's."""
    folders = {}
    for name, pre_tokenizer, post_processor in [
        ("bytes", pre_tokenizers.ByteLevel(add_prefix_space=False), processors.ByteLevel(trim_offsets=False)),
        ("metaspace", pre_tokenizers.Metaspace(), None),
    ]:
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(models / "ner_bytes", folder, dirs_exist_ok=True)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizer
        if post_processor is not None:
            backend.post_processor = post_processor
        tokenizer.save_pretrained(folder)
        folders[name] = folder
    return folders


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("how", ["simple", "first", "average", "max"])
@pytest.mark.parametrize("name", ["bytes", "metaspace"])
def test_an_entity_has_no_white_space_around_it_whatever_the_tokenizer_counts_in(spacious, name, how):
    texts = [*SPACES, *TEXTS[:40]]
    reference = pipeline("token-classification", model=str(spacious[name]), device="cpu", aggregation_strategy=how)
    want = reference(texts)
    pieces = [text[e["start"] : e["end"]] for text, found in zip(texts, want, strict=True) for e in found]
    assert any(piece != piece.strip() for piece in pieces)
    got = annotate(spacious[name], texts, aggregation=how, long_text="truncate")
    assert_same(got, want, texts)
    assert all(e["text"] and e["text"] == e["text"].strip() for row in got.to_pylist() for e in row)


def test_an_entity_of_white_space_only_is_dropped():
    text = " Ann \xa0 Lee\u200b \u3000"
    found = Spans(
        text=np.array([0, 0, 0, 0, 2]),
        label=np.array([1, 2, 3, 4, 5]),
        start=np.array([0, 4, 7, 11, 0], np.int32),
        end=np.array([5, 7, 11, 13, 2], np.int32),
        score=np.arange(5, dtype=np.float32),
    )
    kept, pieces = annotator.trimmed(found, [text, "", " x"])
    assert pieces == ["Ann", "Lee\u200b", "x"]
    assert (kept.start.tolist(), kept.end.tolist()) == ([1, 7, 1], [4, 11, 2])
    assert kept.label.tolist() == [1, 3, 5]


@pytest.mark.parametrize("name", ["ner", "ner_bytes"])
@pytest.mark.parametrize("stride", [0, 16])
def test_windows_of_long_texts_equal_the_pipeline_with_the_same_stride(models, name, stride):
    long = [text for text in TEXTS if len(text) > 200]
    assert len(long) > 5
    reference = pipeline(
        "token-classification", model=str(models / name), device="cpu", aggregation_strategy="simple", stride=stride
    )
    assert_same(annotate(models / name, long, stride=stride), reference(long), long)


def test_null_texts_are_null_and_texts_without_entities_are_empty_lists(models):
    got = annotate(models / "ner", [None, "", " "])
    assert got.type == pa.list_(ner.ENTITY)
    assert got.to_pylist() == [None, None, []]


def test_the_token_budget_does_not_change_the_spans(models):
    wide, narrow = (annotate(models / "ner", TEXTS, max_tokens=n).to_pylist() for n in (4096, 64))
    places = [[[(s["label"], s["start"], s["end"]) for s in row] for row in spans] for spans in (wide, narrow)]
    assert places[0] == places[1]


@pytest.mark.parametrize("how", ["simple", "average"])
def test_rows_read_together_have_the_spans_of_each_alone(models, monkeypatch, how):
    texts = [*TEXTS, None, *TEXTS[:20]]
    together = annotate(models / "ner_bytes", texts, max_tokens=1, aggregation=how, stride=8)
    monkeypatch.setattr(annotator, "GROUP_TOKENS", 1)
    assert annotate(models / "ner_bytes", texts, max_tokens=1, aggregation=how, stride=8).equals(together)
    assert together.slice(0, 20).equals(together.slice(len(TEXTS) + 1))
