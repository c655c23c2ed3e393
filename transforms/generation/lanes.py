"""Key-value cache of a decoder-only model: each row has a lane (one row of the cache), filled from the left.

A row's tokens are in columns 0, 1, 2 ... of its lane, independent of the lengths of the other rows. So nothing is
padded on the left or moved when a row is added, grows or is removed: columns past a row's length are masked and
overwritten later. The columns of a prompt prefix that all rows share are written once and kept.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from transforms import device as devices
from transforms.batches import is_out_of_memory

log = logging.getLogger(__name__)

# Attention windows of GPT-Neo and Llama 4.
UNKNOWN_WINDOWS = ("window_size", "attention_chunk_size")

_fitting: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


@dataclass
class Place:
    """The lanes and columns that a forward pass writes and reads; set before each pass, shared by all layers.

    Attributes:
        rows: first lane, and one past the last lane.
        columns: int64 `(rows, tokens)`, the column of each input token.
        width: number of columns that are read, from column 0.
    """

    rows: tuple[int, int] = (0, 0)
    columns: torch.Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    width: int = 0


class LaneLayer(CacheLayerMixin):
    """One layer: keys and values `(lanes, heads, columns, head size)`, allocated when the first keys arrive."""

    is_sliding = False

    def __init__(self, lanes: int, width: int, place: Place):
        super().__init__()
        self.lanes, self.width, self.place = lanes, width, place

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate zeros, because attention multiplies masked values by 0, and a leftover nan would stay nan."""
        heads = key_states.shape[1]
        self.keys = key_states.new_zeros(self.lanes, heads, self.width, key_states.shape[3])
        self.values = value_states.new_zeros(self.lanes, heads, self.width, value_states.shape[3])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new keys and values to `place`, and return the keys and values of the columns that are read."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        first, last = self.place.rows
        keys, values = self.keys[first:last], self.values[first:last]
        rows = torch.arange(last - first, device=keys.device)[:, None]
        columns = self.place.columns.to(keys.device)
        keys[rows, :, columns] = key_states.transpose(1, 2)
        values[rows, :, columns] = value_states.transpose(1, 2)
        return keys[:, :, : self.place.width], values[:, :, : self.place.width]

    def fill(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write keys and values `(heads, columns, head size)` to the first columns of every lane."""
        if not self.is_initialized:
            self.lazy_initialization(keys[None], values[None])
        assert self.keys is not None
        assert self.values is not None
        self.keys[:, :, : keys.shape[1]] = keys
        self.values[:, :, : values.shape[1]] = values

    def resize(self, lanes: int, width: int, rows: int, shared: int) -> None:
        """See `Lanes.resize`."""
        kept = min(width, self.width)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(lanes, old.shape[1], width, old.shape[3])
            new[:, :, :shared] = old[:1, :, :shared]
            new[:rows, :, :kept] = old[:rows, :, :kept]
            setattr(self, name, new)
        self.lanes, self.width = lanes, width

    def get_seq_length(self) -> int:
        """Number of columns read; nothing depends on it, because positions and masks are always given."""
        return self.place.width

    def get_max_length(self) -> int:
        """Number of columns."""
        return self.width

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys."""
        return self.place.width, 0


class Lanes(Cache):
    """The cache of all layers.

    Args:
        config: the network's configuration.
        lanes: maximum number of rows.
        width: maximum number of tokens per row.
    """

    def __init__(self, config: PretrainedConfig, lanes: int, width: int):
        self.place = Place()
        text = config.get_text_config(decoder=True)
        self.own = [LaneLayer(lanes, width, self.place) for _ in range(text.num_hidden_layers)]
        super().__init__(layers=list(self.own))

    def begin(self, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Write the keys and values of virtual tokens, `(heads, columns, head size)`, to the start of every lane."""
        for layer, (keys, values) in zip(self.own, layers, strict=False):
            layer.fill(keys, values)

    def share(self, columns: int) -> None:
        """Copy the first columns of lane 0, the prefix that all rows share, to every lane."""
        for layer in self._tensors():
            layer[1:, :, :columns] = layer[:1, :, :columns]

    def take(self, sources: list[int], width: int) -> None:
        """Copy the first `width` columns of lane `sources[i]` to lane i."""
        moved = [(i, source) for i, source in enumerate(sources) if i != source]
        if not moved:
            return
        to, of = (list(side) for side in zip(*moved, strict=True))
        for layer in self._tensors():
            layer[to, :, :width] = layer[of, :, :width]

    def clear(self, lane: int, columns: int) -> None:
        """Set the columns of a lane from `columns` on to zero; a nan there would spread to the next row in the lane."""
        for layer in self._tensors():
            layer[lane, :, columns:] = 0

    def resize(self, lanes: int, width: int, rows: int, shared: int) -> None:
        """Change the numbers of lanes and columns.

        The first `rows` lanes keep their contents, and all lanes the first `shared` columns.
        """
        for layer in self.own:
            layer.resize(lanes, width, rows, shared)

    def _tensors(self) -> list[torch.Tensor]:
        return [tensor for layer in self.own for tensor in (layer.keys, layer.values) if tensor is not None]


def forward(network: Any, lanes: Lanes, first: int, ids: np.ndarray, columns: np.ndarray) -> Any:
    """A forward pass of a decoder-only network or its body; returns transformers' ModelOutput.

    Args:
        network: the model, or its `base_model`, which gives no logits.
        lanes: its cache.
        first: lane of the first row.
        ids: token ids, int64 `(rows, tokens)`.
        columns: position of each token in its row, int64 `(rows, tokens)`.
    """
    device = devices.of(network)
    positions = torch.tensor(columns, device=device)
    width = int(columns.max()) + 1
    lanes.place.rows, lanes.place.columns, lanes.place.width = (first, first + len(ids)), positions, width
    return network(
        input_ids=torch.from_numpy(ids).to(device),
        attention_mask=_mask(network.config, positions, width, network.dtype),
        position_ids=positions,
        past_key_values=lanes,
        use_cache=True,
    )


def _mask(config: PretrainedConfig, positions: torch.Tensor, width: int, dtype: torch.dtype) -> Any:
    """The attention mask `(rows, 1, tokens, width)`: causal, and within the sliding window where the model has one."""
    config = config.get_text_config(decoder=True)
    distance = positions[:, None, :, None] - torch.arange(width, device=positions.device)
    full = _as_attention(config, distance >= 0, dtype)
    window = getattr(config, "sliding_window", None)
    if window is None or width <= window:
        return full
    near = _as_attention(config, (distance >= 0) & (distance < window), dtype)
    match sorted(set(getattr(config, "layer_types", None) or ["sliding_attention"])):
        case ["full_attention"]:
            return full
        case ["sliding_attention"]:
            return near
        case _:
            return {"full_attention": full, "sliding_attention": near}


def _as_attention(config: PretrainedConfig, seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The mask in the form of the attention implementation: numbers to add for eager, booleans for the others."""
    if config._attn_implementation != "eager":
        return seen
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)


def token_bytes(network: PreTrainedModel) -> int:
    """Bytes of one token's keys and values in all layers."""
    config = network.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * network.dtype.itemsize


def has_window(config: PretrainedConfig) -> bool:
    """Whether a layer attends only to the last tokens of a row, or to those of its chunk."""
    config = config.get_text_config(decoder=True)
    return any(getattr(config, name, None) for name in ("sliding_window", *UNKNOWN_WINDOWS))


def fits(network: PreTrainedModel) -> bool:
    """Whether a network gives the same logits with this cache as without it; tried once with two short rows.

    It does not if it keeps a state instead of keys and values (Mamba), or computes positions from the attention mask
    (BLOOM).
    """
    if devices.of(network).type == "meta":
        raise NotImplementedError("a network on the meta device has no logits to compare")
    if network not in _fitting:
        config = network.config.get_text_config(decoder=True)
        # `_mask` does not implement them, and a short trial would not notice.
        known = set(getattr(config, "layer_types", None) or ()) <= {"full_attention", "sliding_attention"}
        # Layers that are brought from memory or disk come with the whole network, and prompts are read by its body.
        known = known and devices.kept_elsewhere(network) is None
        if not known or any(getattr(config, name, None) for name in UNKNOWN_WINDOWS):
            _fitting[network] = False
            return False
        try:
            with torch.inference_mode():
                _fitting[network] = _agrees(network)
        except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, NotImplementedError) as error:
            if is_out_of_memory(error):
                raise
            log.warning("%s cannot be batched continuously (%s)", type(network).__name__, error)
            _fitting[network] = False
    return _fitting[network]


def _agrees(network: PreTrainedModel) -> bool:
    vocabulary = network.config.get_text_config(decoder=True).vocab_size
    rows = [np.arange(start, start + length) % vocabulary for start, length in ((7, 6), (40, 3))]
    lanes = Lanes(network.config, 2, 6)
    for i, ids in enumerate(rows):
        forward(network, lanes, i, ids[None, :-1], np.arange(len(ids) - 1)[None])
    ids, columns = (np.array([[row[-1]] for row in rows]), np.array([[len(row) - 1] for row in rows]))
    together = forward(network, lanes, 0, ids, columns).logits[:, -1]
    device = together.device
    alone = torch.stack([network(torch.from_numpy(row[None]).to(device)).logits[0, -1] for row in rows])
    spread = (alone.max() - alone.min()).float()
    worst = (together - alone).abs().max().float()
    return bool(worst <= spread * (1e-3 if network.dtype == torch.float32 else 5e-2))
