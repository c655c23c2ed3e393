"""Put the layers that compute each row with its own adapter in the place of those of the base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from transforms.by_row.layers import LowRankEmbedding, OwnModule, linear
from transforms.by_row.selection import Selection
from transforms.by_row.terms import Adapter


def install(network: Any, adapters: Sequence[Adapter | None], selection: Selection) -> None:
    """Replace the layers that the adapters change, in place.

    Args:
        network: the base in float32, before any of its layers is packed or fused.
        adapters: its adapters, by number; None for the base alone.
        selection: the adapters of the current forward pass.
    """
    known = [adapter for adapter in adapters if adapter is not None]
    own = sorted({name for adapter in known for name in adapter.own})
    linears = sorted({name for adapter in known for name in adapter.terms})
    embeddings = sorted({name for adapter in known for name in adapter.embeddings})
    for name in linears:
        terms = [None if adapter is None else adapter.terms.get(name) for adapter in adapters]
        _put(network, name, linear(network.get_submodule(name), terms, selection))
    for name in embeddings:
        terms = [None if adapter is None else adapter.embeddings.get(name) for adapter in adapters]
        _put(network, name, LowRankEmbedding(network.get_submodule(name), terms, selection))
    for name in own:
        modules = [None if adapter is None else adapter.own.get(name) for adapter in adapters]
        _put(network, name, OwnModule(network.get_submodule(name), modules, selection))


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
