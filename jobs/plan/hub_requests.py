"""How many requests to the Hub a run will need, as far as its plan can say."""

from __future__ import annotations

from jobs.hub.tree import URL
from jobs.models.hub import Pin
from jobs.plan import Plan
from jobs.source import repository

# Shards that are looked at; more are estimated from these.
LOOKED_AT = 1000


def expected(plan: Plan) -> int | None:
    """About how many requests it takes to read the shards and to download the models that are not here yet.

    Returns:
        None for a plan that needs nothing of the Hub. Datasets that `datasets` streams and not file by file, and what
        is written to the Hub, are not counted.
    """
    shards = [shard for shard in plan.shards_todo if shard.file.startswith(URL)]
    pins = [pin for task in plan.tasks for pin in task.pins if is_on_hub(pin)]
    if not shards and not (pins and plan.todo):
        return None
    looked_at = shards[:: len(shards) // LOOKED_AT + 1]
    found = repository.requests(looked_at, plan.source.file_schema.names)
    if looked_at:
        found = round(found * len(shards) / len(looked_at))
    # Of each file the Hub is asked where it is, then for its content.
    return found + sum(2 * pin.missing() for pin in pins)


def is_on_hub(pin: Pin) -> bool:
    """Whether a model comes from a repository of the Hub."""
    return not pin.local and pin.registry is None
