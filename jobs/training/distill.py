"""Distillation: the truth of each row is what a larger model, the teacher, gives for it.

A classifier learns the teacher's probabilities of all labels (Hinton, Vinyals, Dean 2015, arXiv:1503.02531), at
temperature 1, so that its own probabilities mean the same; other tasks learn the teacher's outputs (Kim and Rush 2016,
"Sequence-level knowledge distillation", arXiv:1606.07947). The teacher is computed as the nightly job computes it.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from jobs.evaluation.predict import predict, prepare
from jobs.models import hub
from jobs.training.canonical import ENTITIES
from jobs.training.soft_targets import SCORED, SCORES
from jobs.training.spec import TrainingSpec
from transforms.errors import ModelError

ENTITY = ("label", "start", "end")

# Options of a task that make its output a truth: all labels with their scores, and JSON as the text that was written.
AS_TRUTH: dict[str, dict[str, Any]] = {"classify": {"top_k": "all"}, "generate": {"json_column": "string"}}

# A teacher of several labels per text gives those with at least this probability.
LIKELY = 0.5


def answered(spec: TrainingSpec, table: pa.Table) -> pa.Table:
    """The rows with what the teacher gives; rows for which it gives nothing are left out.

    Args:
        spec: a training file with a teacher.
        table: `text`, or `prompt`, and further columns.

    Returns:
        The same columns, the truth of the task, and for classify `SCORES`.

    Raises:
        ModelError: the teacher cannot be loaded, or does not do the task.
    """
    assert spec.teacher is not None
    teacher = spec.teacher
    column = "prompt" if spec.task == "generate" else "text"
    has_text = [bool(text and text.strip()) for text in table.column(column).to_pylist()]
    table = table.filter(pa.array(has_text, pa.bool_()))
    options = dict(spec.options) | AS_TRUTH.get(spec.task, {})
    prepared = prepare(
        spec.task,
        hub.pin(teacher.model, teacher.revision, "teacher.model", spec.task),
        None if teacher.adapter is None else hub.pin(teacher.adapter, None, "teacher.adapter", spec.task),
        table,
        options,
    )
    found = predict(prepared).values
    has_answer = found.is_valid()
    table, found = table.filter(has_answer), found.filter(has_answer)
    if not len(table):
        raise ModelError(f"teacher.model {teacher.model!r} gives nothing for any row; check teacher and data.train")
    match spec.task:
        case "classify":
            return _with_labels(table, found, several=_has_several(prepared))
        case "ner":
            kept = [[{key: entity[key] for key in ENTITY} for entity in row] for row in found.to_pylist()]
            return table.append_column("entities", pa.array(kept, ENTITIES))
        case "generate":
            return table.append_column("completion", found)
    return table.append_column("target", found)


def _with_labels(table: pa.Table, found: pa.Array, several: bool) -> pa.Table:
    rows = found.to_pylist()
    if several:
        likely = [sorted(one["label"] for one in row if one["score"] >= LIKELY) for row in rows]
        table = table.append_column("label", pa.array(likely, pa.list_(pa.string())))
    else:
        table = table.append_column("label", pa.array([row[0]["label"] for row in rows], pa.string()))
    return table.append_column(SCORES, pa.array(rows, SCORED))


def _has_several(prepared: Any) -> bool:
    from jobs.plan import task_plans

    problem = getattr(task_plans.configured(prepared.plan), "problem_type", None)
    if problem == "regression":
        raise ModelError("teacher.model gives a number and no labels; distill from a model with labels")
    return bool(problem == "multi_label_classification")
