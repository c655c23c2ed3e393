"""Batches without padding: the rows' tokens are concatenated, and each row attends only to its own tokens.

For CUDA GPUs in bfloat16 or float16: their kernel for rows of different lengths is several times as fast as attention
with a mask. The host knows the lengths, so nothing here waits for the device.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

if TYPE_CHECKING:
    from transforms.by_row.selection import Selection


@dataclass(frozen=True)
class Packing:
    """Positions of the tokens of a padded batch `(batch, seq)` once the padding is removed.

    Attributes:
        batch: number of rows.
        seq: tokens of the longest row.
        indices: index of each token in the flattened padded batch, int64 `(tokens,)`.
        offsets: index of each row's first token without padding, then the number of tokens, int32 `(batch + 1,)`.
        lengths: tokens of each row, on the host.
    """

    batch: int
    seq: int
    indices: torch.Tensor
    offsets: torch.Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, mask: torch.Tensor, device: torch.device) -> Packing:
        """From a mask `(batch, seq)` on the host: 1 for tokens, which are at the start of each row."""
        lengths = mask.sum(1)
        offsets = pad(lengths.cumsum(0), (1, 0)).int()
        indices = mask.flatten().nonzero().squeeze(1)
        batch, seq = mask.shape
        return cls(batch, seq, to_device(indices, device), to_device(offsets, device), tuple(lengths.tolist()))

    def pack(self, rows: torch.Tensor) -> torch.Tensor:
        """`(batch, seq, hidden)` -> `(tokens, hidden)`."""
        return rows.flatten(0, 1).index_select(0, self.indices)

    def pad(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(tokens, hidden)` -> `(batch, seq, hidden)`, zeros for padding."""
        rows = tokens.new_zeros(self.batch * self.seq, tokens.shape[-1])
        return rows.index_copy_(0, self.indices, tokens).view(self.batch, self.seq, -1)

    def first(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(tokens, hidden)` -> the first token of each row, `(batch, hidden)`."""
        return tokens.index_select(0, self.offsets[:-1])


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packing: Packing, first_token: bool
) -> torch.Tensor:
    """Attention of each row's queries over its own keys.

    Args:
        query: `(tokens, heads, width)`, or `(batch, heads, width)` with `first_token`.
        key: `(tokens, heads, width)`.
        value: shape of `key`.
        packing: the tokens of each row.
        first_token: whether there is one query per row.

    Returns:
        A tensor in the shape of `query`.
    """
    if query.device.type == "cuda":
        from torch.nn.attention.varlen import varlen_attn

        starts = torch.arange(packing.batch + 1, dtype=torch.int32, device=query.device)
        longest = max(packing.lengths)
        query_offsets, longest_query = (starts, 1) if first_token else (packing.offsets, longest)
        attended = varlen_attn(query, key, value, query_offsets, packing.offsets, longest_query, longest)
        assert isinstance(attended, torch.Tensor)
        return attended
    lengths = list(packing.lengths)
    queries = query.split([1] * packing.batch if first_token else lengths)
    rows = zip(queries, key.split(lengths), value.split(lengths), strict=True)
    return torch.cat([_alone(*row) for row in rows])


def _alone(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    q, k, v = (rows.transpose(0, 1)[None] for rows in (query, key, value))
    return scaled_dot_product_attention(q, k, v)[0].transpose(0, 1)


def available(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the device has the kernel for that dtype."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    return importlib.util.find_spec("torch.nn.attention.varlen") is not None and (
        torch.cuda.get_device_capability(device) >= (8, 0)
    )


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to a device; from the host to a GPU through pinned memory, so that the host need not wait."""
    # Memory of a GPU cannot be pinned.
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def unpad(network: Any, selection: Selection | None = None) -> Callable[..., Any]:
    """Let a network of `EncoderLayer`s compute its batches without padding.

    Args:
        network: the network.
        selection: the adapters of the network, if each row has its own.

    Returns:
        A function from keyword tensors `(batch, seq)` on the host, including `attention_mask`, to a ModelOutput.
    """

    def compute(attention_mask: torch.Tensor, **inputs: torch.Tensor) -> Any:
        packing = Packing.of(attention_mask, network.device)
        moved = {name: to_device(tensor, network.device) for name, tensor in inputs.items()}
        # No mask is passed: transformers would wait for the device to check whether any position is masked.
        with selection.unpadded(packing.lengths) if selection is not None else nullcontext():
            return network(**moved, packing=packing)

    return compute
