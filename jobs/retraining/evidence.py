"""What decides between champion and challenger: labels that were drawn for the two, and rows of the holdout, once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.evaluation.evaluate import Comparison, Evaluation
from jobs.evaluation.labels import ClassWeights
from jobs.gate.eprocess import Draw
from jobs.gate.ring import Ring
from jobs.registry import Registry, Version
from jobs.retraining import challengers, scores, state
from jobs.review import columns
from jobs.training.data import Rows
from jobs.training.spec import TrainingSpec

# A row of the holdout is evidence for one challenger; with fewer rows than this nothing is proven.
FEWEST_UNSPENT = 20


@dataclass(frozen=True)
class Pair:
    """Two versions that were measured on the holdout.

    Attributes:
        champion: the one.
        challenger: the other.
        scored: both on the holdout, the champion first.
        compared: their differences there.
    """

    champion: Version
    challenger: Version
    scored: tuple[Evaluation, Evaluation]
    compared: Comparison


def waiting(ring: Ring, rows: Rows, registry: Registry) -> Version | None:
    """The challenger in the ring, if it is to stay there.

    It stays until there are new training rows, and then as long as there is new evidence and a number of labels that
    would settle the decision is foreseeable.
    """
    if ring.challenger is None:
        return None
    version = registry.version(ring.challenger)
    if version.train_hash == rows.train_hash:
        return version
    if ring.nights and not state.foreseeable(registry, version.version):
        return None
    fresh = set(rows.holdout.column("key").to_pylist()) - ring.spent
    return version if len(fresh) >= FEWEST_UNSPENT or nights(ring, rows.differences) else None


def entered(ring: Ring, version: str, champion: str, metric: str, rows: Rows) -> Ring:
    """The ring with the challenger in it, and with the weights of its labels, which then stay as they are."""
    if (ring.challenger, ring.champion) == (version, champion):
        return ring
    weights = scores.weights(metric, rows.holdout)
    if weights is None:
        return ring.enter(version, champion, challengers.now())
    mean = float(weights.of(rows.holdout.column("label").to_pylist()).mean())
    return ring.enter(version, champion, challengers.now(), weights.to_json(), scale=1.0 / mean)


def added(spec: TrainingSpec, registry: Registry, ring: Ring, rows: Rows, pair: Pair) -> tuple[Ring, str]:
    """The ring with all evidence that is new, and what its evidence is now, in words.

    Raises:
        UserError: a version cannot be loaded.
    """
    ring = _with_holdout(ring, rows, pair.compared)
    missing = 0
    for night in nights(ring, rows.differences):
        if night.column(columns.COMPLETE)[0].as_py():
            ring = _with_night(spec, registry, ring, night, rows, pair)
        else:
            missing += night.column("review_differences")[0].as_py() - len(night)
    return ring, in_words(ring, missing)


def nights(ring: Ring, differences: pa.Table) -> list[pa.Table]:
    """The labelled rows that were drawn for the challenger in the ring and are not in its evidence yet, by run.

    Args:
        ring: the state of the gate.
        differences: rows with `key` and `drawn.COLUMNS`.
    """
    if ring.challenger is None or not len(differences):
        return []
    versions = (("review_challenger", ring.challenger), ("review_champion", ring.champion))
    mine = pc.and_(*(pc.equal(differences.column(name), version) for name, version in versions))
    found = differences.filter(pc.fill_null(mine, False))
    runs = sorted(set(found.column("review_run").to_pylist()))
    each = [found.filter(pc.equal(found.column("review_run"), run)) for run in runs]
    # The labels of a night are evidence together, so a night with one row in the evidence is there as a whole.
    return [night for night in each if not ring.seen.intersection(night.column("key").to_pylist())]


def in_words(ring: Ring, missing: int) -> str:
    """What the evidence in the ring is.

    Args:
        ring: the state of the gate.
        missing: rows that were drawn for the challenger and are not labelled yet.
    """
    held = sum(len(night.keys) for night in ring.nights if night.drawn_at is None)
    later = [len(night.keys) for night in ring.nights if night.drawn_at is not None]
    said = [f"{sum(later):,} labels on which the two differ, drawn in {len(later):,} runs"] if later else []
    said += [f"{held:,} rows of the holdout, spent for this challenger"] if held else []
    said += (
        [f"{missing:,} drawn rows are not labelled yet, and a run counts once all of its rows are"] if missing else []
    )
    return "; ".join(said) or "none"


def _with_holdout(ring: Ring, rows: Rows, compared: Comparison) -> Ring:
    """The ring with the holdout rows that were evidence for no challenger yet."""
    keys = rows.holdout.column("key").to_pylist()
    fresh = {key: i for i, (key, unspent) in enumerate(zip(keys, ring.unspent(keys), strict=True)) if unspent}
    if len(fresh) < FEWEST_UNSPENT:
        return ring
    return ring.spend(Draw.whole([float(compared.differences[i]) for i in fresh.values()]), list(fresh))


def _with_night(spec: TrainingSpec, registry: Registry, ring: Ring, night: pa.Table, rows: Rows, pair: Pair) -> Ring:
    """The ring with the labels of one run."""
    assert ring.challenger is not None
    versions = zip((pair.champion, pair.challenger), pair.scored, strict=True)
    before, after = (scores.correctness(spec, version, registry, night, rows, scored) for version, scored in versions)
    differences = scores.differences(spec, before, after)
    if ring.weights:
        differences = ClassWeights.from_json(ring.weights).weighted(night.column("label").to_pylist(), differences)
    first = {name: night.column(name)[0].as_py() for name in night.schema.names}
    probability = float(first["review_probability"])
    # A row that people could not decide about is answered right by neither, so its difference is 0.
    others = int(first["review_others"]) + int(first[columns.SKIPPED] or 0)
    draw = Draw(_floats(differences), (probability,) * len(night), others, probability)
    return ring.add(ring.challenger, draw, night.column("key").to_pylist(), first["review_at"])


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
