from __future__ import annotations

import pytest

from jobs import run, spec
from jobs.execute import shard as shards
from jobs.models.pool import ModelPool
from jobs.plan import planning


@pytest.fixture
def run_once():
    """A run without a Beam runner: the same plain functions, in one thread, so that many crashes are cheap."""

    def call(content, patch=lambda: None):
        with run.holding(planning.make(spec.parse(content))) as held:
            patch()
            for shard in held.plan.shards_todo:
                shards.execute_shard(held.plan, shard, ModelPool(), held.sink)
            return run.finish(held)

    return call
