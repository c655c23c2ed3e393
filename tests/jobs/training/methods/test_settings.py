"""The keys of each method, what its adapters hold, and what is refused before weights load."""

import importlib.util
import json

import pytest
from safetensors.torch import load_file

from jobs.training import data, methods, settings, train
from jobs.training.methods import qlora
from tests.jobs.training import made
from tests.jobs.training.methods.taught import labelled, teach
from transforms.errors import ModelError, SpecError


@pytest.mark.parametrize(
    ("method", "adapter", "said"),
    [
        ("prompt", {"r": 8}, "adapter.r is not a field of PromptTuningConfig"),
        ("prefix", {"token_dim": 8}, "adapter.token_dim cannot be set here: it is the base's"),
        ("prefix", {"num_virtual_tokens": 0}, "adapter.num_virtual_tokens is 0; give 1 or more"),
        ("lora", {"load_in_8bit": True}, "adapter.load_in_8bit is not a field of LoraConfig"),
        ("qlora", {"bnb_4bit_quant_type": "nf3"}, "adapter.bnb_4bit_quant_type is 'nf3'; choices: nf4, fp4"),
        ("qlora", {"load_in_8bit": True, "bnb_4bit_quant_type": "nf4"}, "applies to 4 bits only"),
        ("qlora", {"load_in_4bit": False}, "adapter.load_in_4bit is false"),
        ("ia3", {"r": 8}, "adapter.r is not a field of IA3Config"),
    ],
)
def test_a_key_of_another_method_is_refused(method, adapter, said):
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        settings.adapter(adapter, method)


def plan(folder, base, method, **more):
    read = made.file(folder, "classify", base, labelled(40, 1), method=method, **more)
    return train.request_of(read, data.load(read))


def test_what_a_machine_or_a_base_lacks_is_said_before_weights_load(tmp_path, base, monkeypatch):
    with pytest.raises(ModelError, match=r"method prefix gives .* the layers of distilbert models take none; use"):
        plan(tmp_path / "a", base("distilbert"), "prefix")
    with pytest.raises((ModelError, SpecError), match="gradient_checkpointing does not work with method prefix"):
        plan(tmp_path / "b", base("bert"), "prefix", training={"gradient_checkpointing": True})
    with pytest.raises(ModelError, match="method prompt cannot train a classifier over a causal model"):
        plan(tmp_path / "c", base("gpt2"), "prompt")
    # Its window has 64 tokens.
    with pytest.raises(ModelError, match=r"adapter\.num_virtual_tokens is 64, and base\.model has a window of 64"):
        plan(tmp_path / "e", base("bert"), "prompt", adapter={"num_virtual_tokens": 64})
    found = importlib.util.find_spec
    monkeypatch.setattr(qlora.importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(ModelError, match=r"needs bitsandbytes, which is not installed; pip install 'nightscribe\[ql"):
        plan(tmp_path / "d", base("bert"), "qlora")


@pytest.mark.parametrize(
    ("adapter", "part"),
    [
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"use_rslora": True}, "lora_A"),
        ({"layers_to_transform": [1], "layers_pattern": "layer"}, "layer.1."),
        ({"modules_to_save": ["pooler"]}, "pooler"),
    ],
)
def test_the_variants_of_lora_are_keys_of_peft(tmp_path, base, adapter, part):
    taught = teach(tmp_path, "classify", base("bert"), "lora", adapter=adapter, training={"learning_rate": 1e-2})
    names = list(load_file(taught.folder / "adapter_model.safetensors"))
    assert any(part in name for name in names)
    if "layers_to_transform" in adapter:
        assert not any("layer.0." in name for name in names)
    assert taught.correct() > 0.75


def test_an_adapter_of_qlora_is_a_plain_adapter_of_lora_with_an_unquantised_head(tmp_path, base):
    eight = teach(tmp_path, "classify", base("roberta"), "qlora", adapter={"load_in_8bit": True, "r": 4})
    kinds = {type(module).__name__ for module in eight.network.modules()}
    assert "Linear8bitLt" in kinds
    assert "8bit" not in type(eight.network.base_model.model.classifier.modules_to_save["default"].dense).__name__
    tensors = load_file(eight.folder / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float32"}
    for name in ("adapter_config.json", "config.json"):
        content = (eight.folder / name).read_text()
        assert "quant" not in content
        assert "bnb" not in content
    assert json.loads((eight.folder / "adapter_config.json").read_text())["peft_type"] == "LORA"


def test_every_method_has_a_learning_rate_and_a_configuration():
    assert methods.LEARNING_RATES.keys() == {*methods.CONFIGS, "full"}
