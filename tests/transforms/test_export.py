"""Exported adapters give the logits of the original: by PEFT, and by the arithmetic that each engine states."""

import json
import math

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from jobs.models.export import ENGINES
from transforms import export, merge
from transforms.checkpoint import fingerprint
from transforms.errors import ModelError
from transforms.reference import ModelRef

IDS = torch.tensor([[1, 30, 44, 52, 61, 9]])

ADAPTERS = {
    "plain": {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj"]},
    "rslora": {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"], "use_rslora": True},
    "ranks": {
        "r": 2,
        "lora_alpha": 6,
        "target_modules": "all-linear",
        "rank_pattern": {"v_proj": 5},
        "alpha_pattern": {"layers.1.self_attn.q_proj": 9},
    },
    "one layer": {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "o_proj"], "layers_to_transform": [1]},
    "expression": {"r": 3, "lora_alpha": 5, "target_modules": r".*layers\.0.*\.(q_proj|up_proj)"},
}


def adapted(base, folder, config, auto=AutoModelForCausalLM):
    torch.manual_seed(0)
    network = get_peft_model(auto.from_pretrained(base), config)
    for parameter in network.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(folder)
    (folder / fingerprint.ORIGIN).write_bytes(fingerprint.record(fingerprint.of(str(base))))
    return network.eval()


def logits(network, ids=IDS, **more):
    with torch.inference_mode():
        return network.eval()(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits


def computed_by_an_engine(base, folder, engine):
    """Read the files as an engine's loader does: one rank, one scale, tensors by name."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    network = AutoModelForCausalLM.from_pretrained(base)
    weights = dict(network.named_parameters())
    for name in [name for name in tensors if name.endswith(".lora_A.weight")]:
        layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        down, up = tensors.pop(name), tensors.pop(name.replace("lora_A", "lora_B"))
        if engine == "llama.cpp":
            scale = config["lora_alpha"] / len(down)
        else:
            assert len(down) == up.shape[1] == config["r"]
            scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config["use_rslora"] else config["r"])
        weights[f"{layer}.weight"].data += scale * up @ down
    assert not tensors, "no other tensors"
    return logits(network)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_every_engine_computes_the_logits_of_the_adapter(causal_model, tmp_path, kind):
    base, source = str(causal_model("llama")), tmp_path / "adapter"
    want = logits(adapted(base, source, LoraConfig(task_type="CAUSAL_LM", **ADAPTERS[kind])))
    assert (want - logits(AutoModelForCausalLM.from_pretrained(base))).abs().max() > 0.1
    assert set(ENGINES) == set(export.CHOICES)
    for engine in export.CHOICES:
        folder = tmp_path / engine
        export.export(str(source), base, None, engine, folder)
        files = {file.name for file in folder.iterdir()}
        assert fingerprint.ORIGIN not in files
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == base
        loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
        torch.testing.assert_close(logits(loaded), want, atol=1e-4, rtol=1e-4)
        if engine != "peft":
            assert files == {"adapter_config.json", "adapter_model.safetensors"}
            assert isinstance(config["target_modules"], list)
            assert engine != "llama.cpp" or not config["use_rslora"]
            torch.testing.assert_close(computed_by_an_engine(base, folder, engine), want, atol=1e-4, rtol=1e-4)
    with pytest.raises(ModelError, match="exists and is not empty"):
        export.export(str(source), base, None, "vllm", tmp_path / "vllm")


REFUSED = {
    "use_dora is true": LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], use_dora=True),
    "modules_to_save is not empty": LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj"], modules_to_save=["lm_head"]
    ),
    "bias is not none": LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], bias="lora_only"),
    "its peft_type is IA3": IA3Config(task_type="CAUSAL_LM"),
    "embed_tokens.*, which is no": LoraConfig(task_type="CAUSAL_LM", target_modules=["embed_tokens"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_an_engine_does_not_read_is_refused_with_the_way_that_works(causal_model, tmp_path, what):
    base, source = str(causal_model("llama")), tmp_path / "adapter"
    want = logits(adapted(base, source, REFUSED[what]))
    for engine in export.ENGINES:
        with pytest.raises(ModelError, match=rf"cannot be exported for .*{what}.*adapters merge`, which every"):
            export.export(str(source), base, None, engine, tmp_path / "out")
    # That way works.
    merge.merge(ModelRef(base, str(source), device="cpu"), "AutoModelForCausalLM", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), want, atol=1e-4, rtol=1e-4)


def test_a_large_rank_a_classifier_and_virtual_tokens_are_refused(causal_model, models, tmp_path):
    base = str(causal_model("llama"))
    adapted(base, tmp_path / "wide", LoraConfig(task_type="CAUSAL_LM", r=600, target_modules=["q_proj"]))
    with pytest.raises(ModelError, match=r"for vLLM \(its rank is 600, and the largest is 512\)"):
        export.export(str(tmp_path / "wide"), base, None, "vllm", tmp_path / "out")
    assert export.export(str(tmp_path / "wide"), base, None, "tgi", tmp_path / "tgi") == 600
    adapted(base, tmp_path / "prompt", PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ModelError, match=r"is PROMPT_TUNING, vLLM reads only LORA, and virtual tokens cannot"):
        export.export(str(tmp_path / "prompt"), base, None, "vllm", tmp_path / "out")
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
    adapted(models / "sentiment", tmp_path / "classify", config, AutoModelForSequenceClassification)
    with pytest.raises(ModelError, match=r"\(task_type is not CAUSAL_LM\); write a whole model"):
        export.export(str(tmp_path / "classify"), base, None, "llama.cpp", tmp_path / "out")


@pytest.mark.parametrize("config", [LoraConfig, IA3Config])
def test_a_merged_folder_is_read_by_transformers_alone(models, writers, tmp_path, config):
    cases = [
        (models / "sentiment", AutoModelForSequenceClassification, "SEQ_CLS", {}),
        (writers("t5"), AutoModelForSeq2SeqLM, "SEQ_2_SEQ_LM", {"decoder_input_ids": IDS[:, :3]}),
    ]
    for base, auto, task_type, more in cases:
        source, folder = tmp_path / task_type, tmp_path / f"{task_type}-merged"
        want = logits(adapted(str(base), source, config(task_type=task_type), auto), **more)
        merge.merge(ModelRef(str(base), str(source), device="cpu"), auto.__name__, folder)
        assert not list(folder.glob("adapter*"))
        torch.testing.assert_close(logits(auto.from_pretrained(folder), **more), want, atol=1e-4, rtol=1e-4)
