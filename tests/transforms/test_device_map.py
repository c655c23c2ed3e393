"""`device_map` through the real from_pretrained and accelerate: layers without room go to disk and come back by hooks.

There is one device here, so the second one is another name of the CPU, or the disk; two GPUs have the same hooks with
other devices.
"""

import pytest
import torch
from accelerate.utils import modeling
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification
from transformers.integrations import accelerate as integration

from transforms import device
from transforms.batches import Caps
from transforms.errors import ModelError
from transforms.generation import lanes
from transforms.generation.decode import decode
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.model import forward, load
from transforms.reference import ModelRef

ROWS = [[2, 5, 6, 7, 3], [2, 9, 3], [2, *range(20, 40), 3]]


@pytest.fixture
def little_room(monkeypatch):
    """Memory for some of the layers only."""

    def limit(share):
        def memory(model, **_):
            whole = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
            return {"cpu": int(whole * share), "disk": 10**12}

        monkeypatch.setattr(integration, "get_balanced_memory", memory)

    return limit


@pytest.fixture
def two_devices(monkeypatch):
    """A map over two names of the CPU, as if they were two GPUs: every layer gets hooks, and none is kept elsewhere."""

    def parts(module, above=""):
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            yield f"{above}{name}", "cpu:0"
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ModuleList):
                yield from ((f"{above}{name}.{i}", f"cpu:{i % 2}") for i in range(len(child)))
            elif any(isinstance(each, torch.nn.ModuleList) for each in child.modules()):
                yield from parts(child, f"{above}{name}.")
            else:
                yield f"{above}{name}", "cpu:0"

    # Tensors forget the number of a CPU.
    monkeypatch.setattr(modeling, "check_device_same", lambda one, other: one.type == other.type)
    monkeypatch.setattr(integration, "infer_auto_device_map", lambda model, **_: dict(parts(model)))


def offloaded(model):
    assert "disk" in model.network.hf_device_map.values()
    assert any(parameter.is_meta for parameter in model.network.parameters()), "layers on disk have no data in memory"
    assert any(hasattr(module, "_hf_hook") for module in model.network.modules())
    return True


def spread(model):
    assert set(map(str, model.network.hf_device_map.values())) == {"cpu:0", "cpu:1"}
    hooks = [module._hf_hook for module in model.network.modules() if hasattr(module, "_hf_hook")]
    assert len(hooks) > 2, "layers have accelerate's hooks"
    return True


def adapted(base, auto, task_type, folder, config):
    torch.manual_seed(0)
    network = get_peft_model(auto.from_pretrained(base), config(task_type))
    for parameter in network.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    network.save_pretrained(folder)
    return str(folder)


def lora(task_type):
    return LoraConfig(task_type=task_type, r=2, target_modules="all-linear")


def prefix(task_type):
    return PrefixTuningConfig(task_type=task_type, num_virtual_tokens=4)


def test_a_machine_without_a_gpu_has_one_device(models):
    auto, base = AutoModelForSequenceClassification, str(models / "sentiment")
    model = load(ModelRef(base, device="cpu", device_map="auto"), auto)
    assert not device.is_spread(model.network)
    torch.testing.assert_close(
        forward(model, ROWS).logits, forward(load(ModelRef(base, device="cpu"), auto), ROWS).logits
    )


def test_a_classifier_with_layers_on_disk_gives_the_same_logits(models, tmp_path, little_room):
    auto, base = AutoModelForSequenceClassification, str(models / "sentiment")
    want = forward(load(ModelRef(base, device="cpu"), auto), ROWS).logits
    little_room(0.9)
    model = load(ModelRef(base, device="cpu", device_map="auto"), auto)
    assert offloaded(model)
    assert model.padding == "right"
    torch.testing.assert_close(forward(model, ROWS).logits, want, atol=1e-5, rtol=1e-5)
    folder = adapted(base, auto, "SEQ_CLS", tmp_path / "adapter", lora)
    with pytest.raises(
        ModelError, match=r"does not fit on the GPUs here, and adapter .* on disk\); write a whole model"
    ):
        load(ModelRef(base, folder, device="cpu", device_map="auto"), auto)


@pytest.mark.parametrize("adapter", [None, lora, prefix])
def test_a_classifier_on_two_devices_gives_the_same_logits(models, tmp_path, two_devices, adapter):
    auto, base = AutoModelForSequenceClassification, str(models / "sentiment")
    folder = adapter and adapted(base, auto, "SEQ_CLS", tmp_path / "adapter", adapter)
    want = forward(load(ModelRef(base, folder, device="cpu"), auto), ROWS).logits
    model = load(ModelRef(base, folder, device="cpu", device_map="auto"), auto)
    assert spread(model)
    assert model.padding == "right"
    torch.testing.assert_close(forward(model, ROWS).logits, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("adapter", [None, lora, prefix])
def test_a_writer_on_two_devices_writes_the_same_texts(causal_model, tmp_path, two_devices, adapter):
    # Not an encoder-decoder: accelerate cannot tie its embeddings over two names of the CPU.
    auto, base = AutoModelForCausalLM, str(causal_model("llama"))
    folder = adapter and adapted(base, auto, "CAUSAL_LM", tmp_path / "adapter", adapter)
    model = load(ModelRef(base, folder, device="cpu", device_map="auto"), auto)
    assert spread(model)
    assert same_texts(model, load(ModelRef(base, folder, device="cpu"), auto))
    # The same batches as on one device.
    assert lanes.fits(model.network)


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_a_writer_with_layers_on_disk_writes_the_same_texts(writers, causal_model, little_room, family):
    auto = AutoModelForSeq2SeqLM if family == "bart" else AutoModelForCausalLM
    base = str(writers(family) if family == "bart" else causal_model(family))
    plain = load(ModelRef(base, device="cpu"), auto)
    little_room(0.5)
    model = load(ModelRef(base, device="cpu", device_map="auto"), auto)
    assert offloaded(model)
    assert device.of(model.network) == torch.device("cpu")
    assert same_texts(model, plain)


def same_texts(model, plain):
    requests = [Request(list(range(40, 40 + n)), 8) for n in (3, 9, 1, 6)]
    for how in (Decoding(), Decoding(num_beams=2)):
        got, want = (decode(each, requests, how, 60, Caps()) for each in (model, plain))
        assert not got.failures
        assert got.outputs == want.outputs
    return True
