"""Memory that is too small for the rows at once: half of them, the same losses, from the last checkpoint."""

import json
import os

import pytest
import torch

from jobs.training import child, data, memory, processes, train
from jobs.training.request import Request
from tests.jobs.training import made
from tests.jobs.training.test_processes import curves, prepared, without_dropout

# Python imports it at the start of each process: a memory that is full when a network reads more than MOST rows at
# once, from its AFTER-th batch on.
SITE = """
import os
if "MOST" in os.environ and os.environ.get("RANK", "0") == os.environ["WHERE"]:
    import torch
    forward, calls = torch.nn.Embedding.forward, []
    def limited(self, ids):
        if self.num_embeddings > 100 and ids.ndim == 2:
            calls.append(len(ids))
            if len(ids) > int(os.environ["MOST"]) and len(calls) > int(os.environ["AFTER"]):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, ids)
    torch.nn.Embedding.forward = limited
"""


@pytest.fixture
def small_memory(tmp_path, monkeypatch):
    """Gives new processes a small memory."""

    def make(most, after=0, rank=0):
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
        path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
        for name, value in {"PYTHONPATH": path, "MOST": most, "AFTER": after, "WHERE": rank}.items():
            monkeypatch.setenv(name, str(value))

    return make


def trained(tmp_path, model, **training):
    fast = {"learning_rate": 1e-3, "logging_steps": 1, "max_steps": 30, "per_device_eval_batch_size": 2}
    spec = made.file(tmp_path, "classify", model, made.labelled(90), training=fast | training)
    rows, lines = data.load(spec), []
    return train.train(spec, rows, tmp_path / "work", lines.append), lines


def expected(tmp_path, model, rows):
    training = {"learning_rate": 1e-3, "logging_steps": 1, "max_steps": 30, "per_device_train_batch_size": rows}
    work = prepared(tmp_path / "expected", "classify", model, made.labelled(90), **training)
    child.learn(work, Request.read(work))
    return curves(work)


def check(tmp_path, model, rows):
    whole, found = expected(tmp_path, model, rows), curves(tmp_path / "work")
    assert [each[:2] for each in found] == [each[:2] for each in whole]
    assert [each[2] for each in found] == pytest.approx([each[2] for each in whole], rel=1e-4)


def test_a_full_memory_halves_the_rows_at_once_and_the_losses_stay(tmp_path, models, small_memory):
    model = without_dropout(models / "mlm", tmp_path / "model")
    # 16 rows at once, then 8, then 4: each time 15 steps or more fit.
    small_memory(most=4, after=15)
    result, lines = trained(tmp_path, model, per_device_train_batch_size=16)
    assert result.resumed
    assert result.batch == {"rows_at_once": 4, "accumulated": 4, "processes": 1}
    said = [line["memory"] for line in lines if "memory" in line]
    assert said[0] == "memory was too small: now 8 rows at once, 2 times a step"
    assert said[-1] == "memory was too small: now 4 rows at once, 4 times a step"
    check(tmp_path, model, 16)


@pytest.mark.skipif(processes.cores() < 2, reason="two processes need two cores")
def test_a_full_memory_of_one_process_halves_the_rows_of_all(tmp_path, models, small_memory):
    model = without_dropout(models / "mlm", tmp_path / "model")
    small_memory(most=2, rank=1)
    result, lines = trained(tmp_path, model, per_device_train_batch_size=4, processes=2)
    assert result.batch == {"rows_at_once": 2, "accumulated": 2, "processes": 2}
    assert [line["memory"] for line in lines if "memory" in line] == [
        "memory was too small: now 2 rows at once, 2 times a step"
    ]
    check(tmp_path, model, 8)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_is_too_small_for_one_row_is_one_sentence(tmp_path, models, monkeypatch, error):
    work = prepared(
        tmp_path / "one",
        "classify",
        models / "mlm",
        made.labelled(40),
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        max_steps=2,
    )

    def full(*_):
        raise error

    monkeypatch.setattr(torch.nn.Embedding, "forward", full)
    # What holds for a process of its own would hold for all tests after this one.
    monkeypatch.setattr("jobs.training.lifetime.end_with_parent", lambda: None)
    monkeypatch.setattr("jobs.training.imports.libraries", lambda request: None)
    assert child.main(work) == 1
    found = json.loads((work / "error.json").read_text())
    assert found == {"kind": "run", "message": memory.SENTENCE}
    assert "even one row at a time; choose a smaller base" in found["message"]


def test_another_error_is_not_taken_for_a_full_memory():
    assert not memory.is_too_small(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.is_too_small(ValueError("out of memory of the past"))
