"""Answers scored by a reward: how often they beat those of the base, and how far the version has moved from it.

    win_rate      share of prompts whose answer has a higher reward than the base's; equal rewards count half
    reward        mean reward, any real number
    kl            mean log-ratio of version and base, in nats per token of the version's own answers: the estimate of
                  the divergence by Schulman's k1, on the answers that a job writes
    perplexity    of the base on the answers: what a reader who knows the base's language finds of them
    length        mean characters of an answer
    perplexity_of_truth    of the version on the true answers, if the rows have them

The answers are those of the nightly job. An answer without any text counts with its end token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.evaluation import metrics, perplexity, rows
from jobs.evaluation.evaluate import Evaluation
from jobs.evaluation.metrics import REWARD, WIN_RATE, Measured
from jobs.evaluation.predict import Predictions, Prepared, predict, prepare
from jobs.evaluation.slices import Slice, members
from jobs.models.hub import Pin
from jobs.training.rewards import Scorer, examples
from transforms.errors import SpecError

METRICS = (WIN_RATE, REWARD)


@dataclass(frozen=True)
class Answers:
    """What a version answers, and the rewards of that.

    Attributes:
        prepared: the version and the rows.
        predictions: its answers.
        rewards: float64 `(rows,)`; NaN for a row without an answer.
    """

    prepared: Prepared
    predictions: Predictions
    rewards: np.ndarray


def check_metric(metric: str | None) -> str:
    """The metric itself, or the default.

    Raises:
        SpecError: answers that are scored by a reward do not have it.
    """
    if metric is not None and metric not in METRICS:
        raise SpecError(f"gate.metric is {metric!r}, which is not computed from rewards; choices: {', '.join(METRICS)}")
    return metric or WIN_RATE


def answers(
    model: Pin | str | Path,
    adapter: Pin | str | Path | None,
    table: pa.Table,
    scorer: Scorer,
    options: Mapping[str, Any] | None = None,
) -> Answers:
    """Write the answers of a version as a nightly job does, and score them.

    Args:
        model: the base model, or the folder of a model that was trained as a whole.
        adapter: the adapter over it, or None.
        table: rows with `prompt` or `messages`.
        scorer: what scores the answers.
        options: the keys that the task has in a job file.

    Raises:
        UserError: an option is wrong, the version does not fit, or a reward fails.
        RunError: the model does not fit into memory.
    """
    prepared = prepare("generate", model, adapter, table, options)
    predictions = predict(prepared)
    written = predictions.values.to_pylist()
    asked = examples(table)
    rewards = np.full(len(table), np.nan)
    if there := [row for row, text in enumerate(written) if text is not None]:
        names = sorted({name for row in asked for name in row if name != "prompt"})
        columns = {name: [asked[row].get(name) for row in there] for name in names}
        prompts = [asked[row]["prompt"] for row in there]
        rewards[there] = scorer(prompts, [written[row] for row in there], columns)
    return Answers(prepared, predictions, rewards)


def evaluate(
    version: Answers, base: Answers, table: pa.Table, metric: str | None = None, slices: Sequence[str] = ()
) -> Evaluation:
    """Measure the answers of a version beside those of its base.

    Args:
        version: the answers of the version.
        base: those of the base, to the same prompts.
        table: the rows.
        metric: win_rate or reward; the first by default.
        slices: the slice columns.

    Raises:
        SpecError: there is no such metric, or a column cannot be a slice.
    """
    metric = check_metric(metric)
    if not len(table):
        raise SpecError(f"the holdout has no rows, so {metric} cannot be computed; add prompts to data.holdout")
    won = (metrics.signs(base.rewards, version.rewards) + 1.0) / 2.0
    values = {WIN_RATE: won, REWARD: version.rewards}
    written = version.predictions.values.to_pylist()
    others = {other: _mean(values[other]) for other in METRICS if other != metric}
    others |= {"base_reward": _mean(base.rewards), "length": _mean(np.array([len(text or "") for text in written]))}
    others |= _distance(version, base, written)
    missing = int(np.isnan(version.rewards).sum())
    notes = [_in_words(values, others)]
    notes += [f"{missing} prompts have no answer, which counts as the lowest reward"] if missing else []
    if (truth := _truth(version, table)) is not None:
        others["perplexity_of_truth"] = truth
    measured = Measured(metric, _mean(values[metric]), others, won, len(table), missing, notes, scores=version.rewards)
    return Evaluation(version.prepared, version.predictions, measured, _slices(table, slices, values[metric], won))


def _in_words(values: Mapping[str, np.ndarray], others: Mapping[str, float]) -> str:
    """All numbers in one line, for the report."""
    said = (
        f"answers: mean reward {_mean(values[REWARD]):.4g} (base {others['base_reward']:.4g}), {others['length']:.1f} "
    )
    said += f"characters, {_mean(values[WIN_RATE]):.1%} wins against the base"
    if "kl" in others:
        said += f"; {others['kl']:.3f} nats per token from the base, whose perplexity on them is "
        said += f"{others['perplexity']:.3f}"
    if "perplexity_of_truth" in others:
        said += f"; perplexity of the true answers {others['perplexity_of_truth']:.3f}"
    return said


def _distance(version: Answers, base: Answers, written: Sequence[str | None]) -> dict[str, float]:
    """Divergence from the base, and the base's perplexity, on the version's answers."""
    here = version.prepared
    over_base = replace(here, plan=base.prepared.plan)
    nll, tokens, _ = perplexity.likelihoods(over_base, written)
    total = int(tokens.sum())
    if not total:
        return {}
    found = {"perplexity": float(np.exp(np.nansum(nll) / total))}
    if here.plan != over_base.plan:
        own, _, _ = perplexity.likelihoods(here, written)
        return {"kl": float(np.nansum(nll - own) / total)} | found
    return {"kl": 0.0} | found


def _truth(version: Answers, table: pa.Table) -> float | None:
    """The version's perplexity of the true answers; None without any."""
    if not {"completion", "messages"} & set(table.schema.names):
        return None
    try:
        true = rows.truth("generate", table).to_pylist()
    except SpecError:
        # Conversations that end with a question have no true answer.
        return None
    nll, tokens, _ = perplexity.likelihoods(version.prepared, [text or None for text in true])
    return float(np.exp(np.nansum(nll) / tokens.sum())) if tokens.sum() else None


def _slices(table: pa.Table, columns: Sequence[str], values: np.ndarray, won: np.ndarray) -> list[Slice]:
    return [
        Slice(name, value, len(indices), _mean(values[indices]), float(won[indices].mean()))
        for (name, value), indices in members(table, columns).items()
    ]


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(known.mean()) if len(known) else float("nan")
