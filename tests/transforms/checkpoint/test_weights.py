"""A model folder with damaged, incomplete or unfit weights is refused without loading them; whole ones are accepted."""

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tests import tiny
from tests.model_folders import POINTER, assert_damage_is_refused, cut, edit, rehearse, write_word_list


def retype(folder, dtype):
    weights = load_file(folder / "model.safetensors")
    save_file({key: value.to(dtype) for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def without(file, part):
    weights = load_file(file)
    save_file({key: value for key, value in weights.items() if part not in key}, file, {"format": "pt"})


def shard(folder, *lost):
    """Two weight files and an index; some of them lost."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {f"model-{i}.safetensors": names[i - 1 :: 2] for i in (1, 2)}
    places = {name: part for part, inside in parts.items() for name in inside}
    for part, inside in parts.items():
        if part not in lost:
            save_file({name: weights[name] for name in inside}, folder / part, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "model.safetensors").unlink()


def pickled(folder, content=None):
    file = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors") if content is None else content, file)
    (folder / "model.safetensors").unlink()
    return file


def lying_header(file):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")
    header[name]["shape"] = [7, *header[name]["shape"]]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


WEIGHTS = {
    "weights are a pointer": (
        lambda f: (f / "model.safetensors").write_text(POINTER),
        r"model.safetensors is a Git LFS pointer, not weights; run `git lfs pull` in ",
    ),
    "weights are missing": (
        lambda f: (f / "model.safetensors").unlink(),
        r"has no weights: neither model.safetensors nor pytorch_model.bin is there; copy",
    ),
    "weights of another library": (
        lambda f: (f / "model.safetensors").rename(f / "tf_model.h5"),
        r"has no weights: .* only tf_model.h5 \(for TensorFlow\)",
    ),
    "weights are empty": (lambda f: (f / "model.safetensors").write_bytes(b""), r"model.safetensors is empty"),
    "weights are cut": (lambda f: cut(f / "model.safetensors", 0.7), r"is truncated: it has [\d,]+ of [\d,]+ bytes"),
    "weights are cut in the header": (
        lambda f: cut(f / "model.safetensors", 0.001),
        r"model.safetensors is (trunc|not)",
    ),
    "weights are a web page": (
        lambda f: (f / "model.safetensors").write_text("<!DOCTYPE html><html>Not found</html>"),
        r"model.safetensors is not a safetensors file",
    ),
    "header lies": (lambda f: lying_header(f / "model.safetensors"), r"model.safetensors is damaged: its header"),
    "weights in eight bits": (lambda f: retype(f, torch.int8), r"as I8, and config.json has no quantization_config"),
    "quantised weights": (
        lambda f: edit(f / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        r"says that the weights are quantised \(gptq\), which cannot be read here .*; choose the version",
    ),
    "a shard is lost": (
        lambda f: shard(f, "model-2.safetensors"),
        r"1 of the 2 weight files .* \(model-2.safetensors\)",
    ),
    "an index without files": (
        lambda f: (shard(f), (f / "model.safetensors.index.json").write_text('{"weight_map": {}}')),
        r"index.json has no weight_map",
    ),
    "a shard is a pointer": (
        lambda f: (shard(f), (f / "model-1.safetensors").write_text(POINTER)),
        r"model-1.safetensors is a Git LFS pointer",
    ),
    "a shard of another model": (
        lambda f: (shard(f), save_file({"x": torch.ones(2)}, f / "model-1.safetensors")),
        r"says that model-1.safetensors holds .*, which it does not",
    ),
    "a pickle is cut": (lambda f: cut(pickled(f), 0.5), r"pytorch_model.bin cannot be read as PyTorch weights"),
    "a pickle is a pointer": (lambda f: pickled(f).write_text(POINTER), r"pytorch_model.bin is a Git LFS pointer"),
    "a pickle of code": (
        lambda f: pickled(f, {"a": tiny.texts}),
        r"pytorch_model.bin cannot be read as PyTorch weights",
    ),
    "a pickle of a list": (lambda f: pickled(f, [torch.ones(2)]), r"pytorch_model.bin holds list, and tensors by name"),
    "a head is missing": (
        lambda f: without(f / "model.safetensors", "classifier"),
        r"has no weights for classifier.bias, classifier.weight; it was not trained for this task",
    ),
}


@pytest.mark.parametrize("damage", WEIGHTS)
def test_damaged_weights_are_refused_by_file_and_fix(models, tmp_path, damage):
    assert_damage_is_refused(models / "sentiment", tmp_path / "model", *WEIGHTS[damage])


@pytest.mark.parametrize("kind", ["whole", "sharded", "pickled", "word list", "bfloat16"])
def test_a_complete_folder_is_accepted_in_every_form(models, tmp_path, kind):
    folder = tmp_path / "model"
    shutil.copytree(models / "sentiment", folder)
    match kind:
        case "sharded":
            shard(folder)
        case "pickled":
            pickled(folder)
        case "word list":
            vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
            write_word_list(folder, sorted(vocabulary, key=vocabulary.get))
        case "bfloat16":
            retype(folder, torch.bfloat16)
    rehearse(folder)
