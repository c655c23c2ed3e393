"""Whether a batch of several adapters gives what one adapter at a time gives, tried when a model is loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from transforms.by_row.selection import Selection
from transforms.state import kept

LOG = logging.getLogger(__name__)

# Largest difference, relative to the largest output. In int8 without fixed ranges a row changes a little with the other
# rows of its batch, also with one adapter: there only a failure counts, and the trial in float32 before it.
TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 3e-2, "int8": float("inf")}


def mixes(
    network: Any, compute: Callable[[int], torch.Tensor], selection: Selection, count: int, precision: str
) -> bool:
    """Whether rows of several adapters may share a batch.

    They may not in a network that puts another dimension than the rows first, or in which a row's result depends on
    the other rows. Then a batch has rows of one adapter only.

    Args:
        network: the network, whose state is kept.
        compute: number of rows -> output `(rows, ...)` of that many equal rows.
        selection: the adapters of the network.
        count: number of adapters.
        precision: float32, bfloat16, float16 or int8.
    """
    if count < 2:
        return False
    adapters = [0, count - 1, min(1, count - 1)]
    kind = type(network).__name__
    try:
        with torch.inference_mode(), kept(network):
            with selection.rows(adapters):
                together = compute(len(adapters))
            for i, adapter in enumerate(adapters):
                with selection.one(adapter):
                    alone = compute(1)[0].float()
                own = together[i, ..., : alone.shape[-1]].float()
                if own.shape != alone.shape or (own - alone).abs().max() > TOLERANCES[precision] * alone.abs().max():
                    LOG.info("a batch of %s has rows of one adapter, because rows of several change it", kind)
                    return False
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        LOG.info("a batch of %s has rows of one adapter, because it cannot compute several: %s", kind, error)
        return False
    return True
