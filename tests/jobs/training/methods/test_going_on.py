"""A training goes on from a checkpoint, or from the adapter of another training, with the weights that it had."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs.training.methods.taught import teach
from transforms.errors import ModelError


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


CASES = [("p-tuning", {}), ("prefix", {"prefix_projection": True}), ("qlora", {})]


@pytest.mark.parametrize(("method", "adapter"), CASES)
def test_a_continued_training_ends_as_one_that_was_not_stopped(tmp_path, base, method, adapter):
    often = {"save_steps": 8, "save_total_limit": 9, "logging_steps": 4, "learning_rate": 1e-2}
    whole = teach(tmp_path / "whole", "classify", base("bert"), method, adapter=adapter, training=often)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    checkpoints = tmp_path / "cut" / "work" / "checkpoints"
    for later in checkpoints.glob("checkpoint-*"):
        if int(later.name.rpartition("-")[2]) > 8:
            shutil.rmtree(later)
    again = teach(tmp_path / "cut", "classify", base("bert"), method, adapter=adapter, training=often)
    for name, weight in weights(whole.folder).items():
        torch.testing.assert_close(weights(again.folder)[name], weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["lora", "qlora", "ia3", "prefix", "prompt"])
def test_a_training_goes_on_from_an_adapter(tmp_path, base, method):
    quick = {"learning_rate": 1e-2}
    first = teach(tmp_path / "first", "classify", base("bert"), method, training=quick)
    then = teach(tmp_path / "then", "classify", base("bert"), method, start=str(first.folder), training=quick)
    assert sum(then.losses[:3]) < 0.8 * sum(first.losses[:3])
    assert weights(then.folder).keys() == weights(first.folder).keys()
    assert then.correct() > 0.75


def test_an_adapter_that_cannot_be_trained_further_is_refused(tmp_path, base):
    first = teach(tmp_path / "first", "classify", base("bert"), "p-tuning")
    with pytest.raises(ModelError, match="a P_TUNING adapter cannot be trained further, because PEFT saves"):
        teach(tmp_path / "then", "classify", base("bert"), "p-tuning", start=str(first.folder))
    with pytest.raises(ModelError, match="method lora cannot go on from a P_TUNING adapter, only from a LORA one"):
        teach(tmp_path / "other", "classify", base("bert"), "lora", start=str(first.folder))
