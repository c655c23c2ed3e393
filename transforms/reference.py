"""A model reference (folder, adapter, dtype, device, engine), and the configuration of the model that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transforms import adapter as adapters
from transforms.checkpoint import config as configs

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class ModelRef:
    """Which weights to load and how; all fields are resolved, only `device` may be auto.

    Attributes:
        path: folder with config.json, tokenizer files and weights.
        adapter: folder of a PEFT adapter to apply, or None.
        adapters: folders of adapters of which each row names one, or None for the base alone; empty if `adapter` is for
            all rows.
        dtype: float32, bfloat16, float16 or int8.
        device: auto, cpu, cuda, cuda:N or mps.
        engine: torch or onnx.
        trusted: whether code that the folder brings along may be run.
        device_map: auto, balanced or sequential, to spread the layers over all devices; None for one device.
        ranges: for int8 the ranges of the inputs of its linear layers; None to find them for each batch.
    """

    path: str
    adapter: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    engine: str = "torch"
    trusted: bool = False
    adapters: tuple[str | None, ...] = ()
    device_map: str | None = None
    ranges: Mapping[str, tuple[float, float]] | None = None


def read_config(ref: ModelRef) -> PretrainedConfig:
    """Read a model's configuration, labels of its adapter included, without loading any weights.

    Raises:
        ModelError: the folder is missing or has no model, or the adapter is missing.
    """
    config = configs.read(ref.path, ref.trusted)
    return config if ref.adapter is None else adapters.with_labels(config, ref.adapter)
