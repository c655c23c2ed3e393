"""A teacher's probabilities as the truth of a classifier that learns from it, and the loss for them.

Hinton, Vinyals, Dean 2015, arXiv:1503.02531, at temperature 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

# The column with the probability of each label, beside `label`: list<struct<label, score>>.
SCORES = "scores"
SCORED = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))


def of(table: pa.Table, labels: list[str]) -> np.ndarray:
    """The teacher's probability of each label, float64 `(rows, labels)`; 0 for a label that it does not know."""
    number = {label: i for i, label in enumerate(labels)}
    targets = np.zeros((len(table), len(labels)))
    for row, scores in enumerate(table.column(SCORES).to_pylist()):
        for one in scores:
            if one["label"] in number:
                targets[row, number[one["label"]]] = one["score"]
    return targets


def cross_entropy(outputs: Any, targets: Any, num_items_in_batch: Any = None) -> Any:
    """Cross-entropy between the teacher's probabilities and the student's.

    Args:
        outputs: the student's output, with logits `(batch, labels)`.
        targets: probabilities `(batch, labels)`.
        num_items_in_batch: rows of all batches whose gradients are accumulated; None for those of this one.
    """
    import torch

    logits = outputs["logits"] if isinstance(outputs, dict) else outputs.logits
    loss = -(targets * torch.log_softmax(logits.float(), dim=-1)).sum(dim=-1)
    return loss.mean() if num_items_in_batch is None else loss.sum() / num_items_in_batch
