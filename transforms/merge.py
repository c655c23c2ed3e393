"""A base and an adapter as one model folder, for tools that know nothing of adapters."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PretrainedConfig

from transforms import adapter as adapters
from transforms import output_folder, virtual_tokens
from transforms.architecture import resolve
from transforms.checkpoint import pretrained, weights
from transforms.checkpoint import tokenizer as tokenizers
from transforms.checkpoint.loading import explaining, require_all
from transforms.errors import ModelError
from transforms.model import tokenizer_folder
from transforms.reference import ModelRef, read_config

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
SMALL_FILES = (".json", ".txt", ".model", ".spm", ".tiktoken", ".jinja")


def merge(ref: ModelRef, architecture: str | type, folder: Path) -> None:
    """Write a base with an adapter merged into its weights as one model folder, tokenizer included.

    Weights are merged in float32 and stored in the dtype of the base's. A task gives the same results with the folder
    as with base and adapter, if the base is stored in float32 or the task computes in the dtype of the base.

    Args:
        ref: base and adapter.
        architecture: a task's ARCHITECTURE.
        folder: where to write; must not exist or be empty.

    Raises:
        ModelError: the adapter does not fit the base, is of a kind that cannot be merged, or the folder has files.
    """
    assert ref.adapter is not None
    output_folder.check(folder)
    adapters.check_weights(ref.adapter, ref.path)
    config = read_config(ref)
    with explaining(ref, "merge"):
        network = _merged(ref, config, architecture)
    if virtual_tokens.count(network):
        raise ModelError(
            f"adapter {ref.adapter!r} puts trained vectors before each text, which cannot be merged into weights; use "
            "it as an adapter"
        )
    stored = {tensor.dtype for tensor in weights.read(weights.find(ref.path)).values() if tensor.dtype in DTYPES}
    network.to(dtype=DTYPES[stored.pop()] if len(stored) == 1 else torch.float32)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".merge-") as temporary:
        whole = Path(temporary) / "model"
        _copy_small_files(Path(ref.path), whole)
        generation = Path(ref.path) / "generation_config.json"
        if generation.is_file():
            # transformers refuses to save some of the settings that it reads.
            network.generation_config = GenerationConfig()
        network.save_pretrained(whole)
        if generation.is_file():
            shutil.copyfile(generation, whole / generation.name)
        if (tokenizer := tokenizer_folder(ref)) != ref.path:
            tokenizers.read(tokenizer, config, ref.trusted).save_pretrained(whole)
        if folder.exists():
            folder.rmdir()
        whole.rename(folder)


def _merged(ref: ModelRef, config: PretrainedConfig, architecture: str | type) -> Any:
    """The network in float32 with the adapter in its weights."""
    assert ref.adapter is not None
    loader = resolve(architecture)
    network, missing = pretrained.load(
        loader, ref.path, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
    )
    network, missing = adapters.lay(network, ref.adapter, missing)
    require_all(missing, ref, loader.__name__)
    return network


def _copy_small_files(source: Path, target: Path) -> None:
    """Copy everything but weights, such as the tokenizer and the modules of sentence-transformers."""
    for file in sorted(source.rglob("*")):
        name = file.relative_to(source)
        hidden = any(part.startswith(".") for part in name.parts)
        if file.is_file() and file.suffix in SMALL_FILES and not hidden and not file.name.endswith(".index.json"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / name)
