"""A model reference (folder, adapter, dtype, device) -> tokenizer + model, ready for inference on a device.

Nothing here reaches a network: a Hub repository was resolved to a folder before it got here.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from transforms import packed
from transforms.batches import padded
from transforms.errors import ModelError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# The last layer of a classification head, by the names transformers' architectures give it.
HEADS = ("classifier", "score", "out_proj")

# A tokenizer without a limit of its own says 1e30.
NO_LIMIT = 1_000_000


@dataclass(frozen=True)
class ModelRef:
    """Which weights to load and how; every field is already resolved, none says auto but `device`.

    Attributes:
        path: folder with config.json, tokenizer files and weights.
        adapter: PEFT adapter folder laid over it, or None.
        dtype: float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    path: str
    adapter: str | None = None
    dtype: str = "float32"
    device: str = "auto"


@dataclass(frozen=True)
class Model:
    """A loaded model: everything that a task needs to go from texts to logits.

    Attributes:
        tokenizer: its tokenizer, with a padding token.
        network: the module, in eval mode, on `device`, any adapter merged in.
        config: the network's configuration, with the adapter's labels where it has a head of its own.
        device: where the network is.
        max_length: tokens that fit in one sequence, special tokens included.
        inputs: names that the tokenizer makes and the network's forward takes.
    """

    tokenizer: PreTrainedTokenizerBase
    network: PreTrainedModel
    config: PretrainedConfig
    device: torch.device
    max_length: int
    inputs: frozenset[str]


def choose_device(device: str) -> torch.device:
    """The device that `auto` means here: the first GPU, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


def choose_dtype(dtype: str, device: str) -> str:
    """The dtype that `auto` means on a device: the fastest that the hardware computes natively.

    Decided by what the hardware says it has, not by a stopwatch: a noisy machine must not change the fingerprint.
    """
    if dtype != "auto":
        return dtype
    kind = choose_device(device)
    if kind.type == "cuda":
        major, _ = torch.cuda.get_device_capability(kind)
        return "bfloat16" if major >= 8 else "float16" if major >= 7 else "float32"
    if kind.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bfloat16"
    return "float32"


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
    try:
        config = AutoConfig.from_pretrained(folder)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(
            f"model {ref.path!r} cannot be read by transformers {transformers.__version__}: {error}"
        ) from error
    return config if ref.adapter is None else _with_adapter_labels(config, ref.adapter)


def digest(folder: str | Path) -> str:
    """A hash of every file below a folder, names and contents: the version of local weights."""
    total = hashlib.sha256()
    root = Path(folder)
    for file in sorted(path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts):
        total.update(file.relative_to(root).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:40]


def check_adapter(ref: ModelRef, name: str) -> None:
    """Refuse an adapter that was trained on another base, before any weights load.

    PEFT lays an adapter over any base of the same shape without a word, so the base that adapter_config.json names
    must be this one: the same name, the same folder, or a folder with the same contents.

    Args:
        ref: model folder and adapter folder.
        name: the model as the job file names it (a Hub name or a folder).

    Raises:
        ModelError: no adapter there, or one for another base.
    """
    if ref.adapter is None:
        return
    base = read_adapter(ref.adapter).get("base_model_name_or_path") or ""
    if not base:
        raise ModelError(f"adapter {ref.adapter!r} does not name its base model; add base_model_name_or_path to it")
    if base in (name, ref.path) or Path(base).resolve() == Path(ref.path).resolve():
        return
    if Path(base).is_dir() and digest(base) == digest(ref.path):
        return
    raise ModelError(
        f"adapter {ref.adapter!r} was trained on {base!r}, not on {name!r}; "
        f"use `model: {base}`, or an adapter that was trained on this model"
    )


def read_adapter(folder: str) -> dict[str, Any]:
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


def load(ref: ModelRef, architecture: Any) -> Model:
    """Load tokenizer and weights, lay the adapter over them, move them to the device.

    Args:
        ref: what to load.
        architecture: a transformers auto class, such as AutoModelForTokenClassification.

    Returns:
        The model in eval mode; LoRA-like adapters are merged, so they cost nothing per token.

    Raises:
        ModelError: weights are missing that the task needs (a head that was never trained).
    """
    device = choose_device(ref.device)
    dtype = DTYPES[choose_dtype(ref.dtype, ref.device)]
    config = read_config(ref)
    tokenizer = AutoTokenizer.from_pretrained(_tokenizer_folder(ref))
    # An adapter is merged in float32 and rounded once.
    network, report = architecture.from_pretrained(
        ref.path,
        config=config,
        dtype=torch.float32 if ref.adapter else dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=ref.adapter is not None,
    )
    missing = set(report["missing_keys"]) | {key for key, *_ in report.get("mismatched_keys", ())}
    if ref.adapter is not None:
        network, missing = _lay_adapter(network, ref.adapter, missing)
    if missing:
        raise ModelError(
            f"model {ref.path!r} has no weights for {', '.join(sorted(missing)[:4])}; "
            f"it was not trained for this task ({architecture.__name__})"
        )
    network = network.to(device=device, dtype=dtype).eval()
    if device.type == "cpu":
        packed.pack(network, dtype)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if network.config.pad_token_id is None:
        network.config.pad_token_id = tokenizer.pad_token_id
    return Model(
        tokenizer, network, network.config, device, _max_length(tokenizer, network), _inputs(tokenizer, network)
    )


def logits(model: Model, ids: list[list[int]]) -> torch.Tensor:
    """Logits of one batch of single-segment sequences, `(batch, labels)` or `(batch, seq, labels)`."""
    array = padded(ids, model.tokenizer.pad_token_id or 0)
    inputs = {"input_ids": torch.from_numpy(array)}
    if "attention_mask" in model.inputs:
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        inputs["attention_mask"] = torch.from_numpy((np.arange(array.shape[1]) < lengths[:, None]).astype(np.int64))
    with torch.inference_mode():
        return model.network(**{name: tensor.to(model.device) for name, tensor in inputs.items()}).logits


def _tokenizer_folder(ref: ModelRef) -> str:
    """An adapter that added tokens brings its tokenizer along."""
    return ref.adapter if ref.adapter and (Path(ref.adapter) / "tokenizer_config.json").is_file() else ref.path


def _with_adapter_labels(config: PretrainedConfig, adapter: str) -> PretrainedConfig:
    """Take over the labels of an adapter that brings its own head: its config.json's, else LABEL_0 ... LABEL_n."""
    read_adapter(adapter)
    own = Path(adapter) / "config.json"
    if own.is_file():
        labels = AutoConfig.from_pretrained(adapter)
        config.id2label, config.label2id = labels.id2label, labels.label2id
        config.problem_type = labels.problem_type
    elif (size := _head_size(adapter)) is not None and size != config.num_labels:
        config.num_labels = size
    return config


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


def _lay_adapter(network: PreTrainedModel, adapter: str, missing: set[str]) -> tuple[PreTrainedModel, set[str]]:
    """Load a PEFT adapter, head included, and merge it where its kind allows; what is still missing comes back."""
    from peft import PeftModel

    saved = set(read_adapter(adapter).get("modules_to_save") or ())
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


def _max_length(tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel) -> int:
    """The longest sequence that both the tokenizer and the position embeddings take."""
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < NO_LIMIT else []
    if isinstance(positions := getattr(network.config, "max_position_embeddings", None), int) and positions > 0:
        limits.append(positions - _first_position(network))
    return min(limits, default=512)


def _first_position(network: PreTrainedModel) -> int:
    """RoBERTa and its kin count positions from padding_idx + 1, so fewer tokens fit than there are embeddings."""
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0


def _inputs(tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel) -> frozenset[str]:
    taken = inspect.signature(network.forward).parameters
    return frozenset(name for name in tokenizer.model_input_names if name in taken)
