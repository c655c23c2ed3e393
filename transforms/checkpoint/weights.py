"""The tensors that a model folder stores: their names and shapes, from the headers of its weight files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from transforms.checkpoint import files
from transforms.errors import ModelError

# Names of weight files, in the order in which transformers looks for them.
NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
ADAPTER_NAMES = ("adapter_model.safetensors", "adapter_model.bin")

# File ending of weights -> format, for the message about a folder without a file that transformers loads.
OTHERS = {
    ".h5": "TensorFlow",
    ".msgpack": "Flax",
    ".ckpt": "TensorFlow",
    ".gguf": "llama.cpp",
    ".onnx": "ONNX",
    ".ot": "Rust",
    ".bin": "PyTorch",
    ".safetensors": "safetensors",
    ".pt": "PyTorch",
    ".pth": "PyTorch",
}


@dataclass(frozen=True)
class Stored:
    """A tensor in a weight file.

    Attributes:
        file: the file that contains it.
        shape: its shape.
        dtype: its type as named by safetensors, such as F32; as named by torch if the file is a pickle.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: str


def find(folder: str, names: tuple[str, ...] = NAMES, what: str = "model") -> Path:
    """The weight file, or the index of weight files, that transformers (or PEFT) would load.

    Raises:
        ModelError: there is no such file.
    """
    for name in names:
        if (file := Path(folder) / name).is_file():
            return file
    kinds = (name for name in names if not name.endswith(".index.json"))
    there = [file.name for file in sorted(Path(folder).iterdir()) if file.suffix in OTHERS]
    others = "".join(f", only {name} (for {OTHERS[Path(name).suffix]})" for name in there[:1])
    raise ModelError(
        f"{what} {folder!r} has no weights: neither {' nor '.join(kinds)} is there{others}; "
        "copy the file, or save the weights again with save_pretrained"
    )


def are_in(folder: str) -> bool:
    """Whether a model folder has weights."""
    return any((Path(folder) / name).is_file() for name in NAMES)


def read(file: Path) -> dict[str, Stored]:
    """Names and shapes of all tensors in a weight file, or in all files that an index names.

    Args:
        file: a result of `find`.

    Raises:
        ModelError: a file is missing, truncated, a Git LFS pointer, or not in the format that its name says.
    """
    if file.name.endswith(".index.json"):
        return _sharded(file)
    return _safetensors(file) if file.suffix == ".safetensors" else _pickle(file)


def _sharded(index: Path) -> dict[str, Stored]:
    places = files.read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise ModelError(f"{index} has no weight_map that says which file holds which tensor; copy it again")
    names = sorted(set(places.values()))
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise ModelError(
            f"{len(missing)} of the {len(names)} weight files of {index} are missing ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}); copy them from where the model came from"
        )
    stored = {name: tensor for shard in names for name, tensor in read(index.parent / shard).items()}
    if lost := next((name for name in places if name not in stored), None):
        raise ModelError(f"{index} says that {places[lost]} holds {lost}, which it does not; copy both files again")
    return stored


def _safetensors(file: Path) -> dict[str, Stored]:
    files.require(file, "weights")
    try:
        # The library compares the length of the file with what its header describes.
        with safe_open(file, "numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}
            return {name: Stored(file, tuple(s.get_shape()), str(s.get_dtype())) for name, s in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{file} {_damage(file)}; copy it again from where the model came from") from error


def _damage(file: Path) -> str:
    """Describe the damage of a safetensors file that cannot be opened."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        # The format allows headers up to 100 MB.
        if size < 8 or length > 100_000_000:
            return "is not a safetensors file"
        if length > size - 8:
            return f"is truncated: it has {size:,} bytes, and its header alone needs {length + 8:,}"
        try:
            header = json.loads(stream.read(length))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return "is not a safetensors file: its header cannot be read"
    whole = 8 + length + max(ends, default=0)
    if size < whole:
        return f"is truncated: it has {size:,} of {whole:,} bytes"
    return "is damaged: its header does not describe what follows it"


def _pickle(file: Path) -> dict[str, Stored]:
    import torch

    files.require(file, "weights")
    try:
        # On the meta device only shapes are read, no data.
        content = torch.load(file, map_location="meta", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{file} cannot be read as PyTorch weights: it is truncated, or holds more than tensors; "
            "copy it again, or save the weights as safetensors"
        ) from error
    return dict(_tensors(file, content))


def _tensors(file: Path, content: Any) -> Iterator[tuple[str, Stored]]:
    if not isinstance(content, dict):
        raise ModelError(
            f"{file} holds {type(content).__name__}, and tensors by name are needed; save the weights again"
        )
    for name, tensor in content.items():
        if hasattr(tensor, "shape"):
            yield str(name), Stored(file, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
