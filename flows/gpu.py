"""One queue for the GPU: a global concurrency limit; only jobs that use the GPU take a slot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from jobs.plan import Plan
from transforms.device import choose_device

LIMIT = "gpu"
SLOTS = 1


def create_limit() -> bool:
    """Create the limit if the server has none; returns whether it was created. An existing limit keeps its slots."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=SLOTS))
            return True
    return False


def needed(plan: Plan) -> bool:
    """Whether a plan computes on a GPU of this machine; a cluster has its own queue."""
    devices = (choose_device(task.spec.device).type for task in plan.tasks if task.model is not None)
    return plan.spec.runner.is_here and bool(plan.todo) and any(device != "cpu" for device in devices)


@contextmanager
def slot(plan: Plan) -> Iterator[None]:
    """Hold a slot while the block runs, if the plan needs the GPU; waits for a free slot without a time limit."""
    if not needed(plan):
        yield
        return
    create_limit()
    # strict: without it a limit that is missing is a warning, and all jobs run at once.
    with concurrency(LIMIT, strict=True):
        yield
