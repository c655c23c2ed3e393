"""Conversions of a network to another dtype, in place, that keep the numbers which rounding would spoil."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel


def cast(network: torch.nn.Module, dtype: torch.dtype) -> None:
    """Convert a network to a dtype, in place, except rotary frequencies: rounding them shifts distant positions."""
    kept = [
        (module, name, buffer)
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if "inv_freq" in name
    ]
    network.to(dtype=dtype)
    for module, name, exact in kept:
        setattr(module, name, exact)


@contextmanager
def in_float32(network: PreTrainedModel, mapped: bool = False) -> Iterator[None]:
    """Convert a network to float32 within the block; afterwards its numbers are exactly as before.

    Args:
        network: the network.
        mapped: whether its weights are maps of their file, which take no memory meanwhile and are put back, so that
            processes share them; others are released and converted back.
    """
    rounded = [
        (tensor, tensor.dtype, tensor.data if mapped else None)
        for tensor in (*network.parameters(), *network.buffers())
        if tensor.is_floating_point() and tensor.dtype != torch.float32
    ]
    for tensor, _, _ in rounded:
        tensor.data = tensor.data.float()
    try:
        yield
    finally:
        for tensor, dtype, before in rounded:
            tensor.data = tensor.data.to(dtype) if before is None else before
