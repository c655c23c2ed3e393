"""A model reference becomes a model: adapters with their heads, the base checked, the window measured."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from tests import tiny
from transforms import packed
from transforms.errors import ModelError
from transforms.model import ModelRef, check_adapter, choose_dtype, digest, load, logits, read_config
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
    other = ModelRef(str(models / "topics"), str(adapter))
    with pytest.raises(ModelError, match=r"was trained on '.*sentiment', not on '.*topics'; use `model: "):
        check_adapter(other, str(models / "topics"))
    check_adapter(ModelRef(str(models / "sentiment"), str(adapter)), str(models / "sentiment"))


def test_a_base_that_was_moved_is_known_by_its_contents(models, tmp_path):
    adapter = make_adapter(models / "sentiment", tmp_path / "adapter")
    copy = shutil.copytree(models / "sentiment", tmp_path / "copy")
    check_adapter(ModelRef(str(copy), str(adapter)), str(copy))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": ""}))
    with pytest.raises(ModelError, match="does not name its base model"):
        check_adapter(ModelRef(str(copy), str(adapter)), str(copy))


def test_an_adapter_without_some_of_its_weights_is_refused(models, tmp_path):
    from safetensors.torch import load_file, save_file

    adapter = make_adapter(models / "sentiment", tmp_path / "adapter")
    weights = load_file(adapter / "adapter_model.safetensors")
    dropped = next(key for key in weights if "lora_A" in key)
    save_file({key: value for key, value in weights.items() if key != dropped}, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="lacks weights"):
        load(ModelRef(str(models / "sentiment"), str(adapter), device="cpu"), classify.ARCHITECTURE)


def test_a_head_that_was_never_trained_is_refused(models):
    with pytest.raises(ModelError, match=r"has no weights for bert.pooler.*it was not trained for this task"):
        load(ModelRef(str(models / "mlm"), device="cpu"), AutoModelForSequenceClassification)


def test_an_adapter_that_leaves_a_layer_untrained_is_refused(models, tmp_path):
    # PEFT saves the classifier; the pooler before it was random when this adapter was trained, and is gone.
    adapter = make_adapter(models / "mlm", tmp_path / "adapter", labels=5)
    with pytest.raises(ModelError, match=r"has no weights for bert.pooler"):
        load(ModelRef(str(models / "mlm"), str(adapter), device="cpu"), classify.ARCHITECTURE)


def test_the_digest_follows_contents_and_not_dates(models, tmp_path):
    copy = shutil.copytree(models / "sentiment", tmp_path / "copy")
    assert digest(copy) == digest(models / "sentiment")
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert digest(copy) != digest(models / "sentiment")


def test_the_window_is_what_tokenizer_and_positions_both_allow(models, tmp_path):
    roberta = load(ModelRef(str(models / "ner_bytes"), device="cpu"), AutoModelForTokenClassification)
    assert roberta.max_length == tiny.WINDOW
    copy = shutil.copytree(models / "ner_bytes", tmp_path / "copy")
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(copy)
    unlimited = load(ModelRef(str(copy), device="cpu"), AutoModelForTokenClassification)
    assert unlimited.max_length == tiny.WINDOW
    assert logits(unlimited, [list(range(5, 5 + tiny.WINDOW))]).shape[1] == tiny.WINDOW


@pytest.mark.skipif(not packed.available(torch.float32), reason="this CPU or torch build has no packed linear layers")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_give_what_linear_layers_give(dtype):
    if not packed.available(dtype):
        pytest.skip(f"this CPU does not compute {dtype} natively")
    torch.manual_seed(0)
    linear, rows = torch.nn.Linear(48, 96).to(dtype), torch.randn(3, 7, 48, dtype=dtype)
    network = torch.nn.Sequential(linear)
    want = network(rows)
    packed.pack(network, dtype)
    assert isinstance(network[0], packed.PackedLinear)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(network(rows), want.detach(), atol=tolerance, rtol=tolerance)


def test_the_dtype_is_decided_by_the_hardware_and_always_the_same():
    assert choose_dtype("float16", "cpu") == "float16"
    assert choose_dtype("auto", "cpu") == choose_dtype("auto", "cpu")
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert choose_dtype("auto", "cpu") == ("bfloat16" if native else "float32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_what_the_cpu_gives(models):
    batch = pa.record_batch({"text": TEXTS})
    on = {}
    for device in ("cpu", "cuda"):
        model = load(ModelRef(str(models / "sentiment"), device=device), classify.ARCHITECTURE)
        on[device] = classify.load(classify.Options("text"), model)(batch).values
    assert on["cpu"].field("label").equals(on["cuda"].field("label"))
    np.testing.assert_allclose(on["cpu"].field("score"), on["cuda"].field("score"), atol=1e-4)
