"""Policies: a rewarded property grows on held-out prompts, the language stays, and noise teaches nothing."""

import shutil
import signal

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file
from transformers import T5Config

from jobs.evaluation import rewards as scored
from jobs.gate.spec import GateSpec
from jobs.registry import Registry
from jobs.retraining import challengers, scores
from jobs.retraining import round as rounds
from jobs.training import data, policy, rewards, train
from jobs.training.sections import RewardSpec
from tests import tiny_talker
from tests.jobs.training import made
from tests.jobs.training.test_train import children, contents, nightly, started, wait_for
from transforms.errors import ModelError, NightscribeError, SpecError

HERE = "tests.jobs.training.objectives.my_rewards"
FAST = {"learning_rate": 1e-2, "max_steps": 32, "use_cpu": True}


pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_talker.save(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def asked():
    return pa.table({"prompt": tiny_talker.prompts(160)})


def file(folder, base, rows, function="short", objective="rloo", **more):
    content = {
        "objective": objective,
        "training": FAST,
        "options": {"max_new_tokens": tiny_talker.LONGEST},
        "reward": {"functions": [f"{HERE}:{function}"]},
        "gate": GateSpec().model_dump(),
    }
    return made.file(folder, "generate", base, rows, **content | more)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory, base, asked):
    """A policy that short answers were rewarded for, and one that learnt from noise, in registries of their own."""
    folder = tmp_path_factory.mktemp("policies")
    found = {}
    for function in ("short", "noise"):
        spec = file(folder / function, base, asked, function)
        rows = data.load(spec)
        with made.in_this_process():
            found[function] = (spec, rows, train.train(spec, rows, folder / function / "work"))
    return found


def measured(learnt, name, asked_for="short"):
    """What the policy of one reward is worth by another."""
    spec, rows, result = learnt[name]
    spec = learnt[asked_for][0]
    return scores.score(spec, result.folder, Registry(spec.registry), rows)


def test_a_reward_for_short_answers_shortens_them_and_the_language_stays(learnt):
    short, noise = measured(learnt, "short"), measured(learnt, "noise")
    untrained = scores.score(learnt["short"][0], None, Registry(learnt["short"][0].registry), learnt["short"][1])
    assert untrained.metrics["win_rate"] == 0.5
    assert untrained.metrics["kl"] == 0.0
    assert short.metrics["win_rate"] > 0.95
    assert short.metrics["length"] < 0.4 * untrained.metrics["length"]
    # No empty answers: the base finds the short ones as good as its own.
    assert short.metrics["length"] > 10
    assert short.metrics["perplexity"] < 1.5 * untrained.metrics["perplexity"]
    assert 0.0 < short.metrics["kl"] < 0.8
    # The same training with rewards that say nothing.
    assert noise.metrics["win_rate"] < 0.75
    assert noise.metrics["length"] > 0.7 * untrained.metrics["length"]


def test_the_reward_rises_and_the_divergence_stays_near_its_limit(learnt):
    _, _, result = learnt["short"]
    rewarded = [point["reward"] for point in result.curves]
    assert np.mean(rewarded[-8:]) > np.mean(rewarded[:4]) + 8
    assert all("loss" not in point for point in result.curves)
    assert np.mean([point["kl"] for point in result.curves[-8:]]) < 0.9


def weakened(folder, target, share=0.1):
    """The adapter with a part of its effect."""
    shutil.copytree(folder, target)
    weights = load_file(target / "adapter_model.safetensors")
    weaker = {name: value * share if "lora_B" in name else value for name, value in weights.items()}
    save_file(weaker, target / "adapter_model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("challenger", ["short", "noise"])
def test_the_gate_promotes_a_policy_with_higher_rewards_and_not_one_that_learnt_from_noise(
    challenger, learnt, tmp_path
):
    spec, rows, _ = learnt["short"]
    registry = Registry(str(tmp_path / "registry"))
    folders = [weakened(learnt["short"][2].folder, tmp_path / "weakened"), learnt[challenger][2].folder]
    outcomes = []
    for seed, folder in enumerate(folders):
        # The round finds a version of its file, and only measures and decides.
        own = spec.model_copy(update={"registry": registry.url, "training": FAST | {"seed": seed}})
        scored_so = scores.score(own, folder, registry, rows)
        registry.add(folder, challengers.about(own, rows, scored_so))
        outcomes.append(rounds.run(own))
    first, second = outcomes
    assert (first.decision, first.metric) == ("promoted", "win_rate")
    if challenger == "short":
        assert second.decision == "promoted"
        assert second.gain > 0.9
    else:
        assert second.decision in ("refused", "waiting")
        assert registry.champion().version == first.version


def test_a_policy_answers_in_a_nightly_job_as_in_its_evaluation(learnt, base, tmp_path):
    spec, rows, result = learnt["short"]
    prompts = rows.holdout.select(["prompt"])
    task = {"task": "generate", "column": "prompt", "model": str(base), "adapter": str(result.folder), **spec.options}
    answers = scored.answers(
        str(base), str(result.folder), prompts, rewards.Scorer(rewards.pin(spec.reward)), spec.options
    )
    assert nightly(tmp_path, prompts, task) == answers.predictions.values.to_pylist()


def test_a_killed_policy_training_goes_on_and_gives_the_same_bytes(base, asked, tmp_path):
    # The divergence is limited by a penalty that changes with every step: it goes on where it was.
    spec = file(tmp_path, base, asked, training=FAST | {"max_steps": 8, "save_steps": 3, "logging_steps": 1})
    rows = data.load(spec)
    folder = tmp_path / "killed"
    thread, errors = started(spec, rows, folder)
    wait_for(lambda: list(folder.glob("checkpoints/checkpoint-*/complete")), timeout=200)
    children(folder)[0].send_signal(signal.SIGKILL)
    thread.join()
    assert "was ended by SIGKILL" in str(errors[0])
    again = train.train(spec, rows, folder)
    assert again.resumed
    whole = train.train(spec, rows, tmp_path / "whole")
    assert again.curves == whole.curves
    assert contents(again.folder) == contents(whole.folder)


@pytest.mark.usefixtures("in_process")
def test_grpo_trains_all_weights_by_several_rewards_with_weights(base, asked, tmp_path):
    functions = [f"{HERE}:short", f"{HERE}:noise"]
    spec = file(
        tmp_path,
        base,
        asked,
        objective="grpo",
        method="full",
        training=FAST | {"learning_rate": 1e-3, "max_steps": 24},
        reward={"functions": functions, "weights": [1.0, 0.1]},
    )
    rows = data.load(spec)
    result = train.train(spec, rows, tmp_path / "work")
    rewarded = [point["reward"] for point in result.curves]
    assert np.mean(rewarded[-5:]) > np.mean(rewarded[:3]) + 6
    found = scores.score(spec, result.folder, Registry(spec.registry), rows)
    assert found.metrics["win_rate"] > 0.9
    assert found.metrics["length"] > 8
    assert found.metrics["perplexity"] < 6.0


def test_numbers_of_answers_and_batches_fit_without_being_known():
    assert policy.sizes("rloo", {}, 100) == {"num_generations": 4}
    assert policy.sizes("grpo", {}, 100) == {"num_generations": 8}
    assert policy.sizes("grpo", {"per_device_train_batch_size": 6}, 100) == {"num_generations": 6}
    assert policy.sizes("rloo", {"per_device_train_batch_size": 7}, 100) == {"num_generations": 7}
    fitted = policy.sizes("rloo", {"num_generations": 4, "per_device_train_batch_size": 6}, 100)
    assert fitted == {"num_generations": 4, "gradient_accumulation_steps": 2}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_generations": 1}, "num_generations is 1.*give 2 or more"),
        (
            {"num_generations": 4, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2},
            r"a step has 6 answers \(per_device_train_batch_size x gradient_accumulation_steps\).*no multiple of "
            r"num_generations \(4\).*such as 3",
        ),
        ({"per_device_train_batch_size": 1}, "per_device_train_batch_size is 1.*give 2 or more"),
        ({"per_device_train_batch_size": 512}, "100 training prompts, and one step needs 128"),
    ],
)
def test_numbers_that_do_not_fit_are_one_sentence(given, said):
    with pytest.raises(SpecError, match=said):
        policy.sizes("rloo", given, 100)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (f"{HERE}:missing", "cannot be imported: module .* has no 'missing'"),
        ("no_such_module:short", "cannot be imported: No module named 'no_such_module'; the module must be in the"),
        (f"{HERE}:NUMBER", "is a int, not a function"),
        (f"{HERE}:no_arguments", "does not take completions"),
        (f"{HERE}:too_few", "returned 1 values for 2 completions; it must return a list"),
        (f"{HERE}:texts", "returned 'a' .str. in the list"),
        (f"{HERE}:not_numbers", "returned nan"),
        (f"{HERE}:fails", "failed: ZeroDivisionError: division by zero .*my_rewards.py, line"),
    ],
)
def test_a_wrong_reward_function_is_one_sentence(function, said):
    with pytest.raises(NightscribeError, match=said):
        rewards.Scorer(rewards.pin(RewardSpec(functions=[function])))(["p", "q"], ["a", "b"], {})


def test_a_reward_function_gets_the_columns_that_it_names():
    scorer = rewards.Scorer(rewards.pin(RewardSpec(functions=[f"{HERE}:likes_reference"], weights=[2.0])))
    assert scorer(["p", "q"], ["a", "b"], {"reference": ["a", "c"], "other": [1, 2]}) == [2.0, 0.0]
    rows = pa.table({"prompt": ["p"], "completion": ["a"], "topic": ["x"], "key": ["0"]})
    assert rewards.examples(rows) == [{"prompt": "p", "topic": "x", "reference": "a"}]


def test_rewards_that_cannot_be_used_are_refused_before_weights_load(tmp_path, models):
    with pytest.raises(ModelError, match=r"has 3 labels \(negative, neutral, positive\), and a reward model has one"):
        rewards.pin(RewardSpec(model=str(models / "sentiment")))
    with pytest.raises(ModelError, match="a reward needs a model with a head"):
        rewards.pin(RewardSpec(model=str(models / "mlm")))
    with pytest.raises(SpecError, match="neither a model nor functions"):
        rewards.pin(RewardSpec())
    with pytest.raises(SpecError, match=r"reward\.weights has 2 numbers, and there are 1 rewards"):
        rewards.pin(RewardSpec(functions=[f"{HERE}:short"], weights=[1.0, 1.0]))


@pytest.mark.parametrize("objective", ["rloo", "grpo"])
def test_bases_and_prompts_that_do_not_fit_are_refused_before_weights_load(objective, base, asked, models, tmp_path):
    def refused(said, model=base, rows=asked, **more):
        spec = file(tmp_path, model, rows, objective=objective, **more)
        with pytest.raises(NightscribeError, match=said):
            train.request_of(spec, data.load(spec))

    refused("needs a causal model, and the base is an encoder one", models / "mlm")
    T5Config().save_pretrained(tmp_path / "t5")
    refused("needs a causal model, and the base is an encoder-decoder one", tmp_path / "t5")
    talk = pa.table({"prompt": [[{"role": "user", "content": text}] for text in asked["prompt"].to_pylist()]})
    refused("chat template", rows=talk)
    long = pa.table({"prompt": [text * 20 for text in asked["prompt"].to_pylist()[:40]]})
    refused("data.train.where, or set options.long_text: truncate", rows=long, options={"max_new_tokens": 8})
