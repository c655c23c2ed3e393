"""An adapter folder -> its low-rank terms and its own modules, read once PEFT has named the layers that it changes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transforms import adapter as adapters
from transforms.by_row import kind
from transforms.by_row.layers import Term
from transforms.checkpoint import weights
from transforms.errors import ModelError

# What PEFT's save_pretrained puts before the name of a module.
PREFIX = "base_model.model."

# (folder) -> a network of the base on the meta device, with as many labels as the adapter has.
Build = Callable[[str], Any]


@dataclass(frozen=True)
class Layer:
    """A layer that an adapter changes.

    Attributes:
        kind: linear or embedding.
        down: key of its first matrix in the adapter's weights.
        up: key of its second matrix.
        scaling: what PEFT multiplies the term by: alpha / rank, or alpha / sqrt(rank) for rsLoRA.
    """

    kind: str
    down: str
    up: str
    scaling: float


@dataclass(frozen=True)
class Structure:
    """What adapters of the same adapter_config.json and the same head have in common.

    Attributes:
        layers: name of a module -> how the adapter changes it.
        own: name of a module -> the same module without data, in the size of the adapter's head.
        shapes: keys of the adapter's weights -> their shapes.
    """

    layers: dict[str, Layer]
    own: dict[str, nn.Module]
    shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Adapter:
    """An adapter, ready to be put into layers.

    Attributes:
        terms: name of a layer -> its term.
        embeddings: name of an embedding -> its term.
        own: name of a module -> the adapter's own.
    """

    terms: dict[str, Term]
    embeddings: dict[str, Term]
    own: dict[str, nn.Module]


class Reader:
    """Reads the adapters of one base; PEFT is asked once for adapters of the same structure.

    Args:
        build: makes a network of the base without data.
    """

    def __init__(self, build: Build):
        self.build = build
        self.known: dict[str, Structure] = {}

    def structure(self, adapter: str) -> Structure:
        """What an adapter changes in the base.

        Raises:
            ModelError: it does not fit the base, is incomplete, or is no plain LoRA.
        """
        kind.check(adapter)
        stored = weights.read(weights.find(adapter, weights.ADAPTER_NAMES, "adapter"))
        content = adapters.read(adapter) | {"base_model_name_or_path": "", "revision": None}
        heads = sorted((key, stored[key].shape) for key in stored if "lora_" not in key)
        name = json.dumps([content, heads], sort_keys=True)
        shapes = {key: tensor.shape for key, tensor in stored.items()}
        if (found := self.known.get(name)) is None or found.shapes != shapes:
            found = self.known[name] = _ask(self.build(adapter), adapter)
        if found.shapes != shapes:
            odd = sorted(found.shapes.items() ^ shapes.items())[0][0]
            raise ModelError(f"adapter {adapter!r} has other weights than its adapter_config.json says, such as {odd}")
        return found

    def read(self, adapter: str) -> Adapter:
        """An adapter with its weights, in float32.

        Raises:
            ModelError: see `structure`.
        """
        structure = self.structure(adapter)
        tensors = _tensors(weights.find(adapter, weights.ADAPTER_NAMES, "adapter"))
        found = Adapter({}, {}, {})
        for name, layer in structure.layers.items():
            target = found.embeddings if layer.kind == "embedding" else found.terms
            target[name] = Term(tensors[layer.down].T.contiguous(), tensors[layer.up].T.contiguous() * layer.scaling)
        for name, module in structure.own.items():
            own = copy.deepcopy(module)
            state = {key.removeprefix(f"{PREFIX}{name}."): t for key, t in tensors.items() if _is_in(key, name)}
            own.load_state_dict(state, assign=True)
            found.own[name] = own.requires_grad_(False).eval()
        return found


def _is_in(key: str, module: str) -> bool:
    return key.startswith(f"{PREFIX}{module}.")


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        loaded: dict[str, torch.Tensor] = load_file(file)
    else:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in loaded.items()}


def _ask(network: Any, adapter: str) -> Structure:
    """Let PEFT lay the adapter over a network without data, and note what it changes."""
    from peft import get_peft_model_state_dict
    from peft.tuners.lora import layer as lora
    from peft.utils import AuxiliaryTrainingWrapper, ModulesToSaveWrapper

    embedding, shared = network.get_input_embeddings(), _shared(network)
    laid: Any = adapters.applied(network, adapter)
    layers: dict[str, Layer] = {}
    own: dict[str, nn.Module] = {}
    for name, module in laid.base_model.model.named_modules():
        if isinstance(module, ModulesToSaveWrapper):
            if module.original_module is embedding:
                raise ModelError(
                    f"adapter {adapter!r} has embeddings of its own (modules_to_save: {name}), and adapters by row "
                    "share those of the base; use `adapter:` in a task of its own for it"
                )
            own[name] = module.modules_to_save["default"]
        elif isinstance(module, AuxiliaryTrainingWrapper):
            raise ModelError(
                f"adapter {adapter!r} trains {name} in a way that adapters by row cannot share a batch with"
            )
        elif isinstance(module, lora.LoraLayer):
            if id(getattr(module.get_base_layer(), "weight", None)) in shared:
                raise ModelError(
                    f"adapter {adapter!r} changes {name}, whose weights the base uses in several layers, and adapters "
                    "by row leave those as they are; use `adapter:` in a task of its own for it"
                )
            layers[name] = _layer(adapter, name, module, lora)
    shapes = {key: tuple(tensor.shape) for key, tensor in get_peft_model_state_dict(laid).items()}
    return Structure(layers, own, shapes)


def _layer(adapter: str, name: str, module: Any, lora: Any) -> Layer:
    scaling = float(module.scaling["default"])
    if type(module) is lora.Linear and module.lora_variant.get("default") is None:
        return Layer("linear", f"{PREFIX}{name}.lora_A.weight", f"{PREFIX}{name}.lora_B.weight", scaling)
    if type(module) is lora.Embedding and module.lora_variant.get("default") is None:
        return Layer("embedding", f"{PREFIX}{name}.lora_embedding_A", f"{PREFIX}{name}.lora_embedding_B", scaling)
    kind = type(module.get_base_layer()).__name__
    raise ModelError(
        f"adapter {adapter!r} changes {name}, a {kind}, and adapters by row may change linear layers and embeddings "
        "only; use `adapter:` in a task of its own for it"
    )


def _shared(network: nn.Module) -> set[int]:
    """The ids of weights that more than one module holds, such as those of the embeddings and the language head."""
    seen: set[int] = set()
    shared: set[int] = set()
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            (shared if id(parameter) in seen else seen).add(id(parameter))
    return shared
