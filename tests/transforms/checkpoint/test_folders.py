"""A model folder that is damaged, or contradicts the options, is refused without loading weights, by file and fix."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from tests.model_folders import POINTER, assert_damage_is_refused, edit, rehearse
from transforms.errors import ModelError, SpecError
from transforms.tasks import answer, classify, embed, fill_mask, generate, ner, summarize, translate

CONFIGS = {
    "config is a pointer": (
        lambda f: (f / "config.json").write_text(POINTER),
        r"config.json is a Git LFS pointer, not",
    ),
    "config is empty": (lambda f: (f / "config.json").write_text(""), r"config.json is empty and should hold JSON"),
    "config is not JSON": (
        lambda f: (f / "config.json").write_text("{'a': 1}"),
        r"config.json is not JSON \(.*copy it",
    ),
    "config is a list": (
        lambda f: (f / "config.json").write_text("[]"),
        r"config.json holds a list, and a JSON object",
    ),
    "config is binary": (lambda f: (f / "config.json").write_bytes(b"\x80\xff{}"), r"config.json is not JSON"),
    "no model_type": (lambda f: edit(f / "config.json", model_type=None), r"config.json has no model_type; add it"),
    "unknown model_type": (
        lambda f: edit(f / "config.json", model_type="brt"),
        r"model_type 'brt', which transformers 5",
    ),
    "model_type is a list": (lambda f: edit(f / "config.json", model_type=["bert"]), r"model_type \['bert'\], which"),
    "remote code": (
        lambda f: edit(f / "config.json", model_type="mine", auto_map={"AutoConfig": "a.B"}),
        r"needs code from its own repository \(auto_map\), which runs only in a job that names it",
    ),
    "labels in a list": (
        lambda f: edit(f / "config.json", id2label=["a", "b", "c"]),
        r"id2label that is not an object",
    ),
    "labels by words": (lambda f: edit(f / "config.json", id2label={"a": 0}), r"number the labels 0, 1, 2"),
    "labels from one": (
        lambda f: edit(f / "config.json", id2label={"1": "a", "2": "b", "3": "c"}),
        r"id2label with the keys 1, 2, 3; number the labels 0",
    ),
    "fewer labels than outputs": (
        lambda f: edit(f / "config.json", id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1}),
        r"config.json has 2 labels, and the stored classifier.(weight|bias) has outputs for 3; give id2label one label",
    ),
    "num_labels and id2label differ": (
        lambda f: edit(f / "config.json", num_labels=5),
        r"num_labels 5, and 3 labels in",
    ),
    "num_labels is a word": (
        lambda f: edit(f / "config.json", num_labels="three"),
        r"num_labels 'three'; give a whole",
    ),
    "another width": (
        lambda f: edit(f / "config.json", hidden_size=48),
        r"config.json describes another network .* is .*32.* in the weights and .*48.* by the configuration",
    ),
    "heads do not divide the width": (lambda f: edit(f / "config.json", num_attention_heads=5), r"describe.* network"),
    "more layers than are stored": (lambda f: edit(f / "config.json", num_hidden_layers=3), r"has no weights for bert"),
    "width is a word": (lambda f: edit(f / "config.json", hidden_size="wide"), r"config.json cannot be read by"),
    "another vocabulary size": (lambda f: edit(f / "config.json", vocab_size=10), r"describes another network"),
}


@pytest.mark.parametrize("damage", CONFIGS)
def test_a_damaged_configuration_is_refused_by_file_and_fix(models, tmp_path, damage):
    assert_damage_is_refused(models / "sentiment", tmp_path / "model", *CONFIGS[damage])


def test_a_complete_folder_is_accepted_for_every_task(models, writers, causal_model):
    rehearse(models / "ner", task="ner", options=ner.Options("text"))
    rehearse(models / "answer", task="answer", options=answer.Options("text", question="Who?"))
    rehearse(models / "mlm", task="fill_mask", options=fill_mask.Options("text"))
    rehearse(models / "mlm", task="embed", options=embed.Options("text"))
    rehearse(writers("t5"), task="summarize", options=summarize.Options("text"))
    rehearse(writers("nllb"), task="translate", options=_languages("eng_Latn", "deu_Latn"))
    rehearse(causal_model("llama"), task="generate", options=generate.Options(column="text", max_new_tokens=9))


def _languages(source, target):
    return translate.Options("text", source_language=source, target_language=target)


def test_options_that_the_model_contradicts_are_refused_without_weights(models, writers, causal_model):
    with pytest.raises(ModelError, match="'fra_Latn'"):
        rehearse(writers("nllb"), task="translate", options=_languages("eng_Latn", "fra_Latn"))
    options = generate.Options(column="text", max_new_tokens=9, chat="always")
    with pytest.raises(ModelError, match="no chat template"):
        rehearse(causal_model("llama"), task="generate", options=options)
    with pytest.raises(ModelError, match="shorten the prompt or lower max_new_tokens"):
        rehearse(causal_model("llama"), task="generate", options=generate.Options(column="text", max_new_tokens=256))
    with pytest.raises(ModelError, match=r"targets?"):
        rehearse(models / "mlm", task="fill_mask", options=fill_mask.Options("text", targets=["notoneword"]))


def test_more_labels_than_the_model_has_are_refused_at_plan_time(models):
    with pytest.raises(SpecError, match="top_k is 4, and the model has 3 labels; give a number up to 3, or all"):
        rehearse(models / "sentiment", options=classify.Options("text", top_k=4))


SENTENCE_FOLDERS = {
    "modules.json is cut": (lambda f: (f / "modules.json").write_text("[{"), r"modules.json .* cannot be read"),
    "modules.json is empty": (lambda f: (f / "modules.json").write_text(""), r"modules.json is empty"),
    "a step is lost": (
        lambda f: shutil.rmtree(f / "2_Dense"),
        r"modules.json .* cannot be read .*copy",
    ),
    "pooling is a pointer": (lambda f: (f / "1_Pooling/config.json").write_text(POINTER), r"is a Git LFS pointer"),
    "weights are lost": (lambda f: (f / "2_Dense/model.safetensors").unlink(), r"2_Dense' has no weights"),
    "weights are a pointer": (lambda f: (f / "2_Dense/model.safetensors").write_text(POINTER), r"is a Git LFS pointer"),
    "weights are of another width": (
        lambda f: edit(f / "2_Dense/config.json", out_features=4),
        r"2_Dense has weights of another shape than its config.json says",
    ),
}


@pytest.mark.parametrize("damage", SENTENCE_FOLDERS)
def test_a_damaged_sentence_transformers_folder_is_refused(models, tmp_path, damage):
    folder = shutil.copytree(models / "mlm", tmp_path / "model")
    steps = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
    modules = [
        {"idx": i, "path": path, "type": f"sentence_transformers.{kind}"} for i, (kind, path) in enumerate(steps)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for place, config in {
        "1_Pooling": {"pooling_mode": "mean"},
        "2_Dense": {"in_features": 32, "out_features": 8},
    }.items():
        (folder / place).mkdir()
        (folder / place / "config.json").write_text(json.dumps(config))
    dense = {"linear.weight": torch.ones(8, 32), "linear.bias": torch.ones(8)}
    save_file(dense, folder / "2_Dense/model.safetensors")
    rehearse(folder, task="embed", options=embed.Options("text"))
    change, message = SENTENCE_FOLDERS[damage]
    change(folder)
    with pytest.raises(ModelError, match=message):
        rehearse(folder, task="embed", options=embed.Options("text"))
