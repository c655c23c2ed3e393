"""Adapters: heads and labels of their own, the base checked, no half-applied one."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from tests import tiny
from transforms import adapter as adapters
from transforms import rehearsal
from transforms.checkpoint import fingerprint
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


def test_a_base_model_that_was_moved_is_recognised_by_its_contents(models, tmp_path):
    adapter = make_adapter(models / "sentiment", tmp_path / "adapter")
    copy = shutil.copytree(models / "sentiment", tmp_path / "copy")
    adapters.check(str(adapter), str(copy), str(copy))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": ""}))
    with pytest.raises(ModelError, match="does not name its base model"):
        adapters.check(str(adapter), str(copy), str(copy))


def test_an_adapter_without_some_of_its_weights_is_refused(models, tmp_path):
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


def tried(base, adapter):
    """Load a base with an adapter without their weights."""
    rehearsal.rehearse(ModelRef(str(base), str(adapter)), "classify", classify.Options("text"))


def change(adapter, edit):
    """Save an adapter's weights again, changed."""
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    save_file(edit(weights), file, {"format": "pt"})


def settings(adapter, **changes):
    """Set keys of adapter_config.json."""
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def first(weights, part):
    return next(key for key in weights if part in key)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "b" * 64 + "\nsize 77\n"
BROKEN = {
    "config is not JSON": (
        lambda a: (a / "adapter_config.json").write_text("{r: 4"),
        r"adapter_config.json is not JSON",
    ),
    "config is a list": (lambda a: (a / "adapter_config.json").write_text("[]"), r"adapter_config.json holds a list"),
    "config is empty": (lambda a: (a / "adapter_config.json").write_text(""), r"adapter_config.json is empty"),
    "no kind": (lambda a: settings(a, peft_type=None), r"adapter_config.json has no peft_type, such as LORA"),
    "unknown kind": (lambda a: settings(a, peft_type="LURA"), r"peft_type 'LURA', which PEFT .* does not have"),
    "base is a number": (
        lambda a: settings(a, base_model_name_or_path=3),
        r"a base_model_name_or_path that is not a string",
    ),
    "modules_to_save is a word": (lambda a: settings(a, modules_to_save="all"), r"modules_to_save 'all'; give a list"),
    "rank is a word": (lambda a: settings(a, r="four"), r"does not fit its base|cannot be read by PEFT"),
    "other target modules": (
        lambda a: settings(a, target_modules=["q_proj"]),
        r"does not fit its base: no layer of the base is called q_proj",
    ),
    "another rank": (
        lambda a: settings(a, r=2),
        r"does not fit its base: .* is 4×32 in the adapter and 2×32 in the base",
    ),
    "weights are missing": (
        lambda a: (a / "adapter_model.safetensors").unlink(),
        r"has no weights: neither adapter_model",
    ),
    "weights are a pointer": (
        lambda a: (a / "adapter_model.safetensors").write_text(POINTER),
        r"adapter_model.safetensors is a Git LFS pointer, not weights; run `git lfs pull`",
    ),
    "weights are cut": (
        lambda a: (a / "adapter_model.safetensors").write_bytes((a / "adapter_model.safetensors").read_bytes()[:900]),
        r"adapter_model.safetensors is truncated",
    ),
    "a layer is missing": (
        lambda a: change(a, lambda w: {k: v for k, v in w.items() if k != first(w, "lora_B")}),
        r"lacks weights, such as .*lora_B.*; copy its file again",
    ),
    "the head is missing": (
        lambda a: change(a, lambda w: {k: v for k, v in w.items() if "classifier" not in k}),
        r"lacks weights, such as .*classifier.*; copy its file again",
    ),
    "a layer too many": (
        lambda a: change(a, lambda w: w | {first(w, "layer.0").replace("layer.0", "layer.7"): torch.ones(4, 32)}),
        r"has weights for layers that its base does not have, such as .*layer.7",
    ),
    "another width": (
        lambda a: change(a, lambda w: w | {first(w, "lora_A"): torch.ones(4, 48)}),
        r"does not fit its base: .*lora_A.* is 4×48 in the adapter and 4×32 in the base; use the base model",
    ),
    "labels of its own that do not fit": (
        lambda a: (a / "config.json").write_text(
            json.dumps({"model_type": "bert", "id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}})
        ),
        r"config.json has 2 labels, and the adapter's head has 3 outputs; give id2label",
    ),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_damaged_adapter_is_refused_without_weights_by_file_and_fix(models, tmp_path, damage):
    adapter = make_adapter(models / "sentiment", tmp_path / "adapter")
    tried(models / "sentiment", adapter)
    break_it, message = BROKEN[damage]
    break_it(adapter)
    with pytest.raises(ModelError, match=message) as caught:
        tried(models / "sentiment", adapter)
    assert "\n" not in str(caught.value)


def test_an_adapter_in_a_pickle_brings_its_head_too(models, tmp_path):
    adapter = make_adapter(models / "sentiment", tmp_path / "adapter", labels=5)
    safe = load(ModelRef(str(models / "sentiment"), str(adapter), device="cpu"), classify.ARCHITECTURE)
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    assert read_config(ModelRef(str(models / "sentiment"), str(adapter))).num_labels == 5
    tried(models / "sentiment", adapter)
    pickled = load(ModelRef(str(models / "sentiment"), str(adapter), device="cpu"), classify.ARCHITECTURE)
    for ids in IDS:
        torch.testing.assert_close(logits(pickled, [ids]), logits(safe, [ids]))
    (adapter / "adapter_model.bin").write_text(POINTER)
    with pytest.raises(ModelError, match=r"adapter_model.bin is a Git LFS pointer"):
        tried(models / "sentiment", adapter)


def test_an_adapter_that_records_its_base_is_compared_by_weights_and_not_by_name(models, tmp_path):
    base = shutil.copytree(models / "sentiment", tmp_path / "base")
    adapter = make_adapter(base, tmp_path / "adapter")
    (adapter / fingerprint.ORIGIN).write_bytes(fingerprint.record(fingerprint.of(str(base))))
    settings(adapter, base_model_name_or_path="somewhere/else")
    adapters.check(str(adapter), str(base), "org/base")
    tried(base, adapter)
    weights = load_file(base / "model.safetensors")
    name = next(name for name in weights if "query.weight" in name)
    save_file(weights | {name: weights[name] + 1e-3}, base / "model.safetensors", {"format": "pt"})
    settings(adapter, base_model_name_or_path=str(base))
    with pytest.raises(ModelError, match="was trained on other weights than those of"):
        adapters.check(str(adapter), str(base), str(base))
    with pytest.raises(ModelError, match="was trained on other weights than those of"):
        tried(base, adapter)


def test_the_base_of_an_adapter_that_is_not_downloaded_yet_is_compared_when_it_is(models, tmp_path):
    adapter = make_adapter(models / "sentiment", tmp_path / "adapter")
    (adapter / fingerprint.ORIGIN).write_bytes(fingerprint.record("0" * 40))
    small = shutil.copytree(models / "sentiment", tmp_path / "small", ignore=shutil.ignore_patterns("*.safetensors"))
    adapters.check(str(adapter), str(small), "org/base")
    shutil.copy(models / "sentiment" / "model.safetensors", small)
    with pytest.raises(ModelError, match="was trained on other weights than those of"):
        tried(small, adapter)
