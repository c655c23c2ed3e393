"""A model reference (folder, adapter, dtype, device, engine), and the configuration of the model that it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transforms import adapter as adapters
from transforms.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class ModelRef:
    """Which weights to load and how; every field is already resolved, none says auto but `device`.

    Attributes:
        path: folder with config.json, tokenizer files and weights.
        adapter: PEFT adapter folder laid over it, or None.
        dtype: float32, bfloat16, float16 or int8.
        device: auto, cpu, cuda, cuda:N or mps.
        engine: torch or onnx.
    """

    path: str
    adapter: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    engine: str = "torch"


def read_config(ref: ModelRef) -> PretrainedConfig:
    """Read a model's configuration, labels of its adapter included, without loading any weights.

    Raises:
        ModelError: the folder is missing, is no model, or the adapter is missing.
    """
    folder = Path(ref.path)
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "is not a folder"
        raise ModelError(
            f"model {ref.path!r} {what}; give a folder that save_pretrained wrote, or a Hub name org/model"
        )
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(
            f"model {ref.path!r} cannot be read by transformers {transformers.__version__}: {error}"
        ) from error
    return config if ref.adapter is None else adapters.with_labels(config, ref.adapter)
