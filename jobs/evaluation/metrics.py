"""The metrics of each task, and how right each row is, by the well-known libraries.

    classify    accuracy, macro_f1                          scikit-learn
    ner         entity_f1, entity_precision, entity_recall  seqeval
    summarize   rouge1, rouge2, rougeL, rougeLsum           rouge-score; also chrf, bleu, exact_match
    translate   chrf, bleu                                  sacreBLEU; also the ROUGE metrics, exact_match
    generate    exact_match; also chrf, bleu and the ROUGE metrics

Versions that learnt from preferences (objectives dpo, kto, orpo, reward) have preference_accuracy, see
jobs/evaluation/preferences.py.

All of them are fractions from 0 to 1 (chrF and BLEU are divided by 100), and higher is better. Perplexity needs the
model's probabilities, so it has a module of its own, jobs/evaluation/perplexity.py; lower is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.evaluation import rows
from transforms.errors import SpecError

PERPLEXITY = "perplexity"
# Of answers that are scored by a reward; see jobs/evaluation/rewards.py.
WIN_RATE, REWARD = "win_rate", "reward"
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
TEXTS = (*ROUGE, "chrf", "bleu", "exact_match")

# The metrics of each task; the first is the default.
METRICS: Mapping[str, tuple[str, ...]] = {
    "classify": ("macro_f1", "accuracy"),
    "ner": ("entity_f1", "entity_precision", "entity_recall"),
    "summarize": ("rougeL", "rouge1", "rouge2", "rougeLsum", "chrf", "bleu", "exact_match", PERPLEXITY),
    "translate": ("chrf", "bleu", *ROUGE, "exact_match", PERPLEXITY),
    "generate": ("exact_match", "chrf", "bleu", *ROUGE, PERPLEXITY),
}

PREFERENCE_ACCURACY = "preference_accuracy"

# The metrics of versions that are not measured by a true output of each row; the first is the default.
BY_OBJECTIVE: Mapping[str, tuple[str, ...]] = dict.fromkeys(("dpo", "kto", "orpo", "reward"), (PREFERENCE_ACCURACY,))

LOWER_IS_BETTER = frozenset({PERPLEXITY})


@dataclass(frozen=True)
class Measured:
    """How good the predictions of some rows are.

    Attributes:
        metric: name of the metric.
        value: its value over all rows.
        others: the task's other metrics by name, `classes` (precision, recall, f1 and rows by label) for labels.
        correctness: float64 `(rows,)`, from 0 (wrong) to 1 (right); 0 for a row without a prediction. Labels and exact
            match: 0 or 1; entities: the F1 of the row; texts: the row's own chrF or ROUGE; perplexity: the geometric
            mean of the probabilities of the row's tokens. Its mean over rows is what a gate can bet on.
        rows: number of rows.
        missing: rows without a prediction, counted as wrong.
        notes: one sentence for each thing that a reader should know, such as a label without rows.
        tokens: int64 `(rows,)`, tokens of each row's target; for perplexity only.
        scores: float64 `(rows,)`, any real numbers, NaN for a row without a prediction: the rewards of the answers.
            Two versions are then compared by which of them is scored higher.
    """

    metric: str
    value: float
    others: Mapping[str, Any]
    correctness: np.ndarray
    rows: int
    missing: int = 0
    notes: Sequence[str] = field(default=())
    tokens: np.ndarray | None = None
    scores: np.ndarray | None = None


def differences(before: Measured, after: Measured) -> np.ndarray:
    """How much better the second version is on each row, from -1 to 1, float64 `(rows,)`."""
    if before.scores is None or after.scores is None:
        return after.correctness - before.correctness
    return signs(before.scores, after.scores)


def signs(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """1 where the second score is higher, -1 where the first is, 0 for equal ones; a missing score is the lowest."""
    one, other = (np.nan_to_num(scores, nan=-np.inf) for scores in (before, after))
    found: np.ndarray = (other > one).astype(float) - (other < one).astype(float)
    return found


def of_objective(objective: str, metric: str | None, key: str = "gate.metric") -> str:
    """The metric itself, or the default of an objective.

    Args:
        objective: one of `BY_OBJECTIVE`.
        metric: what the file asks for.
        key: where, for the error.

    Raises:
        SpecError: the objective does not have the metric.
    """
    known = BY_OBJECTIVE[objective]
    if metric is not None and metric not in known:
        raise SpecError(
            f"{key} is {metric!r}, which cannot be computed for objective {objective}; choices: {', '.join(known)}"
        )
    return known[0] if metric is None else metric


def check_metric(task: str, metric: str | None, key: str = "gate.metric") -> str:
    """The metric itself, or the default of the task.

    Raises:
        SpecError: the task cannot be evaluated, or does not have the metric.
    """
    if task not in METRICS:
        raise SpecError(f"task is {task!r}, which cannot be evaluated; choices: {', '.join(METRICS)}")
    if metric is None:
        return METRICS[task][0]
    if metric not in METRICS[task]:
        raise SpecError(
            f"{key} is {metric!r}, which cannot be computed for {task}; choices: {', '.join(METRICS[task])}"
        )
    return metric


def measure(
    task: str,
    table: pa.Table,
    predictions: pa.Array,
    metric: str | None = None,
    labels: Sequence[str] | None = None,
) -> Measured:
    """Compare predictions with the truth.

    Args:
        task: classify, ner, summarize, translate or generate.
        table: labelled rows, see `rows.TRUTH`.
        predictions: a value per row, as `predict` gives them; null counts as wrong.
        metric: one of `METRICS[task]`; the first by default.
        labels: labels that the model knows, for notes about those that the rows lack.

    Raises:
        SpecError: the metric is not one of the task's, or cannot be computed from these rows.
    """
    metric = check_metric(task, metric)
    if metric == PERPLEXITY:
        raise SpecError("perplexity is computed from the model, not from its texts; use perplexity.measure")
    if len(table) != len(predictions):
        raise SpecError(f"there are {len(table)} rows and {len(predictions)} predictions; give one for each row")
    if not len(table):
        raise SpecError(f"the holdout has no rows, so {metric} cannot be computed; add labelled rows to data.holdout")
    truth = rows.truth(task, table)
    if isinstance(predictions, pa.ChunkedArray):
        predictions = predictions.combine_chunks()
    if task == "classify":
        from jobs.evaluation import labels as of_labels

        return of_labels.measure(truth, predictions, metric, labels)
    if task == "ner":
        from jobs.evaluation import entities

        return entities.measure(table.column("text"), truth, predictions, metric, labels)
    from jobs.evaluation import texts

    # rougeLsum differs from rougeL only in texts of several lines, and takes as long again.
    return texts.measure(truth, predictions, metric, ("rouge1", "rouge2", "rougeL") if task == "summarize" else ())


def check_labels(task: str, table: pa.Table, labels: Sequence[str], where: str = "data.holdout") -> None:
    """Refuse labelled rows with labels that the model does not have.

    Args:
        task: classify or ner; other tasks have no labels.
        table: labelled rows.
        labels: the label map of the model, without B- and I-.
        where: which rows, for the error.

    Raises:
        SpecError: a label is not in the label map.
    """
    if task not in ("classify", "ner"):
        return
    unknown: dict[str, int] = {}
    for value in rows.truth(task, table).to_pylist():
        found = {value} if isinstance(value, str) else {v if isinstance(v, str) else v["label"] for v in value}
        for label in found - set(labels):
            unknown[label] = unknown.get(label, 0) + 1
    if unknown:
        label, count = max(unknown.items(), key=lambda item: item[1])
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise SpecError(
            f"{where} has the label {label!r} in {count} rows{more}, which the model does not have; its labels: "
            f"{', '.join(labels)}; add training rows of it, or leave it out with {where}.where"
        )
