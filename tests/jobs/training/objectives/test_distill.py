"""Distillation: a smaller student learns what its teacher gives for rows without labels."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.retraining import round as rounds
from jobs.training import data, distill, soft_targets, spec, train
from tests import tiny
from tests.jobs.training import made
from transforms.errors import ModelError, SpecError

FULL = {
    "per_device_train_batch_size": 16,
    "learning_rate": 2e-3,
    "num_train_epochs": 4,
    "lr_scheduler_type": "constant",
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A classifier that has learnt which words belong to which label."""
    folder = tmp_path_factory.mktemp("teacher")
    base = tiny.bert(folder / "base", "classify", ["good", "bad"], initializer_range=0.05)
    read = made.file(folder, "classify", base, made.labelled(240), method="full", training=FULL)
    with made.in_this_process():
        return train.train(read, data.load(read), folder / "work").folder


def file(folder, teacher, rows, name="students", **more):
    folder.mkdir(exist_ok=True)
    pq.write_table(rows, folder / "lake.parquet")
    student = tiny.bert(folder / "student", "classify", ["a", "b"], seed=5, num_hidden_layers=1, initializer_range=0.05)
    content = {
        "name": name,
        "task": "classify",
        "objective": "distill",
        "method": "full",
        "base": {"model": str(student)},
        "teacher": teacher if isinstance(teacher, dict) else {"model": str(teacher)},
        "data": {"train": {"path": str(folder / "lake.parquet")}, "holdout": {"fraction": 0.3}},
        "training": FULL,
        "registry": str(folder / "registry"),
    }
    return spec.parse(content | more)


def unlabelled(n=420):
    return made.labelled(n, seed=3).select(["text"])


@pytest.mark.usefixtures("in_process")
def test_a_student_of_one_layer_agrees_with_its_teacher_and_is_promoted(tmp_path, teacher):
    read = file(tmp_path, teacher, unlabelled())
    outcome = rounds.run(read)
    assert (outcome.decision, outcome.approved) == ("promoted", True)
    assert "its agreement with the teacher is at least 0.9" in outcome.reason
    assert outcome.value > 0.95
    losses = [point["loss"] for point in outcome.curves if "loss" in point]
    assert losses[-1] < 0.5 * losses[0]
    # Agreement is measured against what the teacher gives, so the same file asks for more and gets a refusal.
    stricter = file(tmp_path, teacher, unlabelled(), registry=str(tmp_path / "strict"), gate={"min_agreement": 1.0})
    assert rounds.run(stricter).decision == "refused"


@pytest.mark.usefixtures("in_process")
def test_the_champion_of_a_registry_teaches_and_is_replaced_only_by_a_student_that_agrees(tmp_path):
    base = tiny.bert(tmp_path / "base", "classify", ["good", "bad"], initializer_range=0.05)
    adapter = {"r": 8, "target_modules": "all-linear"}
    large = made.file(
        tmp_path / "large",
        "classify",
        base,
        made.labelled(240),
        training=FULL | {"learning_rate": 1e-2},
        adapter=adapter,
    )
    taught = rounds.run(large)
    assert taught.value > 0.9
    champion = taught.version
    gate = {"min_agreement": 0.8}
    # Students in a registry of their own, of the champion of another one.
    named = {"model": str(base), "adapter": f"{large.registry}@champion"}
    own = rounds.run(file(tmp_path / "own", named, unlabelled(), gate=gate))
    assert (own.decision, own.champion_before) == ("promoted", None), own.reason
    # A student takes the place of its teacher, which no student can beat at agreeing with itself; the registry wants
    # the rows on which its champion was measured.
    named["adapter"] = f"{large.registry}@{champion}"
    held = pa.concat_tables([data.load(large).holdout.select(["text"]), made.labelled(120, seed=9).select(["text"])])
    pq.write_table(held, tmp_path / "held.parquet")
    places = {
        "train": {"path": str(tmp_path / "own" / "lake.parquet")},
        "holdout": {"path": str(tmp_path / "held.parquet")},
    }
    more = {"registry": large.registry, "gate": gate, "data": places}
    same = rounds.run(file(tmp_path / "same", named, unlabelled(), **more))
    assert (same.decision, same.approved, same.champion_before) == ("promoted", True, champion), same.reason
    assert "agreement with the teacher" in same.reason


@pytest.mark.usefixtures("in_process")
def test_a_student_that_has_learnt_shuffled_answers_is_refused(tmp_path, teacher, monkeypatch):
    answered = distill.answered

    def shuffled(read, table):
        found = answered(read, table)
        order = list(range(len(found)))
        random.Random(1).shuffle(order)
        other = found.take(pa.array(order))
        for name in ("label", soft_targets.SCORES):
            found = found.set_column(found.schema.get_field_index(name), name, other[name])
        return found

    monkeypatch.setattr(distill, "answered", shuffled)
    outcome = rounds.run(file(tmp_path, teacher, unlabelled()))
    assert outcome.decision == "refused"
    assert outcome.value < 0.75
    assert "agreement with the teacher" in outcome.reason


def test_rows_get_the_labels_and_the_probabilities_of_the_teacher(tmp_path, teacher):
    rows = data.load(file(tmp_path, teacher, pa.concat_tables([unlabelled(60), pa.table({"text": ["", None]})])))
    targets = soft_targets.of(rows.train, ["bad", "good"])
    assert np.allclose(targets.sum(axis=1), 1.0, atol=1e-5)
    assert [["bad", "good"][i] for i in targets.argmax(axis=1)] == rows.train["label"].to_pylist()
    assert rows.without_text == 2


def test_the_loss_is_least_where_the_student_has_the_probabilities_of_the_teacher():
    import torch

    targets = torch.tensor([[0.2, 0.8], [0.6, 0.4]])
    equal = soft_targets.cross_entropy({"logits": targets.log()}, targets)
    entropy = -(targets * targets.log()).sum(-1).mean()
    assert torch.isclose(equal, entropy)
    assert soft_targets.cross_entropy({"logits": targets.log() + torch.tensor([0.3, 0.0])}, targets) > equal


def test_mistakes_about_the_teacher_are_one_sentence(tmp_path, teacher):
    with pytest.raises(SpecError, match="a promoted student would be its own teacher"):
        file(tmp_path, f"{tmp_path / 'registry'}@champion", unlabelled(40))
    with pytest.raises(SpecError, match="min_agreement is 2; input should be less than or equal to 1"):
        file(tmp_path, teacher, unlabelled(40), gate={"min_agreement": 2})
    tagger = tiny.bert(tmp_path / "tagger", "ner", ["O", "B-PER"])
    with pytest.raises(ModelError, match="classify needs a model with a head"):
        data.load(file(tmp_path, tagger, unlabelled(40)))
