"""Rows on which champion and challenger differ: the only ones whose labels say which of the two is better.

While a challenger waits in the ring of the registry that a job uses, its weights are frozen, so rows that are drawn now
are evidence. Some rows of the night are answered by the challenger too, and rows are drawn among those that it answers
differently.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.evaluation.diff import differ
from jobs.evaluation.predict import predict, prepare
from jobs.models import hub
from jobs.plan import Plan
from jobs.plan.task import TaskPlan
from jobs.registry import Registry
from jobs.retraining import state
from jobs.review import population as populations
from jobs.review.draw import draw_alike
from jobs.review.population import Population
from jobs.sink.folder import FolderSink

# For each row that is wanted, the challenger answers so many: enough if 5 % or more are answered differently.
LOOKED_AT = 20


@dataclass(frozen=True)
class Waiting:
    """A challenger in the ring.

    Attributes:
        registry: that the job uses.
        version: the challenger.
        champion: the version that the job uses, and that the challenger is compared with.
    """

    registry: Registry
    version: str
    champion: str


@dataclass(frozen=True)
class Differences:
    """Rows that were drawn among those that the two answer differently.

    Attributes:
        rows: indices in the population.
        predictions: what the challenger says of each.
        probability: with which each of them was drawn.
        others: rows that were looked at and not drawn.
    """

    rows: np.ndarray
    predictions: pa.Array
    probability: float
    others: int


def waiting(task: TaskPlan) -> Waiting | None:
    """The challenger that waits for evidence against the version that a task uses; None if there is none.

    Raises:
        RunError: the state of the registry is damaged.
    """
    pin = next((pin for pin in (task.adapter, task.model) if pin is not None and pin.registry is not None), None)
    if pin is None or pin.registry is None:
        return None
    registry, champion = Registry(pin.registry), pin.name.rpartition("@")[2]
    ring = state.ring(registry)
    if ring.challenger is None or ring.champion != champion:
        return None
    return Waiting(registry, ring.challenger, champion)


def differences(
    plan: Plan,
    sink: FolderSink,
    task: TaskPlan,
    found: Waiting,
    population: Population,
    taken: np.ndarray,
    rows: float,
    seed: str,
) -> Differences:
    """Draw uniformly among the rows that the challenger answers differently.

    Args:
        plan: the run.
        sink: where its part files are.
        task: the task as the champion computed it.
        found: the challenger.
        population: the rows of the run.
        taken: whether each row has been drawn already, `(rows,)`.
        rows: expected number of rows to draw.
        seed: of the draw.

    Raises:
        UserError: the challenger does not fit the task.
        RunError: it does not fit into memory.
    """
    free = np.flatnonzero(~taken)
    near, _ = draw_alike([population.keys[int(i)] for i in free], LOOKED_AT * rows, f"{seed}/looked at")
    looked = free[near]
    table = populations.take(plan, sink, population, looked)
    version = found.registry.version(found.version)
    pin = hub.pin(f"{found.registry.url}@{version.version}", None, "registry")
    model, adapter = (pin, None) if version.kind == "model" else (task.model, pin)
    assert model is not None
    options = task.spec.frozen() | {"dtype": task.dtype, "engine": task.engine, "device": task.device}
    ignored = ("task", "into", "model", "revision", "adapter", "adapter_revision")
    options = {key: value for key, value in options.items() if key not in ignored}
    predicted = predict(prepare(task.spec.task, model, adapter, table.drop_columns([task.spec.into]), options)).values
    unlike = np.flatnonzero(differ(table.column(task.spec.into).combine_chunks(), predicted))
    drawn, probability = draw_alike([population.keys[int(i)] for i in looked[unlike]], rows, f"{seed}/difference")
    chosen = unlike[drawn]
    return Differences(
        looked[chosen], predicted.take(pa.array(chosen, pa.int64())), probability, len(looked) - len(chosen)
    )
