"""fill_mask gives what transformers' fill-mask pipeline gives, with the head computed at the masks only."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
    pipeline,
)

from jobs import run, spec
from tests import lake, tiny
from transforms.annotate import Row
from transforms.annotators import fill_mask as annotator
from transforms.annotators.fill_mask import Sequence
from transforms.errors import ModelError, SpecError
from transforms.model import ModelRef, load, read_config
from transforms.tasks import fill_mask

PLAIN = tiny.texts(60)
TEXTS = [f"{text[:50]} [MASK] {text[50:90]}" for text in PLAIN] + ["[MASK]", "مرحبا [MASK] القاهرة", "😀[MASK]e\u0301"]


@pytest.fixture(scope="module")
def fillers(tmp_path_factory):
    """Masked language models of six architectures, with WordPiece and byte-level tokenizers."""
    root = tmp_path_factory.mktemp("fillers")
    tiny.bert(root / "bert", "mlm", ["x"])
    size = {"vocab_size": 900, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    size |= {"intermediate_size": 64, "initializer_range": 0.5, "max_position_embeddings": tiny.WINDOW}
    special = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3, "pad_token_id": 0}
    distil = {"vocab_size": 900, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    made = {
        "distilbert": DistilBertForMaskedLM(
            DistilBertConfig(**distil, initializer_range=0.5, max_position_embeddings=tiny.WINDOW)
        ),
        "albert": AlbertForMaskedLM(AlbertConfig(**size | {"embedding_size": 16})),
        "electra": ElectraForMaskedLM(ElectraConfig(**size | {"embedding_size": 16})),
        "modernbert": ModernBertForMaskedLM(ModernBertConfig(**size, **special)),
        "roberta": RobertaForMaskedLM(
            RobertaConfig(**size | {"max_position_embeddings": tiny.WINDOW + 2}, type_vocab_size=1)
        ),
    }
    for name, network in made.items():
        network.save_pretrained(root / name)
        (tiny.byte_level() if name == "roberta" else tiny.wordpiece()).save_pretrained(root / name)
    return root


def task(folder, max_tokens=None, **options):
    model = load(ModelRef(str(folder)), fill_mask.ARCHITECTURE)
    return fill_mask.load(fill_mask.Options("text", **options), model, max_tokens)


def annotate(folder, texts=TEXTS, max_tokens=None, **options):
    return task(folder, max_tokens, **options)(pa.record_batch({"text": pa.array(texts, pa.string())}))


def reference(folder, texts=TEXTS, **options):
    fill = pipeline("fill-mask", model=str(folder), device="cpu")
    return [fill(text, tokenizer_kwargs={"truncation": True}, **options) for text in texts]


def assert_same(got, want):
    for g, w in zip(got, want, strict=True):
        assert [(fill["token"], fill["text"]) for fill in g] == [(fill["token_str"], fill["sequence"]) for fill in w]
        np.testing.assert_allclose([fill["score"] for fill in g], [fill["score"] for fill in w], atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "distilbert", "albert", "electra", "modernbert", "roberta"])
def test_tokens_scores_and_texts_equal_the_pipeline(fillers, name):
    texts = [text.replace("[MASK]", "<mask>") for text in TEXTS] if name == "roberta" else TEXTS
    annotation = annotate(fillers / name, texts)
    assert annotation.values.type == pa.list_(fill_mask.FILL)
    assert not annotation.failures
    assert_same(annotation.values.to_pylist(), reference(fillers / name, texts))


@pytest.mark.parametrize("name", ["bert", "distilbert", "albert", "electra", "modernbert", "roberta"])
def test_the_head_is_computed_at_mask_positions_only(fillers, name):
    loaded = task(fillers / name)
    seen = []
    head = loaded.model.network.get_output_embeddings()
    head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    sequences = [Sequence([2, 4, 9, 9, 4, 3], [1, 4]), Sequence([2, 9, 4, 3], [2])]
    assert loaded.forward(sequences).shape == (2, 2, 10)
    assert [shape[:2] for shape in seen] == [(2, 2)]


def test_a_model_whose_output_cannot_be_narrowed_gives_the_same(fillers, monkeypatch):
    want = annotate(fillers / "bert").values
    monkeypatch.setattr(annotator, "_narrowed", lambda body, inputs, output: output)
    loaded = task(fillers / "bert")
    assert not loaded.narrows
    got = loaded(pa.record_batch({"text": TEXTS})).values
    assert got.flatten().field("token").equals(want.flatten().field("token"))


def test_several_masks_are_numbered_and_the_others_stay_in_the_text(fillers):
    text = "the [MASK] café [MASK] smiled"
    got = annotate(fillers / "bert", [text, "a [MASK]"], top_k=3).values.to_pylist()
    want = reference(fillers / "bert", [text], top_k=3)[0]
    assert [fill["mask"] for fill in got[0]] == [0, 0, 0, 1, 1, 1]
    assert [fill["mask"] for fill in got[1]] == [0, 0, 0]
    for fill in (fill for fills in want for fill in fills):
        fill["sequence"] = fill["sequence"].removeprefix("[CLS] ").removesuffix(" [SEP]")
    assert_same([got[0][:3], got[0][3:]], want)
    assert got[0][3]["text"].count("[MASK]") == 1


@pytest.mark.parametrize("k", [1, 7, 5000])
def test_top_k_is_limited_to_the_size_of_the_vocabulary(fillers, k):
    got = annotate(fillers / "bert", TEXTS[:4], top_k=k).values.to_pylist()
    assert [len(fills) for fills in got] == [min(k, 900)] * 4
    assert_same(
        [fills[:7] for fills in got], [fills[:7] for fills in reference(fillers / "bert", TEXTS[:4], top_k=min(k, 7))]
    )


def test_targets_are_chosen_from_and_keep_their_scores(fillers):
    vocabulary = list(task(fillers / "bert").tokenizer.get_vocab())
    words = [word for word in vocabulary if word.isalpha() and len(word) > 2][:4]
    got = annotate(fillers / "bert", targets=words, top_k=3).values.to_pylist()
    assert_same(got, reference(fillers / "bert", targets=words, top_k=3))


def test_a_target_that_is_several_tokens_is_refused(fillers):
    with pytest.raises(ModelError, match=r"'unbelievable' is not one token of this model but .*; give words that"):
        task(fillers / "bert", targets=["unbelievable"])


def test_a_placeholder_is_replaced_by_the_mask_token(fillers):
    want = annotate(fillers / "bert").values
    got = annotate(fillers / "bert", [text.replace("[MASK]", "___") for text in TEXTS], mask="___").values
    assert got.equals(want)
    assert annotate(fillers / "bert", mask="___").values.equals(want), "the model's own works beside it"


def test_null_and_empty_texts_are_null_and_no_failure(fillers):
    for texts in ([None, "", "a [MASK]", None], [], [None, ""]):
        annotation = annotate(fillers / "bert", texts)
        assert annotation.values.is_null().to_pylist() == [not text for text in texts]
        assert not annotation.failures


def test_a_text_without_a_mask_is_null_and_no_failure(fillers):
    texts = ["no mask", "a [MASK]", "[mask] <mask>", "no mask", None]
    annotation = annotate(fillers / "bert", texts)
    assert annotation.values.is_null().to_pylist() == [True, False, True, True, True]
    assert not annotation.failures
    assert annotate(fillers / "bert", ["none", "at all"]).values.null_count == 2


def test_a_strict_task_rejects_a_text_without_a_mask_and_every_task_a_text_whose_mask_is_cut_off(fillers):
    long = "word " * 80
    texts = ["no mask", "a [MASK]", f"{long}[MASK]", f"[MASK] {long}[MASK]", "a ___", "[mask] <mask>"]
    lenient = annotate(fillers / "bert", texts, mask="___")
    assert [f.row for f in lenient.failures] == [2, 3]
    annotation = annotate(fillers / "bert", texts, mask="___", strict=True)
    assert [(f.row, f.error_type, f.message) for f in annotation.failures] == [
        (0, "ValueError", "the text has no ___ or [MASK] to fill"),
        (2, "ValueError", "1 of 1 masks are past the 64 tokens that the model reads; shorten the text before them"),
        (3, "ValueError", "1 of 2 masks are past the 64 tokens that the model reads; shorten the text before them"),
        (5, "ValueError", "the text has no ___ or [MASK] to fill"),
    ]
    assert annotation.values.is_null().to_pylist() == [True, False, True, True, False, True]


def test_a_row_that_makes_the_model_raise_fails_alone(fillers, monkeypatch):
    loaded = task(fillers / "bert")
    batch = pa.record_batch({"text": TEXTS})
    clean, forward = loaded(batch).values.to_pylist(), loaded.forward
    poison = loaded.tokenise([Row(0, TEXTS[17])])[0][1].ids

    def fragile(sequences):
        if any(s.ids == poison for s in sequences):
            raise RuntimeError("index out of range")
        return forward(sequences)

    monkeypatch.setattr(loaded, "forward", fragile)
    annotation = loaded(batch)
    assert [(f.row, f.error_type) for f in annotation.failures] == [(17, "RuntimeError")]
    tokens = [fills and [fill["token"] for fill in fills] for fills in annotation.values.to_pylist()]
    assert tokens == [None if row == 17 else [fill["token"] for fill in fills] for row, fills in enumerate(clean)]


def test_the_token_budget_does_not_change_the_fills(fillers):
    wide, narrow = (annotate(fillers / "bert", max_tokens=n).values.flatten() for n in (4096, 64))
    assert wide.field("text").equals(narrow.field("text"))
    np.testing.assert_allclose(wide.field("score").to_numpy(), narrow.field("score").to_numpy(), atol=1e-5)


def test_a_model_without_the_head_or_the_mask_token_is_refused(fillers, models, monkeypatch):
    config = read_config(ModelRef(str(models / "sentiment")))
    with pytest.raises(ModelError, match=r"fill_mask needs a model with a head \(…ForMaskedLM\)"):
        fill_mask.check(fill_mask.Options("text"), config)
    model = load(ModelRef(str(fillers / "bert")), fill_mask.ARCHITECTURE)
    model.tokenizer.mask_token = None
    with pytest.raises(ModelError, match="needs a tokenizer with a mask token; this model's has none"):
        fill_mask.load(fill_mask.Options("text"), model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "job: tasks.0: top_k is 0; give a number of tokens from 1"),
        ({"top_k": "all"}, "job: tasks.0.top_k is 'all'; input should be a valid integer"),
        ({"mask": " "}, "job: tasks.0: mask is ' '; give a placeholder that texts have, such as ___"),
        ({"targets": []}, "job: tasks.0: targets is []; give at least one word"),
        ({"target": ["a"]}, "job: tasks.0.target is not a key; did you mean targets?"),
    ],
)
def test_an_error_for_a_wrong_option_names_it_and_the_valid_values(options, message):
    item = {"task": "fill_mask", "column": "text", "model": "org/model", "into": "word"} | options
    with pytest.raises(SpecError) as caught:
        spec.parse({"name": "x", "source": {"path": "in"}, "tasks": [item], "sink": {"path": "out"}})
    assert str(caught.value).startswith(message)


def test_a_strict_job_rejects_the_rows_without_a_mask_and_fills_the_others(tmp_path, fillers):
    (tmp_path / "in").mkdir()
    table = pa.table({"id": ["a", "b", "c", "d"], "text": ["x [MASK]", "none", None, "[MASK] [MASK]"]})
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    item = {"task": "fill_mask", "column": "text", "model": str(fillers / "bert"), "into": "word", "top_k": 2}
    item["strict"] = True
    content = lake.job(tmp_path / "in", tmp_path / "out", fillers, tasks=[item], errors={"max_fraction": 0.5})
    report = run.run(spec.parse(content))
    assert (report.rows_out, report.rows_rejected) == (3, 1)
    got = lake.read(tmp_path / "out")
    assert got.schema.field("word").type.value_type == fill_mask.FILL
    assert [None if fills is None else len(fills) for fills in got["word"].to_pylist()] == [2, None, 4]
    assert lake.rejected(tmp_path / "out")["id"].to_pylist() == ["b"]
