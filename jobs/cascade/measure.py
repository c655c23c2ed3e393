"""The threshold of each task with `first`: measured on a sample of the rows to do, kept in the sink, and pinned."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa

from jobs.cascade import certify, kept
from jobs.cascade.certify import Rows
from jobs.cascade.sample import Drawn, draw
from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool, comparing
from jobs.plan import Plan, fingerprint, needed, planning, task_plans
from jobs.plan.first import Measured
from jobs.plan.task import TaskPlan
from jobs.sink.folder import FolderSink
from jobs.spec.first import FirstSpec
from transforms.cascade import agreement

LOG = logging.getLogger(__name__)

# Answers to check in a run, and the least and the most of them as fractions: a run with few answers checks more.
CHECKED, LEAST_CHECKED, MOST_CHECKED = 200, 0.01, 0.05
# Measurements of a task, each of which redoes its rows. If the rows that the models disagree on are in a few files, the
# promise may hold for all rows together and be refuted in the middle of each run.
MEASUREMENTS = 3


def check(plan: Plan, models: ModelPool, sink: FolderSink, stop: StopToken = NEVER) -> Plan:
    """The plan with the threshold of each task with `first`; with a new one, compared with the ledger again.

    It is measured once, and again after rows of a run have refuted it. A task without a certified threshold is computed
    by its own model alone.

    Args:
        plan: the run, under the lease.
        models: takes the models that are loaded for this, so that the run need not load them again.
        sink: keeps what is measured.
        stop: ends a measurement.

    Raises:
        ModelError: a model cannot be loaded.
        Stopped: the run was asked to stop.
    """
    # A run that only tries rejected rows again keeps the thresholds as they are.
    if not plan.todo or plan.attempts is not None or all(task.first is None for task in plan.tasks):
        return plan
    tasks: list[TaskPlan] = []
    drawn: dict[int, Drawn] = {}
    for i, task in enumerate(plan.tasks):
        if task.first is not None:
            # Its key depends on the tasks that it reads from, which may have been measured just now.
            first = task_plans.keyed(tasks, task, plan.source.schema)
            if first.key != task.first.key:
                first = replace(first, measured=kept.find(sink.store, first.key))
            task = replace(task, first=first)
            if first.measured is None or _can_say_more(plan, task, first.measured):
                so_far = replace(plan, tasks=(*tasks, task, *plan.tasks[i + 1 :]))
                found = _measured(so_far, task, models, sink, drawn, stop)
                LOG.info("tasks.%d.first: %s", i, found.why or f"answers rows from confidence {found.threshold:g}")
                task = replace(task, first=replace(first, measured=found))
        tasks.append(task)
    if tuple(tasks) == plan.tasks:
        return plan
    return planning.refresh(planning.with_tasks(plan, tasks), sink)


def _can_say_more(plan: Plan, task: TaskPlan, measured: Measured) -> bool:
    """Whether a run has so many more rows than the one that certified nothing that it may certify something."""
    if measured.threshold is not None or plan.rows_expected is None:
        return False
    asked = _asked(task)
    sizes = certify.sizes(plan.rows_expected, asked.agree, 1 - asked.confidence)
    return sizes is not None and sum(sizes) >= 2 * measured.possible


def _measured(
    plan: Plan, task: TaskPlan, models: ModelPool, sink: FolderSink, drawn: dict[int, Drawn], stop: StopToken
) -> Measured:
    """Measure a task, and keep what was found if there were rows enough to find something."""
    asked, first = _asked(task), task.first
    assert first is not None
    error = 1 - asked.confidence
    if plan.rows_todo is not None and certify.sizes(plan.rows_todo, asked.agree, error) is None:
        return _too_few(plan.rows_todo, asked)
    before = kept.last(sink.store, first.key)
    # A threshold that was kept and is measured all the same has been refuted.
    number = 0 if before is None else before.number + (before.threshold is not None)
    seed = fingerprint.digest([first.key, number, [shard.id for shard in plan.shards_todo]])
    most = sum(certify.sizes(plan.rows_todo or 10**15, asked.agree, error) or ())
    if number >= MEASUREMENTS:
        why = f"not used, because rows of runs have refuted {number} measured thresholds; give another model"
        measured = Measured(None, seed, number=number, why=why, possible=most)
        kept.keep(sink.store, first.key, measured)
        return measured
    if most not in drawn:
        drawn[most] = draw(plan, most, int(seed, 16), stop)
    sample = drawn[most]
    sizes = certify.sizes(sample.total, asked.agree, error)
    if sizes is None:
        return _too_few(sample.total, asked)
    explored = _compared(plan, task, models, sample.rows.slice(0, sizes[0]), stop)
    rest = sample.rows.slice(sizes[0], sizes[1])
    thresholds = certify.order(explored, len(rest), asked.agree, error)
    if not len(thresholds):
        measured = Measured(None, seed, rows=len(explored.agreed), number=number, why=_why(explored, asked))
    else:
        tested = _compared(plan, task, models, rest, stop)
        rows = len(explored.agreed) + len(tested.agreed)
        certified = certify.certify(tested, thresholds, asked.agree, error)
        if certified is None:
            measured = Measured(None, seed, rows=rows, number=number, why=_why(tested, asked))
        else:
            expected = sample.total * certified.answered / max(1, len(tested.agreed))
            share = float(np.clip(CHECKED / max(1.0, expected), LEAST_CHECKED, MOST_CHECKED))
            measured = Measured(
                certified.threshold,
                seed,
                round(share, 6),
                len(tested.agreed),
                certified.answered,
                certified.agreed,
                number,
            )
    measured = replace(measured, possible=sum(sizes))
    kept.keep(sink.store, first.key, measured)
    return measured


def _compared(plan: Plan, task: TaskPlan, models: ModelPool, rows: pa.Table, stop: StopToken) -> Rows:
    """Both models on some rows; those without a text, which no model answers, are left out."""
    small, large = task.small, models.annotator(task.large)
    assert small is not None
    ask = models.annotator(small)
    confidences, agreed = [], []
    for batch in rows.combine_chunks().to_batches(plan.chunk_rows):
        stop.check()
        for each in needed.before(task, plan.tasks):
            found = models.annotator(each)(batch)
            broken = {failure.row for failure in found.failures}
            kept_rows = pa.array([row not in broken for row in range(len(batch))], pa.bool_())
            batch = batch.append_column(each.spec.into, found.values).filter(kept_rows)
        first = ask(batch)
        assert first.confidence is not None
        second = large(batch)
        valid = first.values.is_valid().to_numpy(zero_copy_only=False)
        failed = [failure.row for failure in first.failures]
        valid[failed] = True
        sure = np.asarray(first.confidence, float)
        sure[failed] = -np.inf
        places = np.flatnonzero(valid)
        same = agreement(comparing(large), first.values.take(pa.array(places)), second, places)
        confidences.append(sure[places])
        agreed.append(same & np.isfinite(sure[places]))
    return Rows(np.concatenate([np.zeros(0), *confidences]), np.concatenate([np.zeros(0, bool), *agreed]))


def _too_few(rows: int, asked: FirstSpec) -> Measured:
    least = certify.least_rows(asked.agree, 1 - asked.confidence)
    fewest = certify.rows_needed(asked.agree, 1 - asked.confidence)
    why = (
        f"not used, because the run has {rows:,} rows to do: at most a tenth of them are compared, and agree "
        f"{asked.agree:g} at confidence {asked.confidence:g} takes {least:,} rows that agree; give it {fewest:,} rows, "
        "or a lower agree or confidence"
    )
    return Measured(None, "", why=why)


def _why(rows: Rows, asked: FirstSpec) -> str:
    """Why nothing was certified, with what the sample showed."""
    surest = rows.agreed[np.argsort(-rows.confidences, kind="stable")[: max(1, len(rows.agreed) // 2)]]
    every, half = (float(part.mean()) if len(part) else 0.0 for part in (rows.agreed, surest))
    return (
        f"not used, because there is no confidence from which the models agree on {asked.agree:g} of the rows for "
        f"certain: they agree on {every:.4f} of a sample, and on {half:.4f} of the half that first.model is surest of; "
        "give a model that agrees more often, a lower agree, or more rows"
    )


def _asked(task: TaskPlan) -> FirstSpec:
    assert task.spec.first is not None
    return task.spec.first
