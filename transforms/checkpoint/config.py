"""Reads config.json of a model folder as a configuration of transformers; errors are one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transforms.checkpoint import files
from transforms.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def read(folder: str, trusted: bool = False) -> PretrainedConfig:
    """Read the config.json of a model folder; no other file is read, unless its code is trusted.

    Args:
        folder: the folder.
        trusted: whether code that the folder brings along may be run.

    Raises:
        ModelError: the folder or the file is missing, the file is not JSON or names no architecture that transformers
            has, or its labels are contradictory.
    """
    file = Path(folder) / "config.json"
    if not file.is_file():
        what = "has no config.json" if Path(folder).is_dir() else "is not a folder"
        raise ModelError(f"model {folder!r} {what}; give a folder that save_pretrained wrote, or a Hub name org/model")
    content = files.read_json(file)
    if not (trusted and content.get("auto_map")):
        _check_kind(file, content)
    _check_labels(file, content)
    import transformers

    try:
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    # Each configuration class validates its fields in its own way and raises its own exceptions.
    except Exception as error:
        raise ModelError(
            f"{file} cannot be read by transformers {transformers.__version__} ({files.first_line(error)}); "
            "correct that key, or copy the file again from where the model came from"
        ) from error


def _check_kind(file: Path, content: dict[str, Any]) -> None:
    """Refuse a configuration without an architecture: transformers would guess it from the name of the folder."""
    import transformers

    kind = content.get("model_type")
    if isinstance(kind, str) and kind in transformers.CONFIG_MAPPING:
        return
    if content.get("auto_map"):
        raise ModelError(
            f"{file} needs code from its own repository (auto_map), which runs only in a job that names it in "
            f"trust_remote_code; choose a model whose architecture is part of transformers {transformers.__version__}"
        )
    if "model_type" not in content:
        raise ModelError(f'{file} has no model_type; add it (such as "model_type": "bert"), or choose another model')
    raise ModelError(
        f"{file} has model_type {kind!r}, which transformers {transformers.__version__} does not know; "
        "correct it, or choose a model of another architecture"
    )


def _check_labels(file: Path, content: dict[str, Any]) -> None:
    """Refuse labels if their order or their number is ambiguous."""
    labels, number = content.get("id2label"), content.get("num_labels")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
        raise ModelError(f"{file} has num_labels {number!r}; give a whole number from 1")
    if labels is None:
        return
    if not isinstance(labels, dict):
        raise ModelError(f'{file} has an id2label that is not an object; write {{"0": "first label", "1": ...}}')
    ids = [int(key) for key in labels if str(key).isdecimal()]
    if sorted(ids) != list(range(len(labels))):
        raise ModelError(
            f"{file} has an id2label with the keys {', '.join(map(str, labels))[:80] or 'none'}; "
            "number the labels 0, 1, 2, ... in the order of the model's outputs"
        )
    if number is not None and number != len(labels):
        raise ModelError(f"{file} has num_labels {number}, and {len(labels)} labels in id2label; correct one of them")
