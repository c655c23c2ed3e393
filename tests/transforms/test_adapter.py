"""Adapters: heads and labels of their own, the base checked, no half-applied one."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from tests import tiny
from transforms import adapter as adapters
from transforms.errors import ModelError
from transforms.model import ModelRef, load, logits, read_config
from transforms.tasks import classify

TEXTS = tiny.texts(40)
IDS = [[2, 5, 6, 7, 3], [2, 9, 3]]


def make_adapter(base, folder, labels=3, **more):
    """A LoRA with a head of its own, random weights that are not zero."""
    torch.manual_seed(5)
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels, ignore_mismatched_sizes=True)
    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"], **more)
    adapted = get_peft_model(network, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    adapted.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("more", [{}, {"use_dora": True}])
def test_an_adapter_gives_what_peft_gives_with_its_own_head(models, tmp_path, more):
    base = models / "sentiment"
    adapter = make_adapter(base, tmp_path / "adapter", **more)
    reference = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base), adapter).eval()
    model = load(ModelRef(str(base), str(adapter), device="cpu"), classify.ARCHITECTURE)
    plain = load(ModelRef(str(base), device="cpu"), classify.ARCHITECTURE)
    for ids in IDS:
        with torch.inference_mode():
            want = reference(input_ids=torch.tensor([ids])).logits
        np.testing.assert_allclose(logits(model, [ids]), want, atol=1e-4)
        assert not np.allclose(logits(plain, [ids]), want, atol=1e-2)


def test_an_adapter_may_bring_other_labels_than_its_base_has(models, tmp_path):
    base = models / "sentiment"
    adapter = make_adapter(base, tmp_path / "adapter", labels=5)
    config = read_config(ModelRef(str(base), str(adapter)))
    assert config.num_labels == 5
    labels = {i: f"topic {i}" for i in range(5)}
    AutoConfig.from_pretrained(base, id2label=labels).save_pretrained(adapter)
    model = load(ModelRef(str(base), str(adapter), device="cpu"), classify.ARCHITECTURE)
    values = classify.load(classify.Options("text"), model)(pa.record_batch({"text": TEXTS})).values
    assert {value["label"] for value in values.to_pylist()} <= set(labels.values())


def test_an_adapter_for_another_base_is_refused(models, tmp_path):
    adapter = make_adapter(models / "sentiment", tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"was trained on '.*sentiment', not on '.*topics'; use `model: "):
        adapters.check(str(adapter), str(models / "topics"), str(models / "topics"))
    adapters.check(str(adapter), str(models / "sentiment"), str(models / "sentiment"))


def test_a_base_that_was_moved_is_known_by_its_contents(models, tmp_path):
    adapter = make_adapter(models / "sentiment", tmp_path / "adapter")
    copy = shutil.copytree(models / "sentiment", tmp_path / "copy")
    adapters.check(str(adapter), str(copy), str(copy))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": ""}))
    with pytest.raises(ModelError, match="does not name its base model"):
        adapters.check(str(adapter), str(copy), str(copy))


def test_an_adapter_without_some_of_its_weights_is_refused(models, tmp_path):
    from safetensors.torch import load_file, save_file

    adapter = make_adapter(models / "sentiment", tmp_path / "adapter")
    weights = load_file(adapter / "adapter_model.safetensors")
    dropped = next(key for key in weights if "lora_A" in key)
    save_file({key: value for key, value in weights.items() if key != dropped}, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="lacks weights"):
        load(ModelRef(str(models / "sentiment"), str(adapter), device="cpu"), classify.ARCHITECTURE)


def test_an_adapter_that_leaves_a_layer_untrained_is_refused(models, tmp_path):
    # PEFT saves the classifier; the pooler before it was random when this adapter was trained, and is gone.
    adapter = make_adapter(models / "mlm", tmp_path / "adapter", labels=5)
    with pytest.raises(ModelError, match=r"has no weights for bert.pooler"):
        load(ModelRef(str(models / "mlm"), str(adapter), device="cpu"), classify.ARCHITECTURE)
