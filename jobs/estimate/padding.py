"""Padding of whole chunks, from the lengths of their rows: the batches of a sample have only some of them."""

from __future__ import annotations

import numpy as np

from jobs.estimate.sample import Rows, Stratum


def positions_of_token(rows: Rows, strata: list[Stratum], max_tokens: int, piece_rows: int) -> float:
    """Token positions for each real token, when the chunks of a pool are sorted and cut into batches as in a run.

    Args:
        rows: the rows of the pool that are computed, by chunk.
        strata: classes of lengths, shortest first, with the tokens of some of their rows.
        max_tokens: token positions of a batch.
        piece_rows: rows that are sorted together.
    """
    # Imported here because it imports torch.
    from transforms.batches import cut

    lengths = np.zeros(len(rows.sizes))
    below = 0.0
    for stratum in strata:
        inside = (rows.sizes > below) & (rows.sizes <= (np.inf if stratum is strata[-1] else stratum.longest))
        lengths[inside] = rows.sizes[inside] * stratum.cost.tokens / max(1.0, stratum.cost.size)
        below = stratum.longest
    tokens = positions = 0.0
    for chunk in rows.chunks:
        weight = float(rows.weights[chunk].mean())
        for start in range(0, len(chunk), piece_rows):
            piece = lengths[chunk[start : start + piece_rows]]
            piece = piece[piece > 0]
            tokens += weight * float(piece.sum())
            positions += weight * sum(len(batch) * float(piece[batch].max()) for batch in cut(piece, max_tokens))
    return positions / tokens if tokens else 1.0
