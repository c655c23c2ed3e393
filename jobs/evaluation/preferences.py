"""Whether a version prefers what people prefer, on held-out rows.

A policy (dpo, orpo) is right about a pair if a token of the chosen answer has a higher mean log-likelihood than one of
the rejected answer. The sum over an answer would prefer short answers whatever they say; the mean is what SimPO takes
as reward (Meng et al. 2024, arXiv 2405.14734), and Chen et al. 2024 (arXiv 2405.19534) as ranking accuracy. A reward
model is right if it scores the chosen answer higher. A tie is half right.

Rows of kto have one answer. A version is right about it if, beside the base, it makes a desirable answer more probable
or an undesirable one less: the sign of KTO's own reward, the log-ratio to the reference (arXiv 2402.01306). The base
itself is half right everywhere. Each row is judged without the others, so that the gate can bet on rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.evaluation import metrics, perplexity
from jobs.evaluation.evaluate import Evaluation
from jobs.evaluation.metrics import Measured
from jobs.evaluation.predict import Predictions, Prepared, predict, prepare
from jobs.evaluation.slices import means
from jobs.models.hub import Pin
from transforms.contract import Failure
from transforms.errors import SpecError
from transforms.tasks.classify import LABEL

OBJECTIVES = ("dpo", "kto", "orpo", "reward")
CHOSEN, REJECTED, TIE = "chosen", "rejected", "tie"
DESIRABLE, UNDESIRABLE = "desirable", "undesirable"

Version = tuple[Pin | str | Path, Pin | str | Path | None]


@dataclass(frozen=True)
class Answers:
    """How probable a version finds one answer of each row.

    Attributes:
        mean: mean log-likelihood of a token, nats, float64 `(rows,)`; NaN for a row that failed.
        nll: minus the log-likelihood of the answer.
        tokens: its tokens.
    """

    mean: np.ndarray
    nll: np.ndarray
    tokens: np.ndarray

    @property
    def perplexity(self) -> float:
        """Of the tokens of all answers."""
        return float(np.exp(np.nansum(self.nll) / max(1, self.tokens.sum())))


def evaluate(
    objective: str,
    version: Version,
    base: Pin | str | Path,
    table: pa.Table,
    metric: str | None = None,
    slices: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Measure a version on held-out preferences, with the weights, tokens and dtype of a job.

    Args:
        objective: dpo, kto, orpo or reward.
        version: model and adapter.
        base: what the version was trained from.
        table: rows with the canonical columns of the objective and the slice columns.
        metric: preference_accuracy, the default.
        slices: the slice columns.
        options: the keys that the task has in a job file.

    Returns:
        The prediction of a row is what the version prefers, with its margin as score. `others` has for policies
        `perplexity` (of the chosen or desirable answers), `margin` (mean difference of the mean log-likelihoods, nats)
        and `log_ratio` (mean of the log-likelihood of a token minus the base's, for the chosen or desirable answers),
        `implicit_accuracy` for pairs (whether the log-ratio to the base is larger for the chosen answer, as RewardBench
        measures policies, arXiv 2403.13787), `auc` for kto; for reward models `margin`, and `reward_mean` and
        `reward_std` of all answers.

    Raises:
        UserError: the metric cannot be computed, or the version cannot be loaded.
    """
    metric = metrics.of_objective(objective, metric)
    if not len(table):
        raise SpecError(f"the holdout has no rows, so {metric} cannot be computed; add rows to data.holdout")
    means(table, slices, Measured(metric, 0.0, {}, np.zeros(len(table)), len(table)))
    started = time.perf_counter()
    if objective == "reward":
        prepared, margins, others, failures = _rewards(version, table, options)
        names, truth = (CHOSEN, REJECTED), np.ones(len(table), bool)
    else:
        prepared = prepare("generate", *version, _asked(table), options)
        reference = None if version == (base, None) else prepare("generate", base, None, _asked(table), options)
        policy = _singles if objective == "kto" else _pairs
        margins, others, failures = policy(prepared, reference, table, dict(options or {}))
        names = (DESIRABLE, UNDESIRABLE) if objective == "kto" else (CHOSEN, REJECTED)
        desirable = table["label"].to_pylist() if objective == "kto" else [True] * len(table)
        truth = np.array(desirable, bool)
    right = np.where(truth, margins > 0, margins < 0) + 0.5 * (margins == 0)
    correctness = np.where(np.isnan(margins), 0.0, right)
    labels = [names[0] if margin > 0 else names[1] if margin < 0 else TIE for margin in margins]
    values = pa.StructArray.from_arrays(
        [pa.array(labels), pa.array(margins.astype(np.float32))],
        fields=list(LABEL),
        mask=pa.array(np.isnan(margins)),
    )
    value, missing = float(correctness.mean()), int(np.isnan(margins).sum())
    known = ", ".join(f"{name.replace('_', ' ')} {number:.4g}" for name, number in others.items())
    notes = [f"of the version on the holdout: {known}"]
    notes += [f"{missing} rows failed and count as wrong"] if missing else []
    measured = Measured(metric, value, others, correctness, len(table), missing, notes)
    seconds = time.perf_counter() - started
    predictions = Predictions(values, tuple(failures), 0, 0, seconds, prepared.plan)
    answers = pa.array([names[0] if each else names[1] for each in truth])
    return Evaluation(prepared, predictions, measured, means(table, slices, measured), answers)


def _pairs(
    prepared: Prepared, reference: Prepared | None, table: pa.Table, options: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any], list[Failure]]:
    """Margin of each pair, the other metrics, and the rows that failed."""
    (chosen, rejected), failures = _likelihoods(prepared, table, ("chosen", "rejected"), options)
    margins = chosen.mean - rejected.mean
    others = {"perplexity": chosen.perplexity, "margin": _mean(margins)}
    if reference is not None:
        (before, other), _ = _likelihoods(reference, table, ("chosen", "rejected"), options)
        # Sums, as in the reward of DPO.
        implicit = (before.nll - chosen.nll) - (other.nll - rejected.nll)
        others |= {
            "implicit_accuracy": _mean((implicit > 0) + 0.5 * (implicit == 0)),
            "log_ratio": _mean(chosen.mean - before.mean),
        }
    return margins, others, failures


def _singles(
    prepared: Prepared, reference: Prepared | None, table: pa.Table, options: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any], list[Failure]]:
    """Log-ratio to the base of a token of each answer, the other metrics, and the rows that failed."""
    (own,), failures = _likelihoods(prepared, table, ("completion",), options)
    ratios = np.zeros(len(table))
    if reference is not None:
        (before,), _ = _likelihoods(reference, table, ("completion",), options)
        ratios = own.mean - before.mean
    good = np.array(table["label"].to_pylist(), bool)
    desirable = Answers(own.mean[good], own.nll[good], own.tokens[good])
    others = {
        "perplexity": desirable.perplexity,
        "margin": _mean(ratios[good]) - _mean(ratios[~good]),
        "log_ratio": _mean(ratios[good]),
    }
    known = ~np.isnan(ratios)
    if len(set(good[known])) == 2:
        from sklearn.metrics import roc_auc_score

        others["auc"] = float(roc_auc_score(good[known], ratios[known]))
    return ratios, {name: value for name, value in others.items() if np.isfinite(value)}, failures


def _likelihoods(
    prepared: Prepared, table: pa.Table, columns: Sequence[str], options: dict[str, Any]
) -> tuple[list[Answers], list[Failure]]:
    """How probable a version finds the answers in some columns, and the rows that failed."""
    writer = perplexity.load(prepared)
    # Imported here because they import torch and transformers, which takes seconds.
    from jobs.training.exchanges import Exchanges, fitted
    from transforms.likelihood import Example, of_tokens

    exchanges = Exchanges(writer.model.tokenizer, options)
    prompts = exchanges.prompt_ids(table["prompt"].to_pylist())
    sides = [exchanges.answer_ids(table[column].to_pylist()) for column in columns]
    # As in training, both answers follow the same tokens.
    rows = [fitted(prompt, answers, writer.model.max_length) for prompt, *answers in zip(prompts, *sides, strict=True)]
    examples = [Example(prompt, answer) for prompt, answers in rows for answer in answers]
    found = of_tokens(writer, examples)
    each = [Answers(*_side(found.nll, found.tokens, i, len(columns))) for i in range(len(columns))]
    failures = {failure.row // len(columns): failure for failure in found.failures}
    return each, [Failure(row, one.error_type, one.message) for row, one in sorted(failures.items())]


def _side(nll: np.ndarray, tokens: np.ndarray, first: int, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    own, count = nll[first::step], tokens[first::step]
    return -own / np.maximum(count, 1), own, count


def _rewards(
    version: Version, table: pa.Table, options: Mapping[str, Any] | None
) -> tuple[Prepared, np.ndarray, dict[str, Any], list[Failure]]:
    """What a job would compute, the margin of each pair, the other metrics, and the rows that failed."""
    from jobs.training.scored_text import scored_text

    prepared = prepare("classify", *version, pa.table({"text": pa.array([], pa.string())}), options)
    tokenizer = _tokenizer(prepared) if not pa.types.is_string(table.schema.field("chosen").type) else None
    rows = table.select(["prompt", "chosen", "rejected"]).to_pylist()
    texts = [scored_text(tokenizer, row["prompt"], row[name]) for name in ("chosen", "rejected") for row in rows]
    prepared = prepare("classify", *version, pa.table({"text": texts}), options)
    found = predict(prepared)
    scores = np.array([_score(value) for value in found.values.to_pylist()], np.float64)
    chosen, rejected = scores[: len(table)], scores[len(table) :]
    margins = chosen - rejected
    others = {"margin": _mean(margins), "reward_mean": _mean(scores), "reward_std": float(np.nanstd(scores))}
    failures = {failure.row % len(table): failure for failure in found.failures}
    return prepared, margins, others, [Failure(row, f.error_type, f.message) for row, f in sorted(failures.items())]


def _score(value: Any) -> float:
    """The score of an output of classify: a struct, or a list with one."""
    first = value[0] if isinstance(value, list) else value
    return float("nan") if first is None else float(first["score"])


def _tokenizer(prepared: Prepared) -> Any:
    from transforms.checkpoint import tokenizer as tokenizers
    from transforms.model import tokenizer_folder
    from transforms.reference import read_config

    reference = prepared.plan.reference()
    return tokenizers.read(tokenizer_folder(reference), read_config(reference), reference.trusted)


def _asked(table: pa.Table) -> pa.Table:
    """The prompts alone, as a job reads them."""
    return table.select(["prompt"])


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
