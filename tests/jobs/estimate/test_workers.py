"""What a shard takes is known from a rate, and how long several workers need follows from the shards."""

import json

import numpy as np
import pytest

from jobs.estimate import estimate
from jobs.estimate.rate import Rate
from jobs.parts.schedule import PART_S
from jobs.source import Shard


def shards(costs):
    return [Shard(f"{i}", f"{i}", "v", "parquet", 0, 1, rows=round(cost)) for i, cost in enumerate(costs)]


def test_more_workers_need_less_time_until_the_largest_shard_decides():
    costs = [10.0] * 99 + [400.0]
    found = {n: estimate.scale(shards(costs), costs, n, run_s=1.0, start_s=5.0) for n in (1, 4, 16, 64)}
    assert found[1].seconds == 1 + 5 + 1390
    assert found[4].seconds == pytest.approx(1390 / 4 + 6, rel=0.25)
    assert found[16].seconds == found[64].seconds == 1 + 5 + 400
    assert found[4].worker_hours < found[64].worker_hours
    assert estimate.scale([], [], 4, 1.0, 5.0).used == 0


def test_a_long_run_has_parts_of_some_minutes_and_all_workers_are_busy_to_the_end():
    costs = np.random.default_rng(0).lognormal(3, 1, 3000).tolist()
    found = estimate.scale(shards(costs), costs, 16, run_s=0.0, start_s=10.0)
    assert found.used == 16
    assert found.parts >= sum(costs) / PART_S
    assert sum(costs) / 16 < found.seconds < 1.1 * sum(costs) / 16 + 60


def test_a_rate_survives_its_file_and_says_what_a_shard_takes():
    rate = Rate.from_json(
        {
            "tasks": [
                {
                    "into": "a",
                    "classes": [
                        {
                            "longest": 10,
                            "share": 0.5,
                            "characters": 5,
                            "seconds": 0.2,
                            "tokens": 3,
                            "positions": 4,
                        }
                    ],
                    "sampled": 7,
                }
            ],
            "selected": 0.5,
            "unreadable": 0,
            "rows_per_guess": 2,
            "rows_of_shard": 30,
            "read_s": 0.01,
            "write_s": 0.02,
            "shard_s": 1,
            "start_s": 3,
            "run_s": 1,
            "row_bytes": 8,
            "memory_bytes": 9,
        }
    )
    assert Rate.from_json(json.loads(json.dumps(rate.to_json()))) == rate
    shard = Shard("f", "f", "v", "csv", 0, 0, about_rows=50)
    assert (rate.rows(shard), rate.rows_selected(shard)) == (100, 50)
    assert rate.expected_seconds(shard) == pytest.approx(1 + 100 * 0.01 + 50 * (0.02 + 0.5 * 0.2))
    assert rate.expected_seconds(shard, []) == pytest.approx(1 + 100 * 0.01 + 50 * 0.02)
    assert rate.rows(Shard("f", "f", "v", "csv", 0, 0)) == 30
