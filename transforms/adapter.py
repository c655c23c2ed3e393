"""A PEFT adapter folder: whether it fits a base, the labels it brings, and how it is laid over a network."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from transforms.digest import digest
from transforms.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# The last layer of a classification head, by the names transformers' architectures give it.
HEADS = ("classifier", "score", "out_proj")


def check(adapter: str, base: str, name: str) -> None:
    """Refuse an adapter that was trained on another base, before any weights load.

    PEFT lays an adapter over any base of the same shape without a word, so the base that adapter_config.json names
    must be this one: the same name, the same folder, or a folder with the same contents.

    Args:
        adapter: adapter folder.
        base: model folder.
        name: the model as the job file names it (a Hub name or a folder).

    Raises:
        ModelError: no adapter there, or one for another base.
    """
    trained_on = read(adapter).get("base_model_name_or_path") or ""
    if not trained_on:
        raise ModelError(f"adapter {adapter!r} does not name its base model; add base_model_name_or_path to it")
    if trained_on in (name, base) or Path(trained_on).resolve() == Path(base).resolve():
        return
    if Path(trained_on).is_dir() and digest(trained_on) == digest(base):
        return
    raise ModelError(
        f"adapter {adapter!r} was trained on {trained_on!r}, not on {name!r}; "
        f"use `model: {trained_on}`, or an adapter that was trained on this model"
    )


def read(folder: str) -> dict[str, Any]:
    """The adapter_config.json of a PEFT adapter folder.

    Raises:
        ModelError: there is none.
    """
    file = Path(folder) / "adapter_config.json"
    if not file.is_file():
        raise ModelError(
            f"adapter {folder!r} has no adapter_config.json; give a folder that PEFT's save_pretrained wrote"
        )
    return json.loads(file.read_text())


def with_labels(config: PretrainedConfig, adapter: str) -> PretrainedConfig:
    """Take over the labels of an adapter that brings its own head: its config.json's, else LABEL_0 ... LABEL_n."""
    read(adapter)
    own = Path(adapter) / "config.json"
    if own.is_file():
        from transformers import AutoConfig

        labels = AutoConfig.from_pretrained(adapter)
        config.id2label, config.label2id = labels.id2label, labels.label2id
        config.problem_type = labels.problem_type
    elif (size := _head_size(adapter)) is not None and size != config.num_labels:
        config.num_labels = size
    return config


def lay(network: PreTrainedModel, adapter: str, missing: set[str]) -> tuple[PreTrainedModel, set[str]]:
    """Load a PEFT adapter, head included, and merge it where its kind allows; what is still missing comes back."""
    from peft import PeftModel

    saved = set(read(adapter).get("modules_to_save") or ())
    # PEFT only warns of missing adapter weights; an adapter applied in part is not the adapter.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        laid = PeftModel.from_pretrained(network, adapter)
    for warning in caught:
        if "missing adapter keys" in str(warning.message).lower():
            raise ModelError(f"adapter {adapter!r} lacks weights: {str(warning.message)[:300]}")
    still = {key for key in missing if not saved.intersection(key.split("."))}
    merged: Any = laid.merge_and_unload() if hasattr(laid, "merge_and_unload") else laid
    return merged, still


def _head_size(adapter: str) -> int | None:
    weights = Path(adapter) / "adapter_model.safetensors"
    if not weights.is_file():
        return None
    with safe_open(weights, "pt") as file:
        for key in file.keys():
            *_, layer, kind = key.split(".")
            if kind == "weight" and layer in HEADS and "lora_" not in key:
                return int(file.get_slice(key).get_shape()[0])
    return None
