"""Reward models, policies and students are trained with every method of the table, and measured as a job loads them."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from jobs.registry import Registry
from jobs.retraining import scores
from jobs.training import data, support, train
from tests import tiny_talker
from tests.jobs.training import made
from tests.jobs.training.methods import bases
from tests.jobs.training.objectives import preferred
from tests.jobs.training.objectives.test_policy import HERE

# Of tiny models, so the steps are larger than the defaults for real ones.
RATES = {"lora": 1e-2, "qlora": 1e-2, "ia3": 1e-1, "prefix": 5e-2, "prompt": 1e-1, "p-tuning": 2e-2, "full": 3e-3}


def settings(method, **more):
    adapter = {"r": 8, "target_modules": "all-linear"} if method in ("lora", "qlora") else {}
    virtual = {"num_virtual_tokens": 8} if method in ("prefix", "prompt", "p-tuning") else {}
    training = preferred.FAST | {"learning_rate": RATES[method]} | more
    return {"method": method, "adapter": adapter | virtual, "training": training}


def trained(folder, task, base, rows, **more):
    """The file, its rows, and the result of the training."""
    spec = made.file(folder, task, base, rows, **more)
    loaded = data.load(spec)
    return spec, loaded, train.train(spec, loaded, folder / "work")


def losses_of(result):
    return [line["loss"] for line in result.curves if "loss" in line]


def about(topic, n=160, seed=4):
    """Texts whose words are mostly those of a topic that the encoder knows."""
    rng = random.Random(seed + topic)
    return [" ".join(bases.about(rng, topic)) for _ in range(n)]


@pytest.fixture(scope="module")
def topical(tmp_path_factory):
    """An encoder that knows which words stand together."""
    return bases.encoder(tmp_path_factory.mktemp("topical"), "bert")


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """A causal model that says sentences of many lengths."""
    return tiny_talker.save(tmp_path_factory.mktemp("talker"))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("family", "architecture"), [("llama", "causal"), ("bert", "encoder")])
@pytest.mark.parametrize("method", support.METHODS)
def test_a_reward_model_learns(tmp_path, causal_model, topical, family, architecture, method):
    if support.refusal(method, "reward", "classify", architecture) is not None:
        return
    base, rows = causal_model("llama"), preferred.pairs(160)
    if family == "bert":
        base, rows = topical, pa.table({"chosen": about(0), "rejected": about(1)})
    more = settings(method, num_train_epochs=4)
    spec, loaded, result = trained(tmp_path, "classify", base, rows, objective="reward", **more)
    losses = losses_of(result)
    own = scores.score(spec, result.folder, Registry(spec.registry), loaded)
    assert np.mean(losses[-4:]) < 0.8 * losses[0]
    # A model without a reward, or one of shuffled pairs, is right about half of them.
    assert own.measured.value > 0.85


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("objective", ["rloo", "grpo"])
@pytest.mark.parametrize("method", support.METHODS)
def test_a_policy_earns_more_than_its_base(tmp_path, talker, objective, method):
    # Virtual tokens of prompt tuning begin at random, and first have to lose what they do to the answers.
    rate, steps = {"prompt": (5e-2, 30), "full": (1e-3, 12)}.get(method, (RATES[method], 12))
    more = settings(method) | {
        "training": {"learning_rate": rate, "max_steps": steps, "use_cpu": True},
        "options": {"max_new_tokens": tiny_talker.LONGEST},
        "reward": {"functions": [f"{HERE}:short"]},
    }
    asked = pa.table({"prompt": tiny_talker.prompts(120)})
    spec, loaded, result = trained(tmp_path, "generate", talker, asked, objective=objective, **more)
    own = scores.score(spec, result.folder, Registry(spec.registry), loaded)
    rewards = [line["reward"] for line in result.curves]
    assert rewards[-1] > rewards[0]
    assert own.metrics["win_rate"] > 0.8
    assert own.metrics["reward"] > own.metrics["base_reward"]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("method", support.METHODS)
def test_a_student_agrees_with_its_teacher(tmp_path, topical, method):
    teacher_rows = pa.table({"text": about(0) + about(1), "label": ["one"] * 160 + ["two"] * 160})
    teacher = settings("full", num_train_epochs=1)
    _, _, taught = trained(tmp_path / "teacher", "classify", topical, teacher_rows, **teacher)
    lake = pa.table({"text": about(0, 80, seed=7) + about(1, 80, seed=7)})
    more = settings(method, num_train_epochs=3) | {"teacher": {"model": str(taught.folder)}}
    spec, loaded, result = trained(tmp_path / "student", "classify", topical, lake, objective="distill", **more)
    own = scores.score(spec, result.folder, Registry(spec.registry), loaded)
    losses = losses_of(result)
    assert np.mean(losses[-4:]) < 0.9 * losses[0]
    assert own.metrics["accuracy"] > 0.8
