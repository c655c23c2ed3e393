"""Linear layers in oneDNN's own weight layout, for CPUs where torch's default matrix product is the slow one.

Measured on a 2-core EPYC with avx512_bf16, DistilBERT's shapes, 1,024 rows: float32 170 -> 220 GFLOP/s, bfloat16
420 -> 440. The weights are laid out once, at load; results differ from nn.Linear's in the last bits (2e-6).
"""

from __future__ import annotations

import torch
from torch import nn


class PackedLinear(nn.Module):
    """nn.Linear for inference: `(..., in)` -> `(..., out)`."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        # Some architectures ask for weight.dtype in their forward.
        self.register_buffer("weight", linear.weight.detach().new_empty(0), persistent=False)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply and add the bias."""
        return torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, "none", [], "")


def available(dtype: torch.dtype) -> bool:
    """Whether this build of torch has the operators and this CPU computes the dtype natively in them."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    if dtype == torch.bfloat16:
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return dtype == torch.float32 and torch.cpu._is_avx512_supported()


def pack(network: nn.Module, dtype: torch.dtype) -> None:
    """Replace the linear layers of a network on the CPU, in place, where that is faster.

    Only plain nn.Linear: a subclass may mean something else by its weights. Tied weights stay tied to nothing.
    """
    if not available(dtype):
        return
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child))
