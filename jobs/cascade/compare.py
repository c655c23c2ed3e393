"""Rows of a sample computed by both models of a task: first the smaller one, then the large one where it is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.cascade.certify import Bools, Floats, Numbers
from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool, comparing
from jobs.plan import Plan, needed
from jobs.plan.task import TaskPlan
from transforms.cascade import agreement


@dataclass(frozen=True)
class Answers:
    """Rows with something to annotate, and what the smaller model says of them.

    Attributes:
        rows: the columns of the source, and those of tasks before that are needed.
        values: of the smaller model.
        confidences: of the smaller model, `(rows,)`; -inf for a row that it cannot answer.
    """

    rows: pa.Table
    values: pa.ChunkedArray
    confidences: Floats


class Comparison:
    """Both models of a task.

    Args:
        plan: the run.
        task: one of its tasks, with a smaller model.
        models: loads them; the large one when the first rows are compared.
        stop: checked before each batch.
    """

    def __init__(self, plan: Plan, task: TaskPlan, models: ModelPool, stop: StopToken = NEVER):
        self.plan, self.task, self.models, self.stop = plan, task, models, stop

    def first(self, rows: pa.Table) -> Answers:
        """What the smaller model says; rows without a text, which no model answers, are left out."""
        assert self.task.small is not None
        ask = self.models.annotator(self.task.small)
        kept, values, confidences = [], [], []
        for batch in rows.combine_chunks().to_batches(self.plan.chunk_rows):
            self.stop.check()
            batch = self._with_columns_before(batch)
            found = ask(batch)
            assert found.confidence is not None
            failed = np.zeros(len(batch), bool)
            failed[[failure.row for failure in found.failures]] = True
            given = np.flatnonzero(failed | found.values.is_valid().to_numpy(zero_copy_only=False))
            kept.append(batch.take(pa.array(given)))
            values.append(found.values.take(pa.array(given)))
            confidences.append(np.where(failed, -np.inf, np.asarray(found.confidence, float))[given])
        if not kept:
            return Answers(rows, pa.chunked_array([], pa.null()), np.zeros(0))
        return Answers(pa.Table.from_batches(kept), pa.chunked_array(values), np.concatenate(confidences))

    def agreed(self, answers: Answers, numbers: Numbers | None = None) -> Bools:
        """Whether the large model agrees on some of the rows, or on all of them.

        Args:
            answers: of the smaller model.
            numbers: of the rows.
        """
        numbers = np.arange(len(answers.confidences)) if numbers is None else numbers
        large = self.models.annotator(self.task.large)
        agreed: list[NDArray[np.bool_]] = [np.zeros(0, bool)]
        for start in range(0, len(numbers), self.plan.chunk_rows):
            self.stop.check()
            at = numbers[start : start + self.plan.chunk_rows]
            batch = answers.rows.take(pa.array(at)).combine_chunks().to_batches()[0]
            first = pc.take(answers.values, pa.array(at)).combine_chunks()
            same = agreement(comparing(large), first, large(batch), np.arange(len(at)))
            agreed.append(same & np.isfinite(answers.confidences[at]))
        return np.concatenate(agreed)

    def _with_columns_before(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with the columns of tasks that this one reads, without those that they fail on."""
        for each in needed.before(self.task, self.plan.tasks):
            found = self.models.annotator(each)(batch)
            broken = {failure.row for failure in found.failures}
            whole = pa.array([row not in broken for row in range(len(batch))], pa.bool_())
            batch = batch.append_column(each.spec.into, found.values).filter(whole)
        return batch
