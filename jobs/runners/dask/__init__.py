"""The runner `dask`: the parts of a plan are futures on a Dask cluster, and each of them is a process on one worker."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from jobs.estimate.costs import costs
from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool
from jobs.parts import check as fitness
from jobs.parts import dispatch
from jobs.parts.board import Board
from jobs.plan import Plan
from jobs.runners.dask import process
from jobs.runners.dask.cluster import Cluster, connect
from jobs.sink import open_sink
from jobs.source import Shard
from jobs.spec import JobSpec
from jobs.store import fencing
from transforms.errors import SpecError

LOG = logging.getLogger(__name__)


def check(spec: JobSpec) -> None:
    """Refuse a scheduler that does not answer, and a cluster in which no worker could execute a part.

    A cluster without workers is taken: they may come later.

    Raises:
        SpecError: why.
    """
    address = str(spec.runner.address)
    client = connect(address)
    try:
        answers: Mapping[str, Any] = client.run(process.by_value(process.versions), on_error="return")
    except OSError as error:
        raise SpecError(f"runner.address {address!r}: the scheduler does not answer any more ({error})") from error
    finally:
        client.close()
    unfit = {worker: why for worker, answer in sorted(answers.items()) if (why := _unfit(answer))}
    for worker, why in unfit.items():
        LOG.warning("Dask worker %s gets no parts while this lasts: %s", worker, why)
    if unfit and len(unfit) == len(answers):
        worker, why = next(iter(unfit.items()))
        raise SpecError(
            f"runner.address {address!r}: none of the {len(answers)} workers of the cluster can execute parts of this "
            f"job, such as {worker}: {why}"
        )


def execute(plan: Plan, todo: Sequence[Shard], models: ModelPool | None = None, stop: StopToken = NEVER) -> None:
    """Execute some shards of a plan on the cluster; each finished shard gets a staged entry in the ledger.

    Args:
        plan: the run, its sink held by this process.
        todo: shards of the plan.
        models: unused; each process on a worker makes its own.
        stop: asks the run to stop.

    Raises:
        RunError: the error that stopped the run; finished shards are kept.
    """
    runner = plan.spec.runner
    store = open_sink(plan.spec.sink).store
    fencing.follow(store, plan.lease)
    board = Board(store, plan)
    parts = None if runner.parts == "auto" else runner.parts
    at_once = None if runner.at_once == "auto" else runner.at_once
    sink = store.root if store.local else store.url
    with closing(Cluster(str(runner.address), sink, plan.run_id)) as cluster:
        dispatch.execute(board, todo, cluster, costs(plan, todo), parts, at_once, stop)
    board.clear()


def _unfit(answer: Any) -> str:
    """Why a worker that has given this answer cannot execute parts; empty if it can."""
    if isinstance(answer, BaseException):
        return f"it does not answer ({type(answer).__name__}: {answer})"
    code, printed = answer
    if code:
        return f"it cannot tell its versions ({printed or f'exit code {code}'}); install nightscribe there"
    return fitness.difference(fitness.versions(), json.loads(printed))
