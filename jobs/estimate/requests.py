"""How many requests to object stores a run will need; those to the Hub are in `jobs.plan.hub_requests`.

Only S3 is counted, as in the report of a run (`jobs.store.requests`). The numbers of a sink were counted on jobs of 1
to 64 shards and on later nights; reading is counted while the sample is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.plan import Plan
from jobs.store import Store, s3

# Of a sink: for its lease, ledger and report; for a shard that is staged and moved into place; for each second in which
# the progress is written and read and the lease is kept.
OF_RUN, OF_SHARD, OF_SECOND = 98.0, 10.0, 1.2
# Of a source: listings, and the footer or the head of each file.
OF_LISTING, OF_FILE = 4.0, 1.0


@dataclass(frozen=True)
class Reading:
    """Requests to object stores that reading takes.

    Attributes:
        shard: for each shard, until its first rows are there.
        row: for each further row.
    """

    shard: float = 0.0
    row: float = 0.0


def of_run(plan: Plan, reading: Reading, rows: float, seconds: float, store: Store) -> int:
    """About how many requests it takes to read the shards to do, and to write and publish them.

    Args:
        plan: the run.
        reading: what reading takes.
        rows: rows to read.
        seconds: how long the run takes.
        store: the sink's.
    """
    shards = plan.shards_todo
    found = 0.0
    if s3.is_s3(store.fs):
        found += OF_RUN + OF_SHARD * len(shards) + OF_SECOND * seconds
    if reading.shard:
        found += OF_LISTING + OF_FILE * len({shard.key for shard in shards})
        found += reading.shard * len(shards) + reading.row * rows
    return round(found)
