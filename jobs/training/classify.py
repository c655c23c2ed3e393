"""Training of a text classifier: texts and the names of their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from jobs.training import soft_targets
from jobs.training.request import Request
from jobs.training.setup import Setup, load_head, window
from transforms import heads
from transforms.checkpoint import config as configs
from transforms.softmax import softmax


def build(request: Request, several: bool) -> Setup:
    """The network and its examples.

    Args:
        request: the training.
        several: whether a text has a list of labels.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(request.base)
    labels = label_order(request)
    problem = "multi_label_classification" if several else "single_label_classification"
    network, new = load_head(request, AutoModelForSequenceClassification, labels, problem_type=problem)
    if network.config.pad_token_id is None:
        network.config.pad_token_id = tokenizer.pad_token_id
    number = {label: i for i, label in enumerate(labels)}
    limit = window(tokenizer, network.config, request)

    def encode(table: pa.Table) -> list[dict[str, Any]]:
        encoded = tokenizer(table["text"].to_pylist(), truncation=limit is not None, max_length=limit)
        if request.objective == "distill":
            truth = soft_targets.of(table, labels).tolist()
        else:
            truth = [_several(label, number) if several else number[label] for label in table["label"].to_pylist()]
        return [{name: values[i] for name, values in encoded.items()} | {"labels": truth[i]} for i in range(len(table))]

    kind = (Trainer, TrainingArguments)
    collator = DataCollatorWithPadding(tokenizer)
    # With several labels the network's own loss takes probabilities as they are.
    soft = request.objective == "distill" and not several
    more = {"compute_loss_func": soft_targets.cross_entropy} if soft else {}
    found = request.losses and request.objective == "supervised"
    return Setup(kind, network, tokenizer, encode, collator, labels, new, more=more, mislabelled=found)


def label_order(request: Request) -> list[str]:
    """The labels in the order of the outputs: that of the base if it has them all, else sorted."""
    known = heads.labels(configs.read(request.base))
    return known if set(request.labels) <= set(known) else list(request.labels)


def losses(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Cross-entropy of each row `(rows,)`, the mean over labels where a row has several.

    Args:
        logits: `(rows, labels)`.
        truth: number of the label `(rows,)`, or 0 and 1 `(rows, labels)`.
    """
    logits = logits.astype(np.float64)
    if truth.ndim == 2:
        return (np.logaddexp(0, logits) - truth * logits).mean(axis=1)
    return np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(truth)), truth]


def probabilities(logits: np.ndarray, several: bool) -> np.ndarray:
    """Probability of each label `(rows, labels)`; they add up to 1 unless a row has several labels.

    Args:
        logits: `(rows, labels)`.
        several: whether a row has several labels.
    """
    logits = logits.astype(np.float64)
    return np.exp(-np.logaddexp(0, -logits)) if several else softmax(logits)


def _several(names: list[str], number: dict[str, int]) -> list[float]:
    return [float(label in names) for label in number]
