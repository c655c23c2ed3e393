"""Rows in flight (being decoded) in groups of similar length and source, each with its own cache, to limit padding.

Linear layers and the language head compute all rows together. Attention over the cache is computed by group, because
all rows of a group are padded to the longest one. With the skewed lengths of tests/bench/seq2seq.py, one group has 2.1
to 3.9 cache positions for each one in use; sixteen groups have 1.0 to 1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from transforms.generation.columns import Columns, Prefilled

# Name under which the attention over groups is registered in transformers.
ATTENTION = "sdpa_in_groups"

Masks = list[torch.Tensor | None]


@dataclass(frozen=True)
class GroupTensors:
    """Keys or values of all groups, instead of one tensor `(rows, heads, columns, width)`.

    Attributes:
        tensors: the tensor of each group.
        masks: the mask that is added to each group's scores, `(rows, 1, 1, columns)`, or None.
    """

    tensors: list[torch.Tensor]
    masks: Masks

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one tensor for all rows, as wide as the widest group."""
        _, heads, _, size = self.tensors[0].shape
        return sum(map(len, self.tensors)), heads, max(part.shape[2] for part in self.tensors), size


class Groups:
    """The rows in flight, group by group.

    Args:
        most: maximum number of groups.
    """

    def __init__(self, most: int):
        self.most = most
        self.groups: list[Columns] = []

    @property
    def rows(self) -> int:
        """Rows in flight."""
        return sum(group.rows for group in self.groups)

    @property
    def slots(self) -> int:
        """Cache positions of the sources, including padding."""
        return sum(group.rows * group.width for group in self.groups)

    def admit(self, waiting: Prefilled, picks: Sequence[int], room: int) -> int:
        """Copy some of the waiting rows to a new group, or to the group to which they add the least padding.

        Args:
            waiting: encoded rows.
            picks: the rows among them to copy.
            room: maximum number of rows in flight.

        Returns:
            The position of the first of these rows among the rows in flight; the others follow it.
        """
        if len(self.groups) < self.most:
            chosen = Columns(max(len(picks), room // self.most))
            self.groups.append(chosen)
        else:
            wide, old = int(waiting.sources[picks].max()), waiting.own[0][0].shape[2]
            chosen = min(self.groups, key=lambda group: _slots_added(group, len(picks), wide, old))
            if chosen.capacity < (needed := max(chosen.rows + len(picks), room // self.most)):
                chosen.resize(needed)
        chosen.admit(waiting, picks)
        return sum(group.rows for group in self.groups[: self.groups.index(chosen) + 1]) - len(picks)

    def evict(self, gone: Sequence[int]) -> list[int]:
        """Free some slots.

        Args:
            gone: positions of the rows to remove, ascending.

        Returns:
            The old positions of the remaining rows, in their new order.
        """
        left, start = [], 0
        for group in self.groups:
            places = list(range(start, start + group.rows))
            start += group.rows
            for slot, was in group.evict([place - places[0] for place in gone if places[0] <= place < start]):
                places[slot] = places[was]
            left += places[: group.rows]
        self.groups = [group for group in self.groups if group.rows]
        return left

    def positions(self) -> np.ndarray:
        """Position of each row's next token."""
        return np.concatenate([group.positions() for group in self.groups])

    def open(self, dtype: torch.dtype) -> EncoderDecoderCache:
        """Make room for one more column, and return the cache for a forward pass of one token per row.

        Call `close` after the forward pass.
        """
        for group in self.groups:
            group.widen()
        layers = range(len(self.groups[0].own))
        own = [_added(group.mask(), dtype, group.device) for group in self.groups]
        cross = [_added(group.source_mask(), dtype, group.device) for group in self.groups]
        spans = [(group.rows, group.first, group.end) for group in self.groups]
        sources = [(group.rows, group.width) for group in self.groups]
        return EncoderDecoderCache(
            Cache(layers=[_Own([group.own[i] for group in self.groups], spans, own) for i in layers]),
            Cache(layers=[_Cross([group.cross[i] for group in self.groups], sources, cross) for i in layers]),
        )

    def close(self) -> None:
        """Count the column that the forward pass after `open` has filled."""
        for group in self.groups:
            group.end += 1


def _slots_added(group: Columns, rows: int, wide: int, old: int) -> int:
    """Number of cache positions by which a group would grow if these rows were added."""
    age = group.end - group.first
    return (group.rows + rows) * (max(age, old) + max(group.width, wide)) - group.rows * (age + group.width)


def _added(mask: np.ndarray | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor | None:
    """A boolean mask as the tensor that is added to the attention scores."""
    if mask is None:
        return None
    return torch.from_numpy(np.where(mask, 0.0, torch.finfo(dtype).min))[:, None, None].to(device, dtype)


class _Own(DynamicLayer):
    """The self-attention cache of one layer: writes one column, and returns the columns in use."""

    def __init__(self, buffers: list[list[torch.Tensor]], spans: list[tuple[int, int, int]], masks: Masks):
        super().__init__()
        self.buffers, self.spans, self.masks = buffers, spans, masks
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Write the next token, `(rows, heads, 1, width)`; returns all columns in use, as `GroupTensors`."""
        parts: tuple[list[torch.Tensor], ...] = ([], [])
        at = 0
        for buffers, (rows, first, end) in zip(self.buffers, self.spans, strict=True):
            for views, buffer, states in zip(parts, buffers, (key_states, value_states), strict=True):
                buffer[:rows, :, end] = states[at : at + rows, :, 0]
                views.append(buffer[:rows, :, first : end + 1])
            at += rows
        return tuple(GroupTensors(views, self.masks) for views in parts)

    def get_seq_length(self) -> int:
        """Columns in use before the next token, in the widest group."""
        return max(end - first for _, first, end in self.spans)


class _Cross(DynamicLayer):
    """One layer's cache over the source: only read."""

    def __init__(self, buffers: list[list[torch.Tensor]], sources: list[tuple[int, int]], masks: Masks):
        super().__init__()
        shown = list(zip(buffers, sources, strict=True))
        self.keys: Any = GroupTensors([keys[:rows, :, :width] for (keys, _), (rows, width) in shown], masks)
        self.values: Any = GroupTensors([values[:rows, :, :width] for (_, values), (rows, width) in shown], masks)
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Tokens of the longest source."""
        return self.keys.shape[2]


def use(network: PreTrainedModel) -> bool:
    """Let a network's attention accept groups, if it is transformers' sdpa; returns whether it is."""
    if network.config._attn_implementation == "sdpa":
        network.set_attn_implementation(ATTENTION)
    return network.config._attn_implementation == ATTENTION


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: Any,
    value: Any,
    attention_mask: torch.Tensor | None,
    position_bias: torch.Tensor | None = None,
    scaling: float | None = None,
    **how: Any,
) -> tuple[torch.Tensor, None]:
    """The sdpa of transformers, computed group by group if `key` and `value` are `GroupTensors`."""
    if not isinstance(key, GroupTensors):
        how |= {"position_bias": position_bias, "scaling": scaling}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    found, at = [], 0
    for keys, values, mask in zip(key.tensors, value.tensors, key.masks, strict=True):
        rows = query[at : at + len(keys)]
        # The masks are made once for all layers, which may be on several devices.
        mask = None if mask is None else mask.to(keys.device)
        if position_bias is not None:
            # In self-attention the columns of all groups end together; a bias over the source is equal for all columns.
            bias = position_bias[..., -keys.shape[2] :]
            mask = bias if mask is None else bias + mask
        found.append(scaled_dot_product_attention(rows, keys, values, attn_mask=mask, scale=scaling))
        at += len(rows)
    return torch.cat(found).transpose(1, 2), None


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
