"""Linear layers with weights in oneDNN's own layout; a GELU after a layer is computed in the same pass.

Measured with DistilBERT's shapes, 1,024 rows, float32, in GFLOP/s: 2 cores of an EPYC with avx512_bf16 170 -> 220
(torch's default matrix product is slow there), 2 cores of a Xeon with VNNI 310 -> 310 (it is not slow there). Computing
the GELU in the same pass saves 7 % of the time of the whole network on the Xeon. The weights are converted once, when
the model is loaded; results differ from nn.Linear's in the last bits (2e-6).
"""

from __future__ import annotations

import torch
from torch import nn

from transforms.device import has_bfloat16
from transforms.engines.layers import Replaced, replace_linear


class PackedLinear(nn.Module):
    """nn.Linear for inference, GELU included where asked for: `(..., in)` -> `(..., out)`."""

    def __init__(self, linear: nn.Linear, gelu: bool = False):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        # Some architectures read weight.dtype in their forward.
        self.register_buffer("weight", linear.weight.detach().new_empty(0), persistent=False)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.after = ("gelu", "none") if gelu else ("none", "")

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply, add the bias, apply the GELU."""
        operation, algorithm = self.after
        return torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, operation, [], algorithm)


def available(dtype: torch.dtype) -> bool:
    """Whether this build of torch has the operators, and this CPU computes them natively in the dtype."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    if dtype == torch.bfloat16:
        return has_bfloat16()
    return dtype == torch.float32 and torch.cpu._is_avx512_supported()


def pack(network: nn.Module, dtype: torch.dtype) -> Replaced:
    """Replace the linear layers of a network on the CPU, in place, if that is faster; returns the replaced ones."""
    return replace_linear(network, PackedLinear) if available(dtype) else []
