"""Walks over a network that replace its linear layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn
from transformers.activations import GELUActivation

# Modules in which a linear layer is followed by the activation and nothing in between: (linear, activation), as BERT,
# RoBERTa, ELECTRA, DeBERTa and their kin name them, DistilBERT, BART and its kin, and our own `EncoderLayer`.
FOLLOWED = (
    ("dense", "intermediate_act_fn"),
    ("lin1", "activation"),
    ("fc1", "activation_fn"),
    ("up", "activation"),
)


def replace_linear(network: nn.Module, make: Callable[[nn.Linear, bool], nn.Module]) -> None:
    """Replace every linear layer of a network by `make(linear, gelu)`, in place.

    Only plain nn.Linear: a subclass may mean something else by its weights. Tied weights stay tied to nothing. Where an
    exact GELU follows directly, the new layer is asked to include it and the activation becomes the identity.
    """
    for module in list(network.modules()):
        for linear, activation in FOLLOWED:
            if type(getattr(module, linear, None)) is nn.Linear and _is_gelu(getattr(module, activation, None)):
                setattr(module, linear, make(getattr(module, linear), True))
                setattr(module, activation, nn.Identity())
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, make(child, False))


def linear_layers(network: nn.Module) -> Iterator[nn.Linear]:
    """The layers that `replace_linear` would replace."""
    return (module for module in network.modules() if type(module) is nn.Linear)


def _is_gelu(activation: object) -> bool:
    exact = isinstance(activation, nn.GELU) and activation.approximate == "none"
    return exact or (isinstance(activation, GELUActivation) and activation.act is nn.functional.gelu)
