"""The threshold of each task with `first`: measured on a sample of the rows, kept in the sink, and pinned."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import numpy as np

from jobs.cascade import certify, kept
from jobs.cascade.certify import Tested
from jobs.cascade.compare import Comparison
from jobs.cascade.pending import Pending, pending
from jobs.cascade.sample import draw
from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool
from jobs.plan import Plan, fingerprint, planning, task_plans
from jobs.plan.first import Measured
from jobs.plan.task import TaskPlan
from jobs.sink.folder import FolderSink
from jobs.spec.first import FirstSpec

LOG = logging.getLogger(__name__)

# Answers to check in a run, and the least and the most of them as fractions: a run with few answers checks more.
CHECKED, LEAST_CHECKED, MOST_CHECKED = 200, 0.01, 0.05
# Thresholds of a task, each of which redoes its rows when it is refuted. If the rows that the models disagree on are in
# a few files, or one text that follows itself, the promise may hold for all rows together and be refuted in each run.
MEASUREMENTS = 3
# Where nothing was certified, a sample of so many times the rows is worth another measurement: at half of the error it
# takes 1.3 times the rows to certify the same.
MORE = 2


def check(plan: Plan, models: ModelPool, sink: FolderSink, stop: StopToken = NEVER) -> Plan:
    """The plan with the threshold of each task with `first`; with a new one, compared with the ledger again.

    It is measured once, again after rows of a run have refuted it, and again if nothing could be certified and a run
    has so many more rows that it may certify something. A task without a certified threshold is computed by its own
    model alone.

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
    if not plan.todo or plan.attempts is not None:
        return plan
    for i, task in enumerate(plan.tasks):
        if task.first is not None:
            plan = _with_threshold(plan, i, models, sink, stop)
    return plan


def _with_threshold(plan: Plan, i: int, models: ModelPool, sink: FolderSink, stop: StopToken) -> Plan:
    """The plan with the threshold of one task."""
    task = plan.tasks[i]
    assert task.first is not None
    # Its key depends on the tasks that it reads from. They may have been measured just now, and so may an equal task
    # that has another column.
    first = task_plans.keyed(plan.tasks[:i], task, plan.source.schema)
    if first.key != task.first.key or first.measured is None:
        first = replace(first, measured=kept.find(sink.store, first.key))
    plan = _changed(plan, i, replace(task, first=first), sink)
    if plan.todo and (first.measured is None or _may_say_more(first.measured)):
        with pending(plan, plan.tasks[i], sink, stop) as rows:
            found = _measured(rows, models, sink, stop)
        LOG.info("tasks.%d.first: %s", i, found.why or f"answers rows from confidence {found.threshold:g}")
        plan = _changed(plan, i, replace(plan.tasks[i], first=replace(first, measured=found)), sink)
    return plan


def _changed(plan: Plan, i: int, task: TaskPlan, sink: FolderSink) -> Plan:
    """The plan with another task in the place of one, compared with the ledger again."""
    if task == plan.tasks[i]:
        return plan
    return planning.refresh(planning.with_tasks(plan, [*plan.tasks[:i], task, *plan.tasks[i + 1 :]]), sink)


def _may_say_more(measured: Measured) -> bool:
    """Whether more rows may change what was found: nothing was certified, and it is not given up."""
    # One without a seed stands for a damaged file.
    return measured.threshold is None and bool(measured.seed) and measured.number < MEASUREMENTS


def _measured(pending: Pending, models: ModelPool, sink: FolderSink, stop: StopToken) -> Measured:
    """Measure a task, and keep what was found; what is known of it if there are too few rows to find something new."""
    task = pending.task
    asked, first = _asked(task), task.first
    assert first is not None
    before = kept.last(sink.store, first.key) or Measured(None, "")
    number = before.number + kept.is_refuted(sink.store, before)
    # Earlier versions have not counted the measurements, and kept one without rows if no row had a text.
    earlier = max(before.earlier, before.number) + (before.rows > 0)
    seed = fingerprint.digest([first.key, earlier, [shard.id for shard in pending.plan.shards_todo]])
    if number >= MEASUREMENTS:
        why = f"not used, because rows of runs have refuted {number} measured thresholds; give another model"
        measured = Measured(None, seed, number=number, why=why, earlier=earlier)
        kept.keep(sink.store, first.key, measured)
        return measured
    error = certify.share_of(1 - asked.confidence, earlier)
    wanted = 0
    if first.measured is not None:
        wanted = MORE * before.rows
        fewest = certify.rows_needed(asked.agree, error, wanted)
        if fewest is None or (pending.about_most is not None and pending.about_most < fewest):
            return first.measured
    most = 10**15 if pending.most is None else pending.most
    if (sizes := certify.sizes(most, asked.agree, error)) is None:
        return first.measured or _too_few(most, asked, error)
    drawn = draw(pending, sizes.first + sizes.second, int(seed, 16), stop)
    sizes = certify.sizes(drawn.total, asked.agree, error, len(drawn.rows))
    if sizes is None or sizes.second < wanted:
        return first.measured or _too_few(drawn.total, asked, error)
    LOG.info(
        "%s: both models compute up to %d rows to find where they agree",
        task.spec.into,
        sizes.second + sizes.explores * sizes.first,
    )
    comparison = Comparison(pending.plan, task, models, stop)
    surveyed = comparison.first(drawn.rows.slice(0, sizes.first))
    rows = comparison.first(drawn.rows.slice(sizes.first, sizes.second))
    if not len(rows.confidences):
        return first.measured or Measured(
            None, "", why="not used, because no row of a sample has something to annotate"
        )
    explored = comparison.agreed(surveyed) if sizes.explores else None
    thresholds = certify.order(surveyed.confidences, len(rows.confidences), asked.agree, error, explored)
    tested = certify.certify(rows.confidences, thresholds, asked.agree, error, partial(comparison.agreed, rows))
    which = "a sample that it is surest of"
    if explored is not None and not len(thresholds):
        tested, which = Tested(None, len(explored), int(explored.sum())), "a sample"
    measured = Measured(None, seed, rows=sizes.second, number=number, earlier=earlier)
    if tested.certified is None:
        measured = replace(measured, why=_why(tested, which, measured.rows, asked, earlier + 1))
    else:
        found = tested.certified
        expected = drawn.total * found.answered / measured.rows
        share = float(np.clip(CHECKED / max(1.0, expected), LEAST_CHECKED, MOST_CHECKED))
        measured = replace(
            measured, threshold=found.threshold, check=round(share, 6), answered=found.answered, agreed=found.agreed
        )
    kept.keep(sink.store, first.key, measured)
    return measured


def _too_few(rows: int, asked: FirstSpec, error: float) -> Measured:
    least, fewest = certify.least_rows(asked.agree, error), certify.rows_needed(asked.agree, error)
    assert fewest is not None
    why = (
        f"not used, because the run has {rows:,} rows to compute: at most a fifth of them are compared, and agree "
        f"{asked.agree:g} at confidence {asked.confidence:g} takes {least:,} rows that agree; give it {fewest:,} rows, "
        "or a lower agree or confidence"
    )
    return Measured(None, "", why=why)


def _why(tested: Tested, which: str, rows: int, asked: FirstSpec, earlier: int) -> str:
    """Why nothing was certified, with what the sample showed, and what would have it measured again."""
    fewest = certify.rows_needed(asked.agree, certify.share_of(1 - asked.confidence, earlier), MORE * rows)
    # A larger sample than this is never drawn.
    more = "" if fewest is None else f", or a run of {fewest:,} rows"
    seen = f"they agree on {tested.agreed:,} of the {tested.compared:,} rows of {which}"
    return (
        f"not used, because there is no confidence of first.model from which both models agree on {asked.agree:g} of "
        f"the rows for certain: {seen if tested.compared else 'it can answer too few rows of a sample'}; "
        f"give a model that agrees more often, a lower agree{more}"
    )


def _asked(task: TaskPlan) -> FirstSpec:
    assert task.spec.first is not None
    return task.spec.first
