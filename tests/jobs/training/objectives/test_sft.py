"""Answers are learnt from prompts and completions and from conversations, packed or not."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from jobs.training import causal, data, train
from jobs.training.exchanges import Exchanges, fitted
from jobs.training.request import Request
from tests import tiny_causal
from tests.jobs.training import made
from tests.jobs.training.objectives import preferred
from transforms.errors import ModelError


def request(base, **arguments):
    return Request("generate", "lora", str(base), "base", "c", "f", (), {}, arguments, {}, "t", "sft")


def answers(n=60):
    """Prompts and completions."""
    return preferred.pairs(n).rename_columns(["prompt", "completion", "rejected"]).select(["prompt", "completion"])


def loss(setup, examples):
    """The mean loss of a token, as the trainer computes it for one batch."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(0, padding_free=setup.fixed["padding_free"])
    batch = collator(examples)
    with torch.inference_mode():
        logits = setup.network.eval()(
            **{name: value for name, value in batch.items() if name != "labels"}, use_cache=False
        ).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()).item()


def test_packed_rows_have_the_loss_that_they_have_alone(causal_model):
    table = answers(24)
    alone, packed = (
        causal.build(request(causal_model("llama"))),
        causal.build(request(causal_model("llama"), packing=True, max_length=64)),
    )
    rows, packs = alone.encode(table), packed.encode(table)
    assert len(packs) < len(rows) / 2
    assert sum(len(pack["seq_lengths"]) for pack in packs) == 24
    assert loss(packed, packs) == pytest.approx(loss(alone, rows), rel=1e-4)


def test_packing_is_refused_where_a_row_would_read_its_neighbours(causal_model):
    causal.require_packing(AutoModelForCausalLM.from_pretrained(causal_model("llama")), 0)
    with pytest.raises(ModelError, match=r"training.packing is true, and a bloom model reads across rows"):
        causal.require_packing(tiny_causal.network("bloom", 420), 0)


def test_the_loss_counts_the_answer_only_unless_told_otherwise(causal_model):
    table = answers(8)
    (first, *_) = causal.build(request(causal_model("llama"))).encode(table)
    (whole, *_) = causal.build(request(causal_model("llama"), completion_only_loss=False)).encode(table)
    counted = [token for token in first["labels"] if token != -100]
    assert 2 <= len(counted) < len(first["labels"])
    assert counted[-1] == 2
    assert whole["labels"] == whole["input_ids"] == first["input_ids"]


@pytest.mark.usefixtures("in_process")
def test_a_packed_training_evaluates_and_learns(tmp_path, causal_model):
    fast = preferred.FAST | {"packing": True, "max_length": 64, "num_train_epochs": 4, "per_device_train_batch_size": 2}
    fast |= {"eval_strategy": "steps", "eval_steps": 8}
    spec = made.file(
        tmp_path, "generate", causal_model("llama"), answers(), objective="sft", training=fast, adapter=preferred.WIDE
    )
    result = train.train(spec, data.load(spec), tmp_path / "work")
    losses = [line["loss"] for line in result.curves if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert [line for line in result.curves if "eval_loss" in line]


def test_answers_have_what_the_chat_template_writes_around_them(causal_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(causal_model("chat"))
    exchanges = Exchanges(tokenizer, {"system": "be kind"})
    prompts = exchanges.prompt_ids(["the cat", [{"role": "user", "content": "the cat"}]])
    assert tokenizer.decode(prompts[0]) == "<|system|>be kind</s><|user|>the cat</s><|model|>"
    assert tokenizer.decode(prompts[1]) == "<|user|>the cat</s><|model|>"
    # The template writes <|assistant|> before an earlier answer, and <|model|> before the one that is asked for.
    assert tokenizer.decode(exchanges.answer_ids(["sat"])[0]) == "sat</s>"
    assert fitted([1, 2, 3], [[4, 5], [6]], 4) == ([2, 3], [[4, 5], [6]])
    assert fitted([1, 2, 3], [[4, 5, 6, 7, 8]], 4) == ([3], [[4, 5, 6]])


def test_a_prompt_template_of_other_columns_is_refused(causal_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(causal_model("llama"))
    with pytest.raises(ModelError, match=r"options.prompt names text; training rows have the column prompt only"):
        Exchanges(tokenizer, {"prompt": "{text} ->"})
