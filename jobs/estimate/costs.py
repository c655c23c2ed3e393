"""What each shard will take, by the newest calibration of this machine: for whoever divides a plan into parts."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.estimate import kept
from jobs.plan import Plan
from jobs.source import Shard


def costs(plan: Plan, shards: Sequence[Shard]) -> list[float] | None:
    """Expected seconds of each shard for a worker that has its models.

    Nothing is computed: `nightscribe plan --estimate` has kept the rate, also that of an earlier night of the job.

    Args:
        plan: the run.
        shards: shards of it.

    Returns:
        None if this machine has no rate for these tasks and this sink.
    """
    found = kept.find(plan)
    return None if found is None else [found.rate.expected_seconds(shard) for shard in shards]
