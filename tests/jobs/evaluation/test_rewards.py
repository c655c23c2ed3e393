"""Answers scored by a reward: wins, rewards, and the distance from the base, checked against plain transformers."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2ForSequenceClassification

from jobs.evaluation import evaluate as evaluations
from jobs.evaluation import metrics, rewards
from jobs.training.rewards import Reward, Scorer, pin
from jobs.training.sections import RewardSpec
from tests import tiny_talker
from transforms.errors import SpecError

SHORT = RewardSpec(functions=["tests.jobs.training.objectives.my_rewards:short"])
OPTIONS = {"max_new_tokens": tiny_talker.LONGEST, "dtype": "float32"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_talker.save(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def moved(base, tmp_path_factory):
    """An adapter over the base with small weights of chance."""
    folder = tmp_path_factory.mktemp("moved")
    torch.manual_seed(0)
    network = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", r=4))
    for name, weight in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.6)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows():
    asked = tiny_talker.prompts(24, seed=5)
    topic = ["a" if i % 3 else "b" for i in range(24)]
    return pa.table({"prompt": asked, "completion": [" it eats bread"] * 24, "topic": topic, "key": asked})


@pytest.fixture(scope="module")
def both(base, moved, rows):
    scorer = Scorer(pin(SHORT))
    return tuple(rewards.answers(str(base), adapter, rows, scorer, OPTIONS) for adapter in (None, str(moved)))


def log_probability(network, tokenizer, prompt, answer):
    """Sum over the tokens of an answer and its end token, and their number."""
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
    after = [*after, tokenizer.eos_token_id]
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
    return float(torch.log_softmax(logits, -1)[range(len(after)), after].sum()), len(after)


def test_distance_and_perplexity_are_those_of_transformers(base, moved, rows, both):
    scored = rewards.evaluate(both[1], both[0], rows, slices=["topic"])
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    from peft import PeftModel

    over = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), moved).eval()
    written = both[1].predictions.values.to_pylist()
    pairs = list(zip(rows["prompt"].to_pylist(), written, strict=True))
    own, their = (np.array([log_probability(network, tokenizer, *pair) for pair in pairs]) for network in (over, plain))
    assert scored.metrics["kl"] == pytest.approx((own[:, 0] - their[:, 0]).sum() / own[:, 1].sum(), abs=1e-4)
    assert scored.metrics["perplexity"] == pytest.approx(np.exp(-their[:, 0].sum() / their[:, 1].sum()), rel=1e-4)
    true = np.array([log_probability(over, tokenizer, p, " it eats bread") for p in rows["prompt"].to_pylist()])
    assert scored.metrics["perplexity_of_truth"] == pytest.approx(
        np.exp(-true[:, 0].sum() / true[:, 1].sum()), rel=1e-4
    )
    assert scored.metrics["length"] == np.mean([len(text) for text in written])
    assert abs(scored.metrics["kl"]) > 0.01
    # The slices are means over their rows.
    sliced = scored.metrics_by_slice
    assert (8 * sliced["topic=b"]["win_rate"] + 16 * sliced["topic=a"]["win_rate"]) / 24 == pytest.approx(
        scored.metrics["win_rate"]
    )


def test_wins_are_signs_of_reward_differences_and_equal_rewards_count_half(rows, both):
    base, other = both
    itself = rewards.evaluate(base, base, rows)
    assert (itself.metrics["win_rate"], itself.metrics["kl"]) == (0.5, 0.0)
    scored = rewards.evaluate(other, base, rows)
    one, two = (np.array([-len(text) for text in each.predictions.values.to_pylist()]) for each in both)
    assert scored.metrics["win_rate"] == pytest.approx(np.mean((np.sign(two - one) + 1) / 2))
    assert scored.metrics["reward"] == pytest.approx(two.mean())
    compared = evaluations.compare("generate", rows, itself, scored, ["topic"])
    assert compared.differences.tolist() == np.sign(two - one).tolist()
    assert compared.gain.value == pytest.approx(np.sign(two - one).mean())
    assert set(compared.slices) == {"topic=a", "topic=b"}


def test_a_missing_answer_loses_against_every_other(rows):
    assert metrics.signs(np.array([np.nan, 1.0, np.nan]), np.array([-1e9, np.nan, np.nan])).tolist() == [1.0, -1.0, 0.0]


def test_an_empty_answer_counts_with_its_end_token(base, rows, both):
    """Answers without text, to which a reward for short ones can lead, must not look fluent."""
    empty = pa.array([""] * len(rows), pa.string())
    silent = rewards.Answers(both[0].prepared, rewards.replace(both[0].predictions, values=empty), np.zeros(len(rows)))
    assert rewards.evaluate(silent, both[0], rows).metrics["perplexity"] > 100


def test_other_metrics_are_refused_in_one_sentence():
    with pytest.raises(SpecError, match=r"'rouge1', which is not computed from rewards; choices: win_rate"):
        rewards.check_metric("rouge1")
    assert rewards.check_metric(None) == "win_rate"


@pytest.mark.parametrize("kind", ["model", "adapter"])
def test_a_reward_model_gives_its_output_for_the_prompt_with_its_answer(kind, base, tmp_path):
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = GPT2Config.from_pretrained(base, num_labels=1, initializer_range=0.3)
    network = GPT2ForSequenceClassification(config).eval()
    if kind == "model":
        network.save_pretrained(tmp_path / "reward")
        tokenizer.save_pretrained(tmp_path / "reward")
        reward = pin(RewardSpec(model=str(tmp_path / "reward")))
    else:
        network = GPT2ForSequenceClassification.from_pretrained(base, num_labels=1)
        network = get_peft_model(network, LoraConfig(task_type="SEQ_CLS", r=4, init_lora_weights=False)).eval()
        network.save_pretrained(tmp_path / "reward")
        with pytest.raises(SpecError, match=r"is an adapter; write its base as reward\.base"):
            pin(RewardSpec(model=str(tmp_path / "reward")))
        reward = pin(RewardSpec(model=str(tmp_path / "reward"), base=str(base)))
    assert isinstance(reward, Reward)
    prompts, texts = tiny_talker.prompts(6), [" it eats bread", " it sees rain and likes soup", "", " it", " a", " b"]
    found = Scorer(reward)(prompts, texts, {})
    with torch.inference_mode():
        true = [
            float(network(input_ids=torch.tensor([tokenizer(p + t)["input_ids"]])).logits[0, 0])
            for p, t in zip(prompts, texts, strict=True)
        ]
    assert found == pytest.approx(true, abs=1e-4)
    # Not squeezed into 0 to 1, as a job would show the probability of a single label.
    assert min(true) < 0 or max(true) > 1
