"""The network of a model folder on torch's meta device: shapes without weights, compared with the stored tensors.

transformers' own loading code maps stored tensors to parameters, including names from older versions. It gets tensors
without data, so this takes a tenth of a second for 8 billion parameters.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.utils import logging

from transforms.checkpoint import files
from transforms.checkpoint.weights import Stored
from transforms.errors import ModelError

# Dtypes of quantised weights; their numbers have no meaning without the scales, which are stored separately.
QUANTISED = ("I8", "U8", "F8_E4M3", "F8_E5M2", "F4", "int8", "uint8", "float8_e4m3fn", "float8_e5m2")


def build(
    folder: str,
    config: PretrainedConfig,
    architecture: Any,
    stored: dict[str, Stored],
    adapter: str | None = None,
    trusted: bool = False,
) -> tuple[PreTrainedModel, set[str]]:
    """Build the network without data, and find the parameters that its weight files lack.

    Args:
        folder: folder of the model.
        config: its configuration, including the labels of an adapter.
        architecture: the class that loads it, such as AutoModelForTokenClassification.
        stored: the tensors in its weight files.
        adapter: folder of an adapter that may contain missing tensors.
        trusted: whether code that the folder brings along may be run.

    Returns:
        The network on the meta device, and the names of the parameters that have no stored tensor.

    Raises:
        ModelError: config.json does not describe a network, or its sizes differ from those of the stored tensors.
    """
    _check_types(stored, config)
    tensors = {name: torch.empty(tensor.shape, device="meta") for name, tensor in stored.items()}
    verbosity, shows_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # On the meta device nothing has a value; to ask for random ones imports torch's compiler, and takes half a
        # second for a Marian model.
        with warnings.catch_warnings(), no_init_weights():
            warnings.simplefilter("ignore")
            with torch.device("meta"):
                kind: Any = type(architecture.from_config(config, **({"trust_remote_code": True} if trusted else {})))
            shapes_only: Any = type(kind.__name__, (kind,), {"initialize_weights": lambda self: None})
            network, report = shapes_only.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                device_map={"": "meta"},
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    # An inconsistent configuration can raise any exception anywhere in the network's code.
    except Exception as error:
        if quantised := getattr(config, "quantization_config", None):
            kind = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
            raise ModelError(
                f"{Path(folder) / 'config.json'} says that the weights are quantised ({kind}), which cannot be read "
                f"here ({files.first_line(error)}); choose the version of the model in float32, bfloat16 or float16"
            ) from error
        raise ModelError(
            f"{Path(folder) / 'config.json'} does not describe a network for {architecture.__name__} "
            f"({files.first_line(error)}); correct it, or choose a model that was trained for this task"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()
    # Tasks look for further files in this folder.
    network.config.name_or_path = network.name_or_path = folder
    unread = getattr(architecture, "UNREAD", ())
    mismatched = sorted(report["mismatched_keys"])
    if mismatched and adapter is None:
        raise _other_shape(folder, config, *mismatched[0])
    missing = {key for key in report["missing_keys"] if not key.startswith(unread)}
    return network, missing | {key for key, *_ in mismatched}


def _check_types(stored: dict[str, Stored], config: PretrainedConfig) -> None:
    if getattr(config, "quantization_config", None):
        return
    for name, tensor in stored.items():
        if tensor.dtype in QUANTISED and len(tensor.shape) > 1:
            raise ModelError(
                f"{tensor.file} holds {name} as {tensor.dtype}, and config.json has no quantization_config that says "
                "how to read it; choose the version of the model in float32, bfloat16 or float16"
            )


def _other_shape(folder: str, config: PretrainedConfig, key: str, stored: Any, wanted: Any) -> ModelError:
    file = Path(folder) / "config.json"
    had, asked = ("×".join(map(str, shape)) for shape in (stored, wanted))
    if len(stored) <= 2 and tuple(stored[1:]) == tuple(wanted[1:]) and wanted[0] == config.num_labels:
        return ModelError(
            f"{file} has {config.num_labels} labels, and the stored {key} has outputs for {stored[0]}; "
            "give id2label one label for each output"
        )
    return ModelError(
        f"{file} describes another network than the one stored beside it: {key} is {had} in the weights and {asked} by "
        "the configuration; copy both from the same model"
    )
