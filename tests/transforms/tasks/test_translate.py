"""translate gives what tokenizer and model.generate() give one text at a time, in any mixture of languages."""

import pyarrow as pa
import pytest
import torch

from jobs import run, spec
from tests import tiny, tiny_seq2seq
from transforms.contract import Annotation
from transforms.errors import ModelError
from transforms.model import ModelRef, load
from transforms.tasks import translate

TEXTS = [text for text in tiny.texts(60) if len(text) < 40]


def annotate(folder, columns=None, texts=TEXTS, **options) -> Annotation:
    model = load(ModelRef(str(folder), device="cpu"), translate.ARCHITECTURE)
    task = translate.load(translate.Options("text", **options), model, 200)
    return task(pa.record_batch({"text": pa.array(texts, pa.string()), **(columns or {})}))


def plain(folder, texts=TEXTS, prefix="", source=None, target=None, beams=1, new=None) -> list[str]:
    """One text at a time through the tokenizer and model.generate()."""
    model = load(ModelRef(str(folder), device="cpu"), translate.ARCHITECTURE)
    tokenizer, network, written = model.tokenizer, model.network, []
    for i, text in enumerate(texts):
        forced = {}
        if source is not None:
            tokenizer.src_lang = source[i]
            forced = {"forced_bos_token_id": tokenizer.convert_tokens_to_ids(target[i])}
        encoded = tokenizer(prefix + text, truncation=True, max_length=model.max_length, return_tensors="pt")
        limit = {} if new is None else {"max_new_tokens": new}
        with torch.inference_mode():
            ids = network.generate(**encoded, num_beams=beams, do_sample=False, **forced, **limit)
        written.append(tokenizer.decode(ids[0], skip_special_tokens=True).strip())
    return written


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("family", ["nllb", "mbart"])
def test_rows_of_several_languages_share_batches_and_equal_the_plain_loop(writers, family, beams):
    codes = tiny_seq2seq.LANGUAGES[family]
    source = [codes[i % 3] for i in range(len(TEXTS))]
    target = [codes[(i // 3) % 3] for i in range(len(TEXTS))]
    got = annotate(
        writers(family),
        {"from": source, "to": target},
        source_language_column="from",
        target_language_column="to",
        num_beams=beams,
    )
    assert got.values.type == pa.string()
    want = plain(writers(family), source=source, target=target, beams=beams)
    assert got.values.to_pylist() == want
    assert len(set(want)) > 5
    assert not got.failures


@pytest.mark.parametrize("family", ["nllb", "mbart"])
def test_one_pair_of_languages_for_all_rows(writers, family):
    source, target, _ = tiny_seq2seq.LANGUAGES[family]
    got = annotate(writers(family), source_language=source, target_language=target).values.to_pylist()
    n = len(TEXTS)
    assert got == plain(writers(family), source=[source] * n, target=[target] * n)


def test_a_marian_model_of_several_targets_gets_the_target_before_the_text(writers):
    got = annotate(writers("marian"), target_language="deu").values.to_pylist()
    assert got == plain(writers("marian"), prefix=">>deu<< ")
    other = annotate(writers("marian"), {"to": ["ara"] * len(TEXTS)}, target_language_column="to").values.to_pylist()
    assert other == plain(writers("marian"), prefix=">>ara<< ")
    assert got != other


@pytest.mark.parametrize("options", [{"source_language": "en", "target_language": "de"}, {"prefix": "en de: "}])
def test_t5_gets_the_prefix_from_its_configuration(writers, options):
    got = annotate(writers("t5"), max_new_tokens=30, **options).values.to_pylist()
    assert got == plain(writers("t5"), prefix="en de: ", new=30)


def test_t5_s_own_words_are_made_from_the_names_of_languages(writers):
    got = annotate(
        writers("t5"), source_language="English", target_language="German", max_new_tokens=20, long_text="truncate"
    ).values.to_pylist()
    assert got == plain(writers("t5"), prefix="translate English to German: ", new=20)


def test_null_and_empty_texts_give_null_and_no_failure(writers):
    got = annotate(writers("marian"), texts=[None, "", "fine words", None], target_language="deu")
    assert got.values.is_null().to_pylist() == [True, True, False, True]
    assert not got.failures
    for texts in ([], [None, None], [""]):
        assert annotate(writers("marian"), texts=texts, target_language="deu").values.to_pylist() == [None] * len(texts)


def test_a_text_that_several_rows_have_is_translated_once(writers):
    once = annotate(writers("marian"), texts=["fine words", "other"], target_language="deu")
    many = annotate(writers("marian"), texts=["fine words", "other", "fine words"] * 3, target_language="deu")
    first, second = once.values.to_pylist()
    assert many.values.to_pylist() == [first, second, first] * 3
    assert many.tokens == once.tokens


def test_a_long_text_is_translated_sentence_by_sentence_and_joined(writers):
    sentences = ["rain fell. ", "the old man went home!\n", "nobody saw him? ", "he slept well. ", "very well indeed."]
    long = "".join(sentences)
    model = load(ModelRef(str(writers("marian")), device="cpu"), translate.ARCHITECTURE)
    task = translate.load(translate.Options("text", target_language="deu"), model)
    pieces = [piece.text for piece in task.pieces([long], [None], ["deu"], {})]
    assert len(pieces) > 1
    assert "".join(piece + " " for piece in pieces).split() == long.split()
    assert all(len(ids) <= model.max_length for ids in task.ids(task.pieces([long], [None], ["deu"], {})))
    got = annotate(writers("marian"), texts=[long], target_language="deu").values[0].as_py()
    parts = plain(writers("marian"), texts=pieces, prefix=">>deu<< ")
    assert got.split() == " ".join(parts).split()
    cut = annotate(writers("marian"), texts=[long], target_language="deu", long_text="truncate").values[0].as_py()
    assert cut == plain(writers("marian"), texts=[long], prefix=">>deu<< ")[0]


def test_a_row_whose_language_the_model_does_not_have_is_rejected_alone(writers):
    to = ["deu_Latn", "deu_latn", None, "arb_Arab"]
    got = annotate(writers("nllb"), {"to": to}, TEXTS[:4], source_language="eng_Latn", target_language_column="to")
    assert [(failure.row, failure.error_type) for failure in got.failures] == [(1, "ModelError"), (2, "ModelError")]
    assert "did you mean deu_Latn? it has arb_Arab, deu_Latn, eng_Latn" in got.failures[0].message
    assert got.failures[1].message == "target_language is missing; this model takes arb_Arab, deu_Latn, eng_Latn"
    assert got.values.is_null().to_pylist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("nllb", {"source_language": "eng_Latn", "target_language": "de"}, "target_language 'de' is not a language"),
        ("nllb", {"target_language": "deu_Latn"}, "source_language is missing; this model takes arb_Arab"),
        ("marian", {"target_language": "xyz"}, "'xyz' is not a language of this model; it has ara, deu"),
        ("marian", {}, "target_language is missing; this model takes ara, deu"),
        ("bart", {"target_language": "de"}, "translates between two fixed languages; remove it"),
        ("t5", {"source_language": "en"}, "target_language is missing; a T5 model needs both languages"),
    ],
)
def test_an_unknown_language_is_refused_with_the_valid_ones(writers, family, options, message):
    with pytest.raises(ModelError, match=message):
        annotate(writers(family), **options)


def test_length_ratio_stops_a_text_at_a_multiple_of_its_source(writers):
    model = load(ModelRef(str(writers("marian")), device="cpu"), translate.ARCHITECTURE)
    task = translate.load(translate.Options("text", target_language="deu", length_ratio=1.5), model)
    assert [task.limit(n) for n in (1, 10, 1000)] == [17, 31, 47]
    free = translate.load(translate.Options("text", target_language="deu"), model)
    assert free.limit(1) == 47


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_language": "de", "target_language_column": "to"}, "give target_language or target_language_column"),
        ({"num_beams": 0}, "num_beams is 0; give a number from 1"),
        ({"length_ratio": 0.0}, "length_ratio is 0.0; give a number above 0"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        translate.Options("text", **options)


def test_a_whole_job_translates_and_plan_refuses_what_the_model_cannot(writers, tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": TEXTS[:10], "to": ["deu", "ara"] * 5}), tmp_path / "in.parquet")
    task = {"task": "translate", "column": "text", "model": str(writers("marian")), "into": "translated"}
    content = {
        "name": "translate",
        "source": {"path": str(tmp_path / "in.parquet")},
        "tasks": [task | {"target_language_column": "to", "dtype": "float32", "device": "cpu"}],
        "sink": {"path": str(tmp_path / "out")},
    }
    run.run(spec.parse(content))
    table = pa.concat_tables([pq.read_table(file) for file in (tmp_path / "out").glob("*.parquet")])
    want = annotate(writers("marian"), {"to": ["deu", "ara"] * 5}, TEXTS[:10], target_language_column="to")
    assert table["translated"].to_pylist() == want.values.to_pylist()
    content["tasks"][0] |= {"model": str(writers("nllb")), "target_language_column": None}
    with pytest.raises(ModelError, match=r"tasks\.0: source_language is missing; a m2m_100 model translates between"):
        run.run(spec.parse(content))
