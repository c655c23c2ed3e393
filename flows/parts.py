"""The runner `prefect`: the workers of a work pool execute the parts of a plan, and this process hands them out."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException

from flows import automations, part, server
from flows.pool import POOL, PoolSite, start_command
from jobs.estimate import costs
from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool
from jobs.parts import dispatch
from jobs.parts.board import Board
from jobs.plan import Plan
from jobs.sink import open_sink
from jobs.source import Shard
from jobs.spec import JobSpec
from jobs.store import fencing
from transforms.errors import RunError, SpecError


def check(spec: JobSpec) -> None:
    """Refuse a job without a server or a work pool.

    Raises:
        SpecError: no server is set, or it has no such pool.
        RunError: the server does not answer.
    """
    if not (url := server.configured()):
        raise SpecError(
            f"runner.name is 'prefect', and no Prefect server is set; set PREFECT_API_URL to the address of one, such "
            f"as http://127.0.0.1:{server.PORT}/api, or start one with `nightscribe serve`"
        )
    if why := server.silent(url):
        raise RunError(server.no_answer(url, why))
    name = spec.runner.work_pool or POOL
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            known = ", ".join(sorted(pool.name for pool in client.read_work_pools())) or "none"
            raise SpecError(
                f"runner.work_pool {name!r} is not on the Prefect server at {url!r}; work pools: {known}; make it with "
                f"`prefect work-pool create {name} --type process`, and start workers with `{start_command(name)}`"
            ) from None


def execute(plan: Plan, todo: Sequence[Shard], models: ModelPool | None = None, stop: StopToken = NEVER) -> None:
    """Execute some shards of a plan in parts, each of them a run of the flow `enrich-part`.

    Within a flow run the parts are its child runs.

    Raises:
        RunError: a shard failed, or workers refuse or die; finished shards are kept.
        Stopped: the run was asked to stop.
    """
    runner = plan.spec.runner
    pool = runner.work_pool or POOL
    try:
        with get_client(sync_client=True) as client:
            deployment, _ = part.deploy(client, pool)
        automations.ensure()
    except (httpx.HTTPError, PrefectException) as error:
        url = str(server.configured())
        raise RunError(server.no_answer(url, str(error) or type(error).__name__)) from error
    store = open_sink(plan.spec.sink).store
    fencing.follow(store, plan.lease)
    board = Board(store, plan)
    site = PoolSite(pool, deployment, board, plan.spec.name, stop)
    site.stop_earlier()
    parts = None if runner.parts == "auto" else runner.parts
    at_once = None if runner.at_once == "auto" else runner.at_once
    dispatch.execute(board, todo, site, costs.costs(plan, todo), parts, at_once, stop)
    board.clear()
