"""Every task that cuts a text at its model's window says which rows lost tokens: those above it, not those at it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests import tiny
from transforms import registry
from transforms.annotators.translate import Piece
from transforms.cascade import Cascade, Checks
from transforms.contract import Annotation, Truncated
from transforms.model import Model, load
from transforms.reference import ModelRef


def annotator(task, folder, **options):
    module = registry.get(task)
    return module.load(module.Options(**options), load(ModelRef(str(folder), device="cpu"), module.ARCHITECTURE))


def around(count, most, before=""):
    """A text below, at and above `most` tokens by `count`, which is asked of whole texts."""
    at = next(n for n in range(1, 400) if count(before + " a" * (n + 1)) > most)
    assert count(before + " a" * at) == most
    return [before + " a" * (at + more) for more in (-1, 0, 1)]


def around_window(model: Model, before=""):
    return around(lambda text: len(model.tokenizer(text, verbose=False)["input_ids"]), model.max_length, before)


def cut(task, texts, **columns) -> list[int]:
    found = task(pa.record_batch({"text": pa.array(texts, pa.string()), **columns}))
    assert not found.failures
    assert found.cut_at.dtype == np.int32
    return found.cut_at.tolist()


@pytest.mark.parametrize(
    ("task", "name", "options"),
    [
        ("classify", "sentiment", {}),
        ("classify", "topics", {"top_k": "all"}),
        ("embed", "mlm", {}),
        ("embed", "mlm", {"prompt": "query: "}),
        ("ner", "ner", {"long_text": "truncate"}),
        ("ner", "ner_bytes", {"long_text": "truncate", "aggregation": "simple"}),
    ],
)
def test_only_a_text_above_the_window_is_cut(models, task, name, options):
    made = annotator(task, models / name, column="text", **options)
    prompt = options.get("prompt", "")
    below, at, above = (text.removeprefix(prompt) for text in around_window(made.model, prompt))
    assert cut(made, [below, at, above, None, "", above]) == [0, 0, tiny.WINDOW, 0, 0, tiny.WINDOW]


@pytest.mark.parametrize(("task", "name"), [("classify", "sentiment"), ("embed", "mlm"), ("ner", "ner")])
def test_a_text_that_is_read_in_windows_is_not_cut(models, task, name):
    made = annotator(task, models / name, column="text", long_text="window")
    assert cut(made, ["a " * 300, "a"]) == [0, 0]


def test_a_text_that_is_cut_on_its_left_is_counted_too(models):
    made = annotator("classify", models / "sentiment", column="text")
    below, at, above = around_window(made.model)
    made.model.tokenizer.truncation_side = "left"
    assert cut(made, [below, at, above]) == [0, 0, tiny.WINDOW]


def test_a_text_with_masks_is_cut_after_the_last_of_them(models):
    made = annotator("fill_mask", models / "mlm", column="text", strict=False)
    below, at, above = around_window(made.model, "[MASK]")
    assert cut(made, [below, at, above, above[len("[MASK]") :]]) == [0, 0, tiny.WINDOW, 0], "no mask, no result"


@pytest.mark.parametrize("name", ["nli", "nli_bytes"])
@pytest.mark.parametrize("has_template", [True, False])
def test_a_text_is_cut_as_soon_as_its_longest_hypothesis_leaves_it_no_room(models, name, has_template):
    labels = ["b", "c d e f g h"]
    made = annotator("zero_shot", models / name, column="text", labels=labels)
    assert made.template is not None
    tokenizer, longest = made.model.tokenizer, made.options.hypothesis.format(labels[1])
    texts = around(lambda text: len(tokenizer(text, longest, verbose=False)["input_ids"]), made.model.max_length)
    if not has_template:
        made.template = None
    assert cut(made, texts) == [0, 0, tiny.WINDOW]


def test_a_row_of_which_no_token_is_lost_beside_a_hypothesis_without_tokens_is_not_cut(models):
    made = annotator("zero_shot", models / "nli", column="text", labels=[" ", "  "], hypothesis="{}")
    tokenizer = made.model.tokenizer
    texts = around(lambda text: len(tokenizer(text, " ", verbose=False)["input_ids"]), made.model.max_length)
    assert cut(made, texts) == [0, 0, tiny.WINDOW]


def test_answer_reads_every_context_in_windows_and_says_nothing(models):
    made = annotator("answer", models / "answer", column="text", question="a?")
    assert made(pa.record_batch({"text": ["a " * 300]})).cut_at is None


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_summarize_counts_what_it_cuts_and_in_rounds_nothing(writers, family):
    made = annotator("summarize", writers(family), column="text", long_text="truncate", max_new_tokens=4)
    texts = [text.removeprefix(made.prefix) for text in around_window(made.model, made.prefix)]
    assert cut(made, texts) == [0, 0, made.window]
    rounds = annotator("summarize", writers(family), column="text", max_new_tokens=4)
    assert cut(rounds, [texts[2], " a" * 200]) == [0, 0]


def test_summarize_by_a_causal_model_counts_what_it_cuts(causal_model):
    made = annotator("summarize", causal_model("chat"), column="text", long_text="truncate", max_new_tokens=4)
    tokenizer = made.model.tokenizer
    texts = around(lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]), made.room)
    assert cut(made, texts) == [0, 0, made.window]
    assert all(len(ids) <= made.window for ids in made.ids([*texts, "a" * made.window]))


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("marian", {"target_language": "deu"}),
        ("nllb", {"source_language": "eng_Latn", "target_language": "deu_Latn"}),
        ("t5", {"prefix": "en de: ", "target_language": None}),
    ],
)
def test_translate_counts_what_it_cuts_and_of_pieces_nothing(writers, family, options):
    made = annotator("translate", writers(family), column="text", long_text="truncate", max_new_tokens=4, **options)
    prefix = made.prefix(Piece(0, "", None, options["target_language"]))
    texts = [text.removeprefix(prefix) for text in around_window(made.model, prefix)]
    assert cut(made, texts) == [0, 0, made.model.max_length]
    pieces = annotator("translate", writers(family), column="text", max_new_tokens=4, **options)
    assert cut(pieces, [texts[2], " a" * 200]) == [0, 0]


def test_generate_counts_the_prompts_that_it_cuts(causal_model):
    made = annotator("generate", causal_model("llama"), prompt="{text} {other} ->", max_new_tokens=4)
    count = lambda text: len(made.prompts([[text, "b"]])[0])  # noqa: E731
    whole = annotator("generate", causal_model("llama"), prompt="{text} {other} ->", max_new_tokens=1)
    texts = around(lambda text: len(whole.prompts([[text, "b"]])[0]), made.prompts.room)
    assert [count(text) for text in texts[:2]] == [made.prompts.room - 1, made.prompts.room]
    assert cut(made, [*texts, None], other=["b"] * 4) == [0, 0, made.prompts.room, 0]


def test_a_row_that_fails_is_not_counted(models, monkeypatch):
    made = annotator("classify", models / "sentiment", column="text")
    long = [" a" * 100, " b" * 100]
    forward = made.forward
    poison = made.model.tokenizer("a", add_special_tokens=False)["input_ids"][0]

    def fragile(sequences):
        if any(poison in sequence.ids for sequence in sequences):
            raise RuntimeError("index out of range")
        return forward(sequences)

    monkeypatch.setattr(made, "forward", fragile)
    found = made(pa.record_batch({"text": long}))
    assert [failure.row for failure in found.failures] == [0]
    assert Truncated.of(found) == Truncated(1, 1, (tiny.WINDOW,))


def test_rows_of_one_text_are_computed_once_and_counted_each(models):
    made = annotator("classify", models / "sentiment", column="text")
    found = made(pa.record_batch({"text": [" a" * 100, "a", " a" * 100, None, " a" * 100]}))
    assert Truncated.of(found) == Truncated(4, 3, (tiny.WINDOW,))
    assert found.tokens == tiny.WINDOW + 3


def test_of_two_models_the_one_whose_answer_is_taken_counts():
    def answering(sure, cut_at):
        def model(batch):
            at = np.array([cut_at[i] for i in batch["row"].to_pylist()], np.int32)
            confidence = np.array([sure[i] for i in batch["row"].to_pylist()], np.float32)
            return Annotation(pa.array(["x"] * len(batch)), confidence=confidence, cut_at=at)

        return model

    class Watch:
        is_over = False

    small, large = answering([0.9, 0.9, 0.1, 0.1], [32, 0, 32, 32]), answering([1] * 4, [0, 0, 64, 0])
    found = Cascade(small, large, 0.5, Checks("seed", 0.0), Watch())(pa.record_batch({"row": [0, 1, 2, 3]}))
    assert found.cut_at.tolist() == [32, 0, 64, 0]
    assert Truncated.of(found) == Truncated(4, 2, (32, 64))
    assert Truncated.of(replace(found, cut_at=None)) is None


def test_numbers_are_added_up():
    assert Truncated(5, 2, (64,)) + Truncated(3, 1, (32, 64)) == Truncated(8, 3, (32, 64))
    assert Truncated(5, 2, (64,)) + Truncated() == Truncated(5, 2, (64,))
