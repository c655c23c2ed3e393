"""The most likely token of a large vocabulary at a third of the cost: approximate logits, then exact candidates.

On a CPU the language head of a small model takes half of a step (opus-mt: 58,101 x 512 weights, and 22 million in the
decoder's layers). In int8 it takes a quarter of the time, and the error of each logit is bounded: by the Cauchy-Schwarz
inequality it is at most |h - h'| |w'| + |h| |w - w'|, where h' and w' are the quantised hidden state and weights. A
token whose approximate logit is below the maximum by more than both errors cannot be the most likely one. The logits of
the other tokens are computed in float32, so the result equals that of the whole product in float32.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from transforms.device import is_spread
from transforms.engines import int8
from transforms.engines.packed import PackedLinear

# Tokens per block, and the maximum number of blocks per row that are computed again in float32.
BLOCK = 128
MOST_BLOCKS = 32

# With fewer weights than this, the two passes cost more than they save.
SMALLEST = 2**22

_heads: weakref.WeakKeyDictionary[PreTrainedModel, Head | None] = weakref.WeakKeyDictionary()


class Head(nn.Module):
    """A language head that can store its input instead of computing logits: `(..., hidden)` -> `(..., vocabulary)`.

    Args:
        linear: the head itself, float32 on the CPU, without a bias.
        weight: its weights, `(vocabulary, hidden)`.
        bias: what the network adds to its output, `(vocabulary,)`, or None.
    """

    def __init__(self, linear: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None):
        super().__init__()
        self.linear, self.bias = linear, bias
        # In a tuple, so that it is not registered as a parameter of this module.
        self.table = (weight,)
        self.taking, self.taken = False, torch.empty(0)
        self.tries = self.misses = 0
        tokens, width = weight.shape
        blocks = -(-tokens // BLOCK)
        rounded = torch.zeros(blocks, BLOCK, width, dtype=torch.int8)
        scale, kept, lost = (torch.zeros(blocks, BLOCK) for _ in range(3))
        for i, block in enumerate(weight.split(BLOCK)):
            own = slice(len(block))
            scale[i, own] = block.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
            back = (block / scale[i, own, None]).round()
            rounded[i, own] = back.to(torch.int8)
            back *= scale[i, own, None]
            kept[i, own], lost[i, own] = back.norm(dim=1), (block - back).norm(dim=1)
        self.packed = torch.ops.onednn.qlinear_prepack(rounded.flatten(0, 1), None)
        self.scale, self.zero = scale.flatten(), torch.zeros(blocks * BLOCK, dtype=torch.int64)
        # The padding of the last block is never the maximum.
        self.added = torch.full((blocks * BLOCK,), -torch.inf)
        self.added[:tokens] = 0 if bias is None else bias
        # The largest norm of a row in each block, with a margin for the rounding of the float32 product.
        self.norms = kept.amax(1)
        self.errors = lost.amax(1) + 1e-5 * self.norms

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """All logits in float32; inside of `take` the result must not be used."""
        if self.taking:
            self.taken = hidden
            return hidden[..., :1]
        logits = self.linear(hidden)
        return logits if self.bias is None else logits.add_(self.bias)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Keep the hidden states in `taken` instead of computing logits."""
        self.taking = True
        try:
            yield
        finally:
            self.taking = False

    def logits(self) -> torch.Tensor | Rough:
        """The logits `(rows, vocabulary)` after the last token of the stored states, approximate if that is faster."""
        hidden = self.taken[:, -1].contiguous()
        lengths = hidden.norm(dim=1)
        if (self.tries > 16 and 2 * self.misses > self.tries) or not bool(lengths.isfinite().all()):
            return self(hidden)
        step = hidden.abs().max().clamp_min(torch.finfo(torch.float32).tiny) / 127
        whole = (hidden / step).round()
        scores = torch.ops.onednn.qlinear_pointwise(
            (whole + 128).to(torch.uint8),
            float(step),
            128,
            self.packed,
            self.scale,
            self.zero,
            self.added,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        off = (hidden - whole * step).norm(dim=1)
        return Rough(self, hidden, scores, off[:, None] * self.norms + lengths[:, None] * self.errors)


@dataclass(frozen=True)
class Rough:
    """Logits with a known maximum error.

    Attributes:
        head: the head that computed them.
        hidden: input of the head, `(rows, hidden)`.
        padded: the logits `(rows, vocabulary padded to whole blocks)`.
        error: maximum error of the logits in a block, `(rows, blocks)`.
    """

    head: Head
    hidden: torch.Tensor
    padded: torch.Tensor
    error: torch.Tensor

    @property
    def scores(self) -> torch.Tensor:
        """The logits `(rows, vocabulary)`; tokens are forbidden by setting them to -inf in place."""
        return self.padded[:, : len(self.head.table[0])]

    def exact(self) -> torch.Tensor:
        """The logits in float32; forbidden tokens stay forbidden."""
        return self.head(self.hidden).masked_fill_(self.scores.isneginf(), -torch.inf)

    def best(self) -> torch.Tensor | None:
        """The most likely allowed token of each row; None if there are too many candidates."""
        self.head.tries += 1
        blocks = self.padded.unflatten(1, (-1, BLOCK))
        top = blocks.amax(-1)
        bar = (top - self.error).amax(1)
        row, block = (top + self.error >= bar[:, None]).nonzero(as_tuple=True)
        if len(row) > MOST_BLOCKS * len(bar) or not bool(bar.isfinite().all()):
            self.head.misses += 1
            return None
        at, place = (blocks[row, block] + self.error[row, block, None] >= bar[row, None]).nonzero(as_tuple=True)
        row, token = row[at], block[at] * BLOCK + place
        found = (self.hidden[row] * self.head.table[0][token]).sum(-1) + self.head.added[token]
        order = np.lexsort((token.numpy(), -found.numpy(), row.numpy()))
        _, first = np.unique(row.numpy()[order], return_index=True)
        return token[torch.from_numpy(order[first])]


def logits_after(head: Head | None, forward: Callable[[], Any]) -> torch.Tensor | Rough:
    """The logits `(rows, vocabulary)` after the last token of a forward pass, approximate if there is a `Head`."""
    if head is None:
        return forward().logits[:, -1]
    with head.take():
        forward()
    return head.logits()


def supported() -> bool:
    """Whether this CPU and this torch multiply eight bits without saturating on the way."""
    return int8.has_operators() and torch.cpu._is_vnni_supported()


def head_of(network: Any) -> Head | None:
    """Replace a network's language head by a `Head`, once; None if that would not be faster or would change logits.

    It needs float32 on a CPU for which `supported` is true, and a network that changes the head's output by a bias at
    most.
    """
    if network not in _heads:
        with torch.inference_mode():
            _heads[network] = _install(network)
    return _heads[network]


def _install(network: Any) -> Head | None:
    linear: Any = getattr(network, "lm_head", None)
    if type(linear) not in (nn.Linear, PackedLinear) or linear.bias is not None:
        return None
    if network.dtype != torch.float32 or network.device.type != "cpu" or is_spread(network) or not supported():
        return None
    if linear.in_features * linear.out_features < SMALLEST:
        return None
    added = getattr(network, "final_logits_bias", None)
    before = _sample(network)
    head = Head(linear, _weight(network, linear), None if added is None else added.reshape(-1))
    network.lm_head = head
    if added is not None:
        network.final_logits_bias = added.new_zeros(1, 1)
    with head.take():
        _sample(network)
    if torch.allclose(head(head.taken), before, rtol=1e-5, atol=1e-5):
        return head
    network.lm_head = linear
    if added is not None:
        network.final_logits_bias = added
    return None


def _sample(network: Any) -> torch.Tensor:
    ids = torch.arange(2, 6)[None]
    more = {"decoder_input_ids": ids} if network.config.is_encoder_decoder else {}
    return network(input_ids=ids, use_cache=False, **more).logits


def _weight(network: Any, linear: Any) -> torch.Tensor:
    """The weights of a head before they were packed; the embeddings if the head shares them."""
    if isinstance(linear, nn.Linear):
        return linear.weight
    weight = linear.packed.to_dense()
    embeddings = (module.weight for module in network.modules() if isinstance(module, nn.Embedding))
    return next((table for table in embeddings if table.shape == weight.shape and table.equal(weight)), weight)
