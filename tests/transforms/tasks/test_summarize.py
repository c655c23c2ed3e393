"""summarize gives what tokenizer and model.generate() give one text at a time; long texts are summarised in rounds."""

import pyarrow as pa
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests import tiny, tiny_seq2seq
from transforms.annotators import summarize as annotator
from transforms.annotators.summarize import INSTRUCTION
from transforms.contract import Annotation
from transforms.errors import ModelError
from transforms.generation import writer
from transforms.model import ModelRef, load
from transforms.tasks import summarize

TEXTS = tiny.texts(28)
SHORT = [text for text in TEXTS if len(text) < 40]


def annotate(folder, texts=TEXTS, **options) -> Annotation:
    model = load(ModelRef(str(folder), device="cpu"), summarize.ARCHITECTURE)
    return summarize.load(summarize.Options("text", **options), model, 200)(
        pa.record_batch({"text": pa.array(texts, pa.string())})
    )


def plain(folder, texts=TEXTS, prefix="", **how) -> list[str]:
    """One text at a time through the tokenizer and model.generate()."""
    model = load(ModelRef(str(folder), device="cpu"), summarize.ARCHITECTURE)
    written = []
    for text in texts:
        encoded = model.tokenizer(prefix + text, truncation=True, max_length=model.max_length, return_tensors="pt")
        with torch.inference_mode():
            ids = model.network.generate(**encoded, **{"num_beams": 1, "do_sample": False, **how})
        written.append(model.tokenizer.decode(ids[0], skip_special_tokens=True).strip())
    return written


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("family", ["bart", "pegasus"])
def test_summaries_equal_the_plain_loop(writers, family, beams):
    got = annotate(writers(family), num_beams=beams, long_text="truncate")
    assert got.values.type == pa.string()
    assert got.values.to_pylist() == plain(writers(family), num_beams=beams)
    assert not got.failures


def test_led_summaries_equal_the_plain_loop(writers):
    got = annotate(writers("led"), SHORT, max_new_tokens=12).values.to_pylist()
    assert got == plain(writers("led"), SHORT, max_new_tokens=12)


def test_t5_s_prefix_and_lengths_come_from_its_own_configuration(writers):
    got = annotate(writers("t5"), long_text="truncate").values.to_pylist()
    assert got == plain(writers("t5"), prefix="sum: ", max_new_tokens=29, min_new_tokens=2)


def test_options_of_the_job_override_the_models_configuration(writers):
    options = {"max_new_tokens": 17, "min_new_tokens": 6, "no_repeat_ngram_size": 2}
    got = annotate(writers("t5"), long_text="truncate", prefix="short: ", **options).values.to_pylist()
    assert got == plain(writers("t5"), prefix="short: ", **options)
    options = {"num_beams": 3, "length_penalty": 2.0, "max_new_tokens": 12}
    got = annotate(writers("bart"), long_text="truncate", **options).values.to_pylist()
    assert got == plain(writers("bart"), **options)


def test_null_and_empty_texts_give_null_and_no_failure(writers):
    got = annotate(writers("bart"), [None, "", "fine words", None])
    assert got.values.is_null().to_pylist() == [True, True, False, True]
    assert not got.failures
    for texts in ([], [None, None], [""]):
        assert annotate(writers("bart"), texts).values.to_pylist() == [None] * len(texts)


def test_a_long_text_is_summarised_by_windows_until_the_summaries_fit(writers):
    folder = writers("bart")
    model = load(ModelRef(str(folder), device="cpu"), summarize.ARCHITECTURE)
    task = summarize.load(summarize.Options("text", max_new_tokens=12), model)
    text = " ".join(TEXTS[12:20])
    rounds = 0
    while len(pieces := task.windows(text)) > 1:
        assert "".join(pieces) == text
        assert max(len(ids) for ids in task.ids(pieces)) <= model.max_length
        text = " ".join(plain(folder, pieces, max_new_tokens=12))
        rounds += 1
    assert rounds >= 2
    want = plain(folder, [text], max_new_tokens=12)
    got = annotate(folder, ["short words", " ".join(TEXTS[12:20]), None], max_new_tokens=12)
    assert got.values.to_pylist() == [*plain(folder, ["short words"], max_new_tokens=12), *want, None]


def test_summaries_that_never_shrink_are_truncated_in_the_end(writers, monkeypatch):
    monkeypatch.setattr(annotator, "ROUNDS", 3)
    rounds = []
    whole = writer.write
    monkeypatch.setattr(writer, "write", lambda *a: rounds.append(len(a[1])) or whole(*a))
    got = annotate(writers("bart"), ["word " * 60], max_new_tokens=30, min_new_tokens=30)
    assert len(rounds) == 3
    assert rounds[-1] == 1
    assert got.values[0].as_py()


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """A tiny causal model with a chat template."""
    folder = tmp_path_factory.mktemp("chat")
    torch.manual_seed(5)
    tokenizer = tiny_seq2seq.byte_level("$A")
    tokenizer.model_max_length = 320
    tokenizer.chat_template = (
        "{% for message in messages %}<s>{{ message.role }}: {{ message.content }}{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant: {% endif %}"
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=320, initializer_range=0.4, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("instruction", [None, "Be brief."])
def test_a_causal_model_gets_its_instruction_through_the_chat_template(chat, instruction):
    got = annotate(chat, SHORT, max_new_tokens=10, prefix=instruction).values.to_pylist()
    model = load(ModelRef(str(chat), device="cpu"), summarize.ARCHITECTURE)
    for text, summary in zip(SHORT, got, strict=True):
        message = {"role": "user", "content": f"{instruction or INSTRUCTION}\n\n{text}"}
        prompt = model.tokenizer.apply_chat_template([message], add_generation_prompt=True, return_tensors="pt")
        ids = model.network.generate(**prompt, max_new_tokens=10, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        assert summary == model.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_a_long_text_for_a_causal_model_leaves_room_for_its_summary(chat):
    model = load(ModelRef(str(chat), device="cpu"), summarize.ARCHITECTURE)
    task = summarize.load(summarize.Options("text", max_new_tokens=10), model)
    pieces = task.windows("some words of a text. " * 60)
    assert len(pieces) > 1
    assert all(len(ids) + 10 <= model.max_length for ids in task.ids(pieces))
    cut = task.ids(["some words of a text. " * 60])[0]
    assert len(cut) + 10 <= model.max_length
    assert annotate(chat, ["some words of a text. " * 60], max_new_tokens=10).values.null_count == 0


def test_a_causal_model_without_a_chat_template_is_refused(chat, tmp_path):
    import shutil

    copy = shutil.copytree(chat, tmp_path / "plain", ignore=shutil.ignore_patterns("chat_template*"))
    with pytest.raises(ModelError, match="or a causal model with a chat template; this tokenizer has none"):
        annotate(copy)


def test_a_model_that_writes_no_text_is_refused(models):
    config = load_config(models / "sentiment")
    with pytest.raises(ModelError, match="summarize needs a model that writes text"):
        summarize.check(summarize.Options("text"), config)


def load_config(folder):
    from transforms.model import read_config

    return read_config(ModelRef(str(folder)))


def test_a_window_without_room_is_refused(writers):
    with pytest.raises(ModelError, match="has no room for a text beside the prefix"):
        annotate(writers("bart"), prefix="word " * 60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; give a number from 1"),
        ({"max_new_tokens": 5, "min_new_tokens": 9}, "min_new_tokens is 9, more than max_new_tokens, 5"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        summarize.Options("text", **options)
