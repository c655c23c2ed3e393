"""A PEFT adapter folder: whether it fits a base model, its labels, and how it is applied to a network."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transforms.checkpoint import config as configs
from transforms.checkpoint import files, fingerprint, weights
from transforms.digest import digest
from transforms.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# Names that transformers' architectures give to the last layer of a classification head.
HEADS = ("classifier", "score", "out_proj")


def check(adapter: str, base: str, name: str) -> None:
    """Refuse an adapter that was trained on another base, before any weights load.

    PEFT applies an adapter to any base of the same shape without a warning. If the adapter records a fingerprint of its
    base's weights, that must be equal. Otherwise the base that adapter_config.json names must be this one: the same
    name, the same folder, or a folder with the same contents.

    Args:
        adapter: adapter folder.
        base: model folder.
        name: the model as the job file names it (a Hub name or a folder).

    Raises:
        ModelError: the folder has no adapter, or its adapter is for another base.
    """
    trained_on = read(adapter).get("base_model_name_or_path") or ""
    if fingerprint.recorded(adapter) is not None:
        # The weights of a model on the Hub may not be here yet when a run is planned. `transforms.rehearsal` compares
        # them once they are; their name says nothing that they do not.
        if weights.are_in(base):
            check_weights(adapter, base)
        return
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


def check_weights(adapter: str, base: str) -> None:
    """Refuse an adapter that records the fingerprint of other weights than those of the base.

    Args:
        adapter: adapter folder.
        base: model folder, weights included.

    Raises:
        ModelError: the weights differ.
    """
    wanted = fingerprint.recorded(adapter)
    if wanted is not None and fingerprint.of(base) != wanted:
        raise ModelError(
            f"adapter {adapter!r} was trained on other weights than those of {base!r}, whatever the names are; "
            "use the model that it was trained on, or train it again"
        )


def read(folder: str) -> dict[str, Any]:
    """The adapter_config.json of a PEFT adapter folder.

    Raises:
        ModelError: the file is missing, or has values of other types than PEFT writes.
    """
    file = Path(folder) / "adapter_config.json"
    if not file.is_file():
        raise ModelError(
            f"adapter {folder!r} has no adapter_config.json; give a folder that PEFT's save_pretrained wrote"
        )
    content = files.read_json(file)
    if not isinstance(content.get("peft_type"), str):
        raise ModelError(f"{file} has no peft_type, such as LORA; give a folder that PEFT's save_pretrained wrote")
    if not isinstance(content.get("base_model_name_or_path") or "", str):
        raise ModelError(f"{file} has a base_model_name_or_path that is not a string; write the name of the base model")
    saved = content.get("modules_to_save") or []
    if not isinstance(saved, list) or not all(isinstance(name, str) for name in saved):
        raise ModelError(f"{file} has modules_to_save {saved!r}; give a list of names, such as ['classifier']")
    return content


def with_labels(config: PretrainedConfig, adapter: str) -> PretrainedConfig:
    """Use the labels of an adapter with its own head: those in its config.json, else LABEL_0 ... LABEL_n.

    Raises:
        ModelError: the adapter's own config.json has more or fewer labels than its head has outputs.
    """
    read(adapter)
    own, size = Path(adapter) / "config.json", _head_size(adapter)
    if own.is_file():
        labels = configs.read(adapter)
        if size is not None and size != labels.num_labels:
            raise ModelError(
                f"{own} has {labels.num_labels} labels, and the adapter's head has {size} outputs; "
                "give id2label one label for each output"
            )
        config.id2label, config.label2id = labels.id2label, labels.label2id
        config.problem_type = labels.problem_type
    elif size is not None and size != config.num_labels:
        config.num_labels = size
    return config


def lay(network: PreTrainedModel, adapter: str, missing: set[str]) -> tuple[PreTrainedModel, set[str]]:
    """Load a PEFT adapter, head included, and merge it into the weights if its kind can be merged.

    Args:
        network: the base; on the meta device to learn only whether the adapter fits.
        adapter: adapter folder.
        missing: parameters that the model's own weight files do not contain.

    Returns:
        The network with its adapter, and the parameters that are still missing.

    Raises:
        ModelError: the adapter does not fit the network, or lacks weights.
    """
    from transforms import device, virtual_tokens

    if elsewhere := device.kept_elsewhere(network):
        raise ModelError(
            f"the model does not fit on the GPUs here, and adapter {adapter!r} cannot be applied to layers that are "
            f"kept in memory or on disk ({elsewhere}); write a whole model with `nightscribe adapters merge` first"
        )
    saved = set(read(adapter).get("modules_to_save") or ())
    laid = applied(network, adapter)
    still = {key for key in missing if not saved.intersection(key.split("."))}
    if virtual_tokens.count(laid):
        virtual_tokens.settle(laid)
        # A language model's next token is read at the last position, so the positions before it may stay.
        if not network.can_generate():
            virtual_tokens.hide(laid)
        return laid, still
    return _merged(laid), still


def applied(network: PreTrainedModel, adapter: str) -> Any:
    """The network as a PeftModel with an adapter, head included, not merged.

    Args:
        network: the base; on the meta device to learn only whether the adapter fits.
        adapter: adapter folder.

    Raises:
        ModelError: the adapter does not fit the network, or lacks weights.
    """
    from peft import PeftModel

    from transforms import device as devices
    from transforms import virtual_tokens

    weights.read(weights.find(adapter, weights.ADAPTER_NAMES, "adapter"))
    _check_kind(adapter, network)
    # PEFT only warns of missing adapter weights; an adapter that is applied in part gives wrong results.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            config = virtual_tokens.settings(adapter)
            laid: Any = PeftModel.from_pretrained(network, adapter, config=config, torch_device="cpu")
        except KeyError as error:
            raise ModelError(
                f"adapter {adapter!r} lacks weights, such as {error.args[0]}; copy its file again"
            ) from error
        # Each kind of adapter raises its own exception for a base of another shape.
        except Exception as error:
            raise _misfit(adapter, error) from error
    for warning in caught:
        if "missing adapter keys" in (said := str(warning.message)).lower():
            first = re.search(r"'([^']+)'", said)
            what = first.group(1) if first else "some of its layers"
            raise ModelError(f"adapter {adapter!r} lacks weights, such as {what}; copy its file again")
    if devices.of(network).type == "meta":
        _check_all_used(laid, adapter)
    return laid


def _merged(laid: Any) -> PreTrainedModel:
    """The base of a PeftModel with the adapter in its weights, and the adapter's head."""
    from peft.utils import ModulesToSaveWrapper

    # PEFT takes every head for a single layer when it puts it back (peft 0.21.2, all kinds but LoRA), and RoBERTa's is
    # not: 'RobertaClassificationHead' object has no attribute 'weight'.
    for name, module in list(laid.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            own = module.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
            laid.set_submodule(name, own)
    merged: PreTrainedModel = laid.merge_and_unload()
    return merged


def _check_kind(adapter: str, network: PreTrainedModel) -> None:
    """Refuse a kind of adapter that PEFT does not have or the network cannot take, or options unknown to PEFT."""
    import peft
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig

    from transforms import virtual_tokens

    file = Path(adapter) / "adapter_config.json"
    kind = read(adapter)["peft_type"]
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ModelError(
            f"{file} has peft_type {kind!r}, which PEFT {peft.__version__} does not have; "
            f"choose an adapter of another kind, such as LORA"
        )
    try:
        config = PeftConfig.from_pretrained(adapter)
    except Exception as error:
        raise ModelError(
            f"{file} cannot be read by PEFT {peft.__version__} ({files.first_line(error)}); "
            "correct that key, or copy the file again"
        ) from error
    if config.is_prompt_learning:
        virtual_tokens.check(adapter, config, network)


def _check_all_used(laid: Any, adapter: str) -> None:
    """Refuse an adapter with weights for layers that the network does not have; PEFT ignores them silently."""
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: Any = set_peft_model_state_dict(laid, load_peft_weights(adapter, device="cpu"))
    unused = [key for key in result.unexpected_keys if key.startswith("base_model.")]
    if unused:
        raise ModelError(
            f"adapter {adapter!r} has weights for layers that its base does not have, such as {unused[0]}; "
            "use the base model that it was trained on"
        )


def _misfit(adapter: str, error: Exception) -> ModelError:
    """PEFT's error for an adapter that does not fit, as one sentence."""
    sizes = re.search(r"size mismatch for (\S+): .*?Size\(\[([\d, ]*)\]\).*?Size\(\[([\d, ]*)\]\)", str(error))
    targets = read(adapter).get("target_modules")
    if not sizes and "target" in str(error) and targets:
        listed = targets if isinstance(targets, str) else ", ".join(sorted(map(str, targets))[:4])
        what = f": no layer of the base is called {listed} (its target_modules)"
    elif isinstance(error, TypeError):
        what = f": its adapter_config.json has a value of a wrong type ({files.first_line(error)})"
    elif not sizes:
        what = f"({files.first_line(error)})"
    else:
        name, had, wanted = sizes.groups()
        what = f": {name} is {had.replace(', ', '×')} in the adapter and {wanted.replace(', ', '×')} in the base"
    return ModelError(
        f"adapter {adapter!r} does not fit its base {what}; use the base model that it was trained on".replace(
            " :", ":"
        )
    )


def _head_size(adapter: str) -> int | None:
    """Outputs of the head in an adapter's weights; None without a head, or before its weights are downloaded."""
    present = [Path(adapter) / name for name in weights.ADAPTER_NAMES if (Path(adapter) / name).is_file()]
    for key, tensor in weights.read(present[0]).items() if present else ():
        layer, _, kind = key.rpartition(".")
        if kind == "weight" and layer.rpartition(".")[2] in HEADS and "lora_" not in key:
            return tensor.shape[0]
    return None
