"""The fingerprint of a model's weights: what changes it and what does not."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from transforms.checkpoint import fingerprint
from transforms.errors import ModelError


@pytest.fixture
def folder(models, tmp_path):
    return shutil.copytree(models / "sentiment", tmp_path / "model")


def save(folder, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")


def test_names_types_shapes_and_values_of_tensors_change_it(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2)
    tensor = tensors[name]
    rest = {other: value for other, value in tensors.items() if other != name}
    changed = tensor.clone()
    changed[0, 0] += 1e-6
    seen = {fingerprint.of(str(folder))}
    for other in (
        {name: changed},
        {name: tensor.half()},
        {name: tensor.reshape(-1)},
        {f"{name}.x": tensor},
        {name: tensor.view(torch.int32)},
    ):
        save(folder, rest | other)
        seen.add(fingerprint.of(str(folder)))
    assert len(seen) == 6


def test_the_folder_the_configuration_metadata_and_shards_do_not_change_it(folder, models, tmp_path):
    wanted = fingerprint.of(str(models / "sentiment"))
    (folder / "config.json").write_text("{}")
    assert fingerprint.of(str(folder)) == wanted
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", {"written": "today"})
    assert fingerprint.of(str(folder)) == wanted
    half = len(tensors) // 2
    places = {name: f"part-{int(i >= half)}.safetensors" for i, name in enumerate(tensors)}
    for part in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == part}, folder / part)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert fingerprint.of(str(folder)) == wanted


def test_a_pickle_has_a_fingerprint_of_its_bytes(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    first = fingerprint.of(str(folder))
    tensors[next(iter(tensors))] += 1
    torch.save(tensors, folder / "pytorch_model.bin")
    assert fingerprint.of(str(folder)) != first


def test_an_adapter_names_the_fingerprint_of_its_base_or_none(tmp_path):
    assert fingerprint.recorded(str(tmp_path)) is None
    (tmp_path / fingerprint.ORIGIN).write_bytes(fingerprint.record("f" * 40))
    assert fingerprint.recorded(str(tmp_path)) == "f" * 40
    (tmp_path / fingerprint.ORIGIN).write_text("{}")
    with pytest.raises(ModelError, match="has no base_fingerprint; copy it again, or delete it"):
        fingerprint.recorded(str(tmp_path))
