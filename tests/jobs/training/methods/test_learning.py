"""Every method learns on every kind of model that takes it, and a nightly job gives what the trained network says."""

from collections import Counter

import pytest
import torch
from transformers import AutoConfig

from jobs.training import support
from tests.jobs.training.methods.taught import teach

# Of tiny models and few steps, so larger than the defaults, which are for real ones.
RATES = {
    "lora": 1e-2, "qlora": 1e-2, "ia3": 3e-2, "prefix": 3e-2, "prompt": 1e-1, "p-tuning": 1e-2, "full": 2e-3,
}  # fmt: skip
# Where they learn too little in so few steps, or the first steps of the head are too large.
OTHER = {("t5", "prefix"): 1e-1, ("llama", "ia3"): 1e-1, ("distilbert", "prompt"): 3e-2}
# Every method on every architecture. Methods that share their code for a task stand for each other.
CELLS = {
    "classify": {
        "bert": ("lora", "full"), "roberta": ("ia3",), "distilbert": ("prompt",), "llama": ("qlora",), "t5": ("ia3",),
    },
    "ner": {"bert": ("qlora", "prefix", "p-tuning"), "gpt2": ("prompt",)},
    "summarize": {"t5": ("lora", "qlora", "prefix", "prompt", "full"), "bart": ("ia3", "p-tuning")},
    "generate": {"gpt2": ("lora", "qlora", "prompt"), "llama": ("ia3", "prefix", "p-tuning", "full")},
}  # fmt: skip
# Once for each task and architecture: what is drawn says nothing of a method.
DRAWN = [
    ("classify", "roberta", "ia3"), ("classify", "llama", "qlora"), ("classify", "t5", "ia3"),
    ("ner", "bert", "prefix"), ("ner", "gpt2", "prompt"), ("summarize", "t5", "lora"), ("generate", "gpt2", "lora"),
]  # fmt: skip
# Share of rows that are right (of entities: F1) above the base's, at least; and at most where truth was drawn.
GAIN, CHANCE = 0.25, 0.2


def cells(task):
    return [(family, method) for family, methods in CELLS[task].items() for method in methods]


def run(folder, task, base, family, method, shuffled=False):
    rate = OTHER.get((family, method), RATES[method])
    return teach(folder, task, base(family), method, shuffled, training={"learning_rate": rate})


def gain(taught):
    """How much more of the holdout the nightly job gets right with the adapter than without one."""
    if taught.task == "classify":
        # Than the base with its new head, and than the more frequent label for all.
        labels = taught.holdout["label"].to_pylist()
        return taught.correct() - max(taught.before, max(Counter(labels).values()) / len(labels))
    return taught.correct() - (0 if taught.task == "ner" else taught.correct(adapted=False))


def learnt(folder, task, base, family, method):
    taught = run(folder, task, base, family, method)
    first, last = sum(taught.losses[:4]), sum(taught.losses[-4:])
    assert last < 0.75 * first
    assert gain(taught) > GAIN
    return taught


@pytest.mark.parametrize(("family", "method"), cells("classify"))
def test_a_classifier_learns(tmp_path, base, family, method):
    taught = learnt(tmp_path, "classify", base, family, method)
    said = [{each["label"]: each["score"] for each in row} for row in taught.nightly()]
    own = torch.stack(taught.own()).softmax(-1)
    got = torch.tensor([[row[label] for label in taught.setup.labels] for row in said])
    # The base is rounded while qlora trains, and not in the job.
    torch.testing.assert_close(got, own, atol=0.1 if method == "qlora" else 1e-4, rtol=0)


@pytest.mark.parametrize(("family", "method"), cells("ner"))
def test_a_recogniser_of_entities_learns(tmp_path, base, family, method):
    taught = learnt(tmp_path, "ner", base, family, method)
    agrees(taught.spans(), taught.tagged(), method)


@pytest.mark.parametrize(("family", "method"), cells("summarize"))
def test_an_encoder_decoder_learns(tmp_path, base, family, method):
    taught = learnt(tmp_path, "summarize", base, family, method)
    agrees(taught.nightly(), taught.own(), method)


@pytest.mark.parametrize(("family", "method"), cells("generate"))
def test_a_causal_model_learns(tmp_path, base, family, method):
    taught = learnt(tmp_path, "generate", base, family, method)
    agrees(taught.nightly(), taught.own(), method)


@pytest.mark.parametrize(("task", "family", "method"), DRAWN)
def test_nothing_is_learnt_from_drawn_truth(tmp_path, base, task, family, method):
    assert gain(run(tmp_path, task, base, family, method, shuffled=True)) < CHANCE


def test_every_method_is_tried_on_every_architecture_that_takes_it(base):
    tried = {
        (method, support.architecture(AutoConfig.from_pretrained(base(family))))
        for families in CELLS.values()
        for family, methods in families.items()
        for method in methods
    }
    assert tried == {
        (method, architecture)
        for method in support.METHODS
        for task, architectures in support.OF_TASK.items()
        for architecture in architectures
        if support.refusal(method, "supervised", task, architecture) is None
    }


def agrees(nightly, own, method):
    """The job says what the trained network says of each row alone; mostly, where its base was rounded for training."""
    nightly, own = list(nightly), list(own)
    if method != "qlora":
        assert nightly == own
    elif isinstance(own[0], set):
        # By entity: the rounding flips some of them, and a text has several.
        same = sum(len(a & b) for a, b in zip(nightly, own, strict=True))
        assert same >= 0.75 * max(sum(map(len, nightly)), sum(map(len, own)))
    else:
        assert sum(a == b for a, b in zip(nightly, own, strict=True)) >= 0.85 * len(own)
