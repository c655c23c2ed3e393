"""Perplexity of the true texts under a version, computed by the model that a job would load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.evaluation import rows
from jobs.evaluation.metrics import PERPLEXITY, Measured, check_metric
from jobs.evaluation.predict import Prepared
from transforms import registry
from transforms.errors import SpecError
from transforms.options import columns_read, with_fields


def measure(prepared: Prepared) -> Measured:
    """Exp of the mean negative log-likelihood of a token of the truth; lower is better.

    Args:
        prepared: summarize, translate or generate, with labelled rows.

    Returns:
        `others` has `nll` (nats per token) and `tokens`; the correctness of a row is the geometric mean of the
        probabilities of its tokens.

    Raises:
        SpecError: the task writes no texts, or no row has a target.
        ModelError: the model or the adapter does not fit the task.
    """
    table = prepared.rows
    task = prepared.plan.spec.task
    check_metric(task, PERPLEXITY)
    # A row without a true text does not count.
    nll, tokens, failed = likelihoods(prepared, [text or None for text in rows.truth(task, table).to_pylist()])
    if not tokens.sum():
        raise SpecError(
            f"no row of the holdout has a text and a {rows.truth_column(task)}, so perplexity cannot be computed"
        )
    mean = float(np.nansum(nll) / tokens.sum())
    correctness = np.nan_to_num(np.exp(-nll / np.maximum(tokens, 1)), nan=0.0)
    notes = [f"{failed} rows failed and do not count in the perplexity"] if failed else []
    others = {"nll": mean, "tokens": int(tokens.sum())}
    return Measured(
        PERPLEXITY, float(np.exp(mean)), others, correctness, len(table), int(np.isnan(nll).sum()), notes, tokens
    )


def likelihoods(prepared: Prepared, targets: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray, int]:
    """How probable a version finds given texts.

    Args:
        prepared: summarize, translate or generate, with rows.
        targets: a text for each row; None for a row that does not count.

    Returns:
        Negative log-likelihood of each text, float64 `(rows,)` in nats, NaN where it has none; its tokens, int64
        `(rows,)`, end token included; and the number of rows that failed.

    Raises:
        ModelError: the model or the adapter does not fit the task.
    """
    writer = load(prepared)
    # Imported here because it imports torch and transformers, which takes seconds.
    from transforms import likelihood

    columns = columns_read(prepared.plan.spec.options)
    found, done = [], 0
    for batch in prepared.batches():
        found.append(likelihood.likelihood(writer, with_fields(batch, columns), targets[done : done + len(batch)]))
        done += len(batch)
    if not found:
        return np.zeros(0), np.zeros(0, np.int64), 0
    nll, tokens = (np.concatenate([getattr(part, name) for part in found]) for name in ("nll", "tokens"))
    return nll, tokens, sum(len(part.failures) for part in found)


def load(prepared: Prepared) -> Any:
    """The task of a version that writes texts, with the weights that a job would load.

    Raises:
        ModelError: the model or the adapter does not fit the task.
    """
    plan = prepared.plan
    module = registry.get(plan.spec.task)
    from transforms import device
    from transforms import model as models
    from transforms.checkpoint.loading import explaining

    device.check(plan.device)
    with explaining(reference := plan.reference(), plan.spec.task):
        loaded = models.load(reference, str(module.ARCHITECTURE))
        return module.load(plan.spec.options, loaded, plan.spec.max_tokens)
