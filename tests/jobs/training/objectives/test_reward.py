"""A reward model is trained on preferences, and a nightly job gives its scores."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from jobs.registry import Registry
from jobs.retraining import round as rounds
from jobs.retraining import scores
from jobs.training import data, loop, reward, train
from jobs.training.request import Request
from jobs.training.scored_text import scored_text
from tests import lake
from tests.jobs.training import made
from tests.jobs.training.objectives import preferred
from transforms.errors import SpecError

WIDE = {"r": 8, "target_modules": "all-linear"}


def file(tmp_path, base, rows, **more):
    return made.file(
        tmp_path, "classify", base, rows, **{"objective": "reward", "training": preferred.FAST, "adapter": WIDE} | more
    )


def nightly(folder, texts, base, adapter):
    """The scores that a job writes for a text column."""
    (folder / "in").mkdir(parents=True)
    pq.write_table(pa.table({"id": [f"{i:04}" for i in range(len(texts))], "text": texts}), folder / "in" / "a.parquet")
    task = {"task": "classify", "column": "text", "model": str(base), "into": "reward", "dtype": "float32"}
    lake.execute(
        {
            "name": "night",
            "source": {"path": str(folder / "in")},
            "tasks": [task | ({} if adapter is None else {"adapter": str(adapter)})],
            "sink": {"path": str(folder / "out")},
        }
    )
    found = lake.read(folder / "out").sort_by("id")["reward"].to_pylist()
    assert {each["label"] for each in found} == {"reward"}
    return [each["score"] for each in found]


def of_trainer(work, rows, base):
    """The rewards that the trainer itself computes with the weights of the result."""
    request = Request.read(work)
    setup = reward.build(request)
    from peft import PeftModel

    network = PeftModel.from_pretrained(setup.network, work / "result")
    examples = setup.encode(rows)
    trainer = loop.trainer(request, setup, network, work, examples, [])
    batch = trainer.data_collator(examples)
    network.eval()
    with torch.inference_mode():
        return network(**batch).logits.squeeze(-1).chunk(2)


def of_letters(n=160):
    """Pairs for an encoder whose tokens are letters: all words of an answer tell whether it is preferred."""
    texts, rows = made.labelled(2 * n)["text"].to_pylist(), preferred.prompts(n)
    return pa.table({"prompt": rows, "chosen": [f" {text}" for text in texts[::2]], "rejected": texts[1::2]})


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("family", ["llama", "chat", "mlm"])
def test_a_job_gives_the_reward_of_the_training(tmp_path, causal_model, models, family):
    base = models / "mlm" if family == "mlm" else causal_model(family)
    rows = preferred.talks(preferred.pairs()) if family == "chat" else preferred.pairs()
    if family == "mlm":
        rows = of_letters()
    slow = {"num_train_epochs": 6, "learning_rate": 5e-3} if family == "mlm" else {}
    wide = WIDE | ({"r": 16, "lora_alpha": 32} if family == "mlm" else {})
    spec = file(tmp_path, base, rows, training=preferred.FAST | slow, adapter=wide)
    loaded = data.load(spec)
    result = train.train(spec, loaded, tmp_path / "work")
    losses = [line["loss"] for line in result.curves if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    scored = scores.score(spec, result.folder, Registry(spec.registry), loaded)
    assert scored.measured.value > 0.9
    assert scored.measured.others["margin"] > 1
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = [
        scored_text(tokenizer, row["prompt"], row[name])
        for name in ("chosen", "rejected")
        for row in loaded.holdout.to_pylist()
    ]
    found = np.array(nightly(tmp_path / "night", texts, base, result.folder))
    assert found == pytest.approx(torch.cat(of_trainer(tmp_path / "work", loaded.holdout, base)).numpy(), abs=1e-3)
    config = json.loads((result.folder / "config.json").read_text())
    assert (config["id2label"], config["problem_type"]) == ({"0": "reward"}, "regression")


@pytest.mark.usefixtures("in_process")
def test_a_round_promotes_a_reward_model_and_not_a_shuffled_one(tmp_path, causal_model):
    rows = preferred.pairs()
    spec = file(tmp_path, causal_model("llama"), rows)
    first = rounds.run(spec)
    assert (first.decision, first.metric, first.value > 0.9) == ("promoted", "preference_accuracy", True)
    held = set(data.load(spec).holdout["prompt"].to_pylist())
    wrong = zip(rows.to_pylist(), preferred.pairs(swapped=True).to_pylist(), strict=True)
    mixed = [one if one["prompt"] in held else one | other for one, other in wrong]
    pq.write_table(pa.Table.from_pylist(mixed), tmp_path / "rows.parquet")
    second = rounds.run(spec)
    assert second.decision in ("refused", "waiting")
    assert second.value < 0.75
    assert Registry(spec.registry).champion().version == first.version


@pytest.mark.usefixtures("in_process")
def test_a_reward_model_of_all_weights_is_a_whole_model(tmp_path, causal_model):
    fast = preferred.FAST | {"learning_rate": 1e-3}
    spec = file(tmp_path, causal_model("llama"), preferred.pairs(), method="full", adapter={}, training=fast)
    loaded = data.load(spec)
    result = train.train(spec, loaded, tmp_path / "work")
    scored = scores.score(spec, result.folder, Registry(spec.registry), loaded)
    assert scored.measured.value > 0.9


def test_two_texts_without_a_prompt_are_a_preference_too(tmp_path):
    rows = [{"chosen": row["chosen"], "rejected": row["rejected"]} for row in preferred.pairs(80).to_pylist()]
    loaded = data.load(file(tmp_path, "base", pa.Table.from_pylist(rows)))
    assert loaded.without_text == 0
    assert {row["prompt"] + row["chosen"] for row in loaded.train.to_pylist()} <= {row["chosen"] for row in rows}


def test_a_reward_model_has_one_output_and_pairs(tmp_path, models):
    with pytest.raises(SpecError, match=r"column 'chosen' \(data.chosen\) is not in data.train"):
        data.load(file(tmp_path, models / "mlm", made.labelled(40)))
    with pytest.raises(SpecError, match=r"gate.metric is .macro_f1., which cannot be computed for objective reward"):
        file(tmp_path, models / "mlm", preferred.pairs(24), gate={"metric": "macro_f1"})


def test_conversations_are_scored_as_the_chat_template_writes_them(causal_model):
    tokenizer = AutoTokenizer.from_pretrained(causal_model("chat"))
    turns = [{"role": "user", "content": "the cat"}], [{"role": "assistant", "content": "sat"}]
    assert scored_text(tokenizer, *turns) == "<|user|>the cat</s><|assistant|>sat</s>"
    assert scored_text(None, "the cat", " sat") == "the cat sat"
    tokenizer.chat_template = "<s>" + tokenizer.chat_template
    assert tokenizer(scored_text(tokenizer, *turns))["input_ids"].count(tokenizer.bos_token_id) == 1
