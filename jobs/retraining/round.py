"""A round: train a challenger on what is new, measure it beside the champion, decide, and move the champion.

A challenger that waits for evidence stays as long as new rows of the holdout decide about it. If there are none, and
there are new training rows, the next challenger is trained and takes its place.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from jobs.evaluation import latency
from jobs.evaluation.evaluate import Evaluation, compare
from jobs.evaluation.labels import ClassWeights
from jobs.evaluation.metrics import LOWER_IS_BETTER, REWARD, WIN_RATE
from jobs.execute.stop import NEVER, StopToken
from jobs.gate import decision as gates
from jobs.gate.decision import Decision, Evaluated
from jobs.gate.ring import Ring
from jobs.gate.slices import ALL
from jobs.registry import Registry, Version
from jobs.retraining import challengers, evidence, mislabelled, report, scores, stage_versions, state, students
from jobs.retraining.mislabelled import Mislabelled
from jobs.retraining.outcome import Outcome
from jobs.store import lease
from jobs.training import data, stages, train
from jobs.training.data import Rows
from jobs.training.spec import TrainingSpec
from transforms.errors import SinkBusy


@dataclass(frozen=True)
class Measured:
    """A challenger that was measured and decided about, and not promoted yet.

    Attributes:
        outcome: the outcome so far.
        decision: with its receipt.
        ring: the ring after the decision.
    """

    outcome: Outcome
    decision: Decision | None
    ring: Ring


def run(spec: TrainingSpec, watch: train.Watch | None = None, stop: StopToken = NEVER) -> Outcome:
    """A whole round, with the promotion if the gate says yes and `approval` is none.

    Raises:
        UserError: the training file does not fit its rows, its base or its registry.
        RunError: the training failed, or another one is running; the champion is as it was.
    """
    with holding(spec) as registry:
        measured = measure(spec, registry, watch, stop)
        if measured.outcome.decision == "promoted" and spec.approval == "none":
            return promote(spec, registry, measured, by="gate")
        return measured.outcome


@contextmanager
def holding(spec: TrainingSpec) -> Iterator[Registry]:
    """The registry, held by this process.

    Raises:
        SinkBusy: another training holds it.
    """
    registry = Registry(spec.registry)
    try:
        with lease.hold(registry.store):
            yield registry
    except SinkBusy as error:
        if registry.url in str(error):
            raise SinkBusy(f"registry {registry.url!r} is held by another training; wait for it, or stop it") from error
        raise


def measure(
    spec: TrainingSpec, registry: Registry, watch: train.Watch | None = None, stop: StopToken = NEVER
) -> Measured:
    """Train a challenger unless one waits, score it and the champion, and decide; the champion does not move.

    Raises:
        UserError: as `run`.
        RunError: as `run`.
    """
    started = time.monotonic()
    rows = data.load(spec)
    state.check_holdout(registry, rows.holdout)
    champion, ring = registry.champion(), state.ring(registry)
    waiting = evidence.waiting(ring, rows, registry)
    version = waiting or challengers.made(spec, rows, registry)
    if version is not None and waiting is None and (receipt := state.decided(registry, version.version)):
        return Measured(_nothing_new(spec, version, champion, rows, receipt, started), None, ring)
    curves: list[Any] = []
    suspects: Mislabelled | None = None
    challenger: Evaluation | None = None
    made_before: list[str] = []
    if version is None:
        folder = challengers.work_folder(registry, spec, rows)
        result = stages.run(spec, rows, folder, watch, stop)
        curves = list(result.curves)
        made_before = stage_versions.keep(spec, rows, folder, registry)
        challenger = scores.score(spec, result.folder, registry, rows)
        version = registry.add(result.folder, challengers.about(spec, rows, challenger))
        if result.losses is not None:
            suspects = mislabelled.find(pq.read_table(result.losses), result.labels)
            text = report.mislabelled(version.version, suspects)
            registry.store.put(report.mislabelled_rows(version.version), text.encode())
    challenger = challenger or scores.score(spec, version, registry, rows)
    state.keep_holdout(registry, rows.holdout)
    outcome = Outcome(
        version=version.version,
        champion_before=None if champion is None else champion.version,
        metric=challenger.measured.metric,
        value=challenger.measured.value,
        champion_value=None,
        gain=None,
        gain_low=None,
        gain_high=None,
        slices=challenger.metrics_by_slice,
        decision="waiting",
        reason="",
        rows_train=len(rows.train) + len(rows.validation),
        rows_holdout=len(rows.holdout),
        seconds=0.0,
        curves=curves,
        leaked=rows.leaked,
        mislabelled=None if suspects is None else suspects.found,
        notes=[*_about(spec, rows), *made_before, *challenger.measured.notes],
    )
    lower = outcome.metric in LOWER_IS_BETTER
    # A reward is any number, so the floor, which is from 0 to 1, is that of the win rate.
    floor = WIN_RATE if outcome.metric == REWARD else outcome.metric
    agreement = students.agreement(spec, challenger)
    evaluated = Evaluated(version.version, floor, challenger.metrics[floor], agreement=agreement, lower_is_better=lower)
    if champion is not None and students.is_teacher(spec, registry, champion.version):
        evaluated = replace(evaluated, champion=champion.version)
    elif champion is not None:
        current = registry.version(champion.version)
        best = scores.score(spec, current, registry, rows)
        ring = evidence.entered(ring, version.version, champion.version, outcome.metric, rows)
        weights = ClassWeights.from_json(ring.weights) if ring.weights else None
        compared = compare(spec.task, rows.holdout, best, challenger, spec.slices, weights, spec.gate.confidence)
        evaluated = replace(
            evaluated,
            champion=champion.version,
            champion_value=best.metrics[floor],
            changed=compared.changed.changed,
            slices={
                name: tuple(map(float, differences))
                for name, differences in {ALL: compared.differences, **compared.slices}.items()
            },
            latency=_latency(spec, best, challenger),
        )
        pair = evidence.Pair(current, version, (best, challenger), compared)
        ring, said = evidence.added(spec, registry, ring, rows, pair)
        outcome = replace(
            outcome,
            champion_value=best.measured.value,
            changes=compared.changed.to_json(),
            slices=_beside(challenger, best),
            evidence=said,
        )
    decision = gates.decide(spec.gate, evaluated, ring)
    slices = {name: dict(values) | _harm(decision, name) for name, values in outcome.slices.items()}
    outcome = replace(
        outcome,
        gain=decision.gain,
        gain_low=decision.gain_low,
        gain_high=decision.gain_high,
        slices=slices,
        decision=decision.decision,
        reason=decision.reason,
        labels_needed=decision.labels_needed,
        seconds=round(time.monotonic() - started, 1),
    )
    state.keep_decision(registry, version.version, decision.receipt)
    if outcome.changes:
        registry.store.put(examples_of(outcome), report.examples(outcome).encode())
    settled = decision.decision == "refused" and ring.challenger is not None
    state.keep_ring(registry, ring.settle(promoted=False) if settled else ring)
    return Measured(outcome, decision, ring)


def promote(spec: TrainingSpec, registry: Registry, measured: Measured, by: str, reason: str | None = None) -> Outcome:
    """Move the champion to the challenger that the gate has accepted.

    Raises:
        RunError: the champion moved meanwhile; nothing is changed.
    """
    outcome, decision = measured.outcome, measured.decision
    assert outcome.version is not None
    assert decision is not None
    registry.promote(outcome.version, by, reason or outcome.reason, outcome.champion_before, decision.receipt)
    by_evidence = measured.ring.challenger == outcome.version
    state.keep_ring(registry, measured.ring.settle(promoted=True) if by_evidence else measured.ring)
    return replace(outcome, approved=True)


def examples_of(outcome: Outcome) -> str:
    """Name of the file with the rows that champion and challenger answer differently."""
    return f"reports/{outcome.version}.md"


def _latency(spec: TrainingSpec, best: Evaluation, challenger: Evaluation) -> float | None:
    """Computing time of the challenger as a multiple of the champion's; None if the gate has no limit for it."""
    if spec.gate.max_latency is None:
        return None
    return latency.ratio(best.prepared, challenger.prepared, best.predictions.rows_per_s)


def _about(spec: TrainingSpec, rows: Rows) -> list[str]:
    """What a reader should know about the rows."""
    return [f"data.review {spec.data.review!r} has no labelled rows yet"] if rows.reviewed == 0 else []


def _beside(challenger: Evaluation, best: Evaluation) -> dict[str, dict[str, Any]]:
    other = best.metrics_by_slice
    return {
        name: values | {f"champion_{key}": value for key, value in other.get(name, {}).items() if key != "rows"}
        for name, values in challenger.metrics_by_slice.items()
    }


def _harm(decision: Decision, name: str) -> dict[str, str]:
    return {"harm": decision.slices[name].harm} if name in decision.slices else {}


def _nothing_new(
    spec: TrainingSpec, version: Version, champion: Any, rows: Rows, receipt: dict[str, Any], started: float
) -> Outcome:
    before = None if champion is None else champion.version
    metric, value = next(iter(version.metrics.items()))
    return Outcome(
        version=version.version,
        champion_before=before,
        metric=metric,
        value=value,
        champion_value=None if champion is None else champion.metrics.get(metric),
        gain=None,
        gain_low=None,
        gain_high=None,
        slices=version.slices,
        decision="nothing new",
        reason=f"{version.version} was trained on these rows before, and {receipt['decision']}: {receipt['reason']}",
        rows_train=len(rows.train) + len(rows.validation),
        rows_holdout=len(rows.holdout),
        seconds=round(time.monotonic() - started, 1),
        leaked=rows.leaked,
    )
