"""Processes share the weights that stay maps of their file: one copy in memory, however many load the model."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from transforms import model
from transforms.reference import ModelRef

MAPS = Path("/proc/self/maps")

pytestmark = pytest.mark.skipif(not MAPS.exists(), reason="only Linux says which addresses are maps of a file")


def mapped_file(tensor):
    """The file that a tensor's memory is a map of; no file if it is memory of this process."""
    for line in MAPS.read_text().splitlines():
        start, end = (int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
        if start <= tensor.data_ptr() < end:
            return line.split(maxsplit=5)[5] if len(line.split(maxsplit=5)) > 5 else ""
    return ""


def embeddings(folder, dtype):
    loaded = model.load(ModelRef(str(folder), dtype=dtype, device="cpu"), "AutoModelForSequenceClassification")
    return loaded.network.get_input_embeddings().weight


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_in_the_dtype_of_their_file_stay_a_map_of_it(tmp_path, models, dtype):
    folder = tmp_path / "model"
    shutil.copytree(models / "sentiment", folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype))
    network.save_pretrained(folder)
    weights = embeddings(folder, dtype)
    assert mapped_file(weights) == str(folder / "model.safetensors")
    assert torch.equal(weights, network.get_input_embeddings().weight)


def test_converted_weights_belong_to_the_process(models):
    assert "safetensors" not in mapped_file(embeddings(models / "sentiment", "bfloat16"))
