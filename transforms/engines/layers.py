"""Replaces the linear layers of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeGuard

from torch import nn
from transformers.activations import GELUActivation

# Attributes (linear, activation) of modules in which the activation directly follows the linear layer: names of BERT,
# RoBERTa, ELECTRA, DeBERTa and similar models, of DistilBERT, of BART-like models, and of our own `EncoderLayer`.
FOLLOWED = (
    ("dense", "intermediate_act_fn"),
    ("lin1", "activation"),
    ("fc1", "activation_fn"),
    ("up", "activation"),
)

# Parent module, attribute name, replaced module.
Replaced = list[tuple[nn.Module, str, nn.Module]]


def replace_linear(network: nn.Module, make: Callable[[nn.Linear, bool], nn.Module]) -> Replaced:
    """Replace every linear layer of a network by `make(linear, gelu)`, in place.

    Only plain nn.Linear, because a subclass may use its weights in another way. Tied weights are no longer tied
    afterwards. If an exact GELU directly follows a layer, the new layer includes it and the activation becomes the
    identity.

    Returns:
        The replaced modules, for `put_back`.
    """
    replaced: Replaced = []

    def put(module: nn.Module, name: str, new: nn.Module) -> None:
        replaced.append((module, name, getattr(module, name)))
        setattr(module, name, new)

    for module in list(network.modules()):
        for linear, activation in FOLLOWED:
            if _is_linear(getattr(module, linear, None)) and _is_gelu(getattr(module, activation, None)):
                put(module, linear, make(getattr(module, linear), True))
                put(module, activation, nn.Identity())
        for name, child in list(module.named_children()):
            if _is_linear(child):
                put(module, name, make(child, False))
    return replaced


def put_back(replaced: Replaced) -> Replaced:
    """Undo `replace_linear`; returns the new layers, with which another call undoes this one."""
    new: Replaced = []
    for module, name, old in reversed(replaced):
        new.append((module, name, getattr(module, name)))
        setattr(module, name, old)
    return new


def linear_layers(network: nn.Module) -> Iterator[nn.Linear]:
    """The layers that `replace_linear` would replace."""
    return (module for module in network.modules() if _is_linear(module))


def _is_linear(module: object) -> TypeGuard[nn.Linear]:
    # MobileBERT can have a layer without any outputs.
    return type(module) is nn.Linear and module.weight.numel() > 0


def _is_gelu(activation: object) -> bool:
    exact = isinstance(activation, nn.GELU) and activation.approximate == "none"
    return exact or (isinstance(activation, GELUActivation) and activation.act is nn.functional.gelu)
