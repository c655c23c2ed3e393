"""One part of a run as a Prefect flow, and its deployment: a worker of a work pool executes some shards of a plan."""

from __future__ import annotations

import importlib.metadata
import os
import socket
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import VersionInfo
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Failed

from flows import automations, logs
from jobs.execute import stop
from jobs.parts import State, worker
from transforms.errors import NightscribeError, SinkBusy, Stopped

# A part asks at once to stop, because another worker does its shards as soon as the run goes on.
STOP_WITHIN_S = 10.0


@flow(name="enrich-part", persist_result=False)
def enrich_part(sink: str, run_id: str, number: int) -> Any:
    """Enrich the shards of one part of a run. A flow `enrich`, or `nightscribe run`, starts it.

    Args:
        sink: folder or URL of the sink.
        run_id: the run.
        number: the part.

    Returns:
        A state with one sentence: Completed, Failed, or Cancelled if the part was stopped or is not needed any more.
    """
    with stop.on_signals(within_s=STOP_WITHIN_S) as stopped, logs.forwarded(stopped.is_set):
        try:
            return _ended(worker.execute_part(sink, run_id, number, name_of_worker(), stopped))
        except (Stopped, SinkBusy) as error:
            return Cancelled(message=str(error))
        except NightscribeError as error:
            get_run_logger().error(str(error))
            return Failed(message=str(error))


def name_of_worker() -> str:
    """The Prefect worker whose part this is, by the name that a person gave it; else its machine and its id."""
    machine = socket.gethostname()
    kind, _, given = os.environ.get("PREFECT__WORKER_NAME", "").partition(" ")
    try:
        # A worker without a name of its own is called by its class and a UUID.
        return f"{machine}/{UUID(given).hex[:6]}"
    except ValueError:
        return " ".join(filter(None, [kind, given])) or machine


def deploy(client: SyncPrefectClient, pool: str) -> tuple[UUID, str]:
    """Create or update the deployment of parts for a work pool.

    Returns:
        Its id, and created, changed or unchanged.
    """
    version = importlib.metadata.version("nightscribe")
    wanted = enrich_part.to_deployment(
        name=pool,
        entrypoint_type=EntrypointType.MODULE_PATH,
        description=f"Parts of the runs that use the work pool `{pool}`; each run starts them itself.",
        tags=[automations.TAG],
        version=version,
        work_pool_name=pool,
        # Without a folder: a part works in that of its run, and says so in a sentence if there is none.
        job_variables={"env": dict(automations.HEARTBEATS)},
    )
    assert isinstance(wanted, RunnerDeployment)
    try:
        found = client.read_deployment_by_name(f"{enrich_part.name}/{pool}")
    except ObjectNotFound:
        found = None
    if found is not None and (found.version, found.work_pool_name, found.entrypoint, found.job_variables) == (
        version,
        pool,
        wanted.entrypoint,
        wanted.job_variables,
    ):
        return found.id, "unchanged"
    made: Any = wanted.apply(version_info=VersionInfo(type="prefect:simple", version=version))
    return made, "created" if found is None else "changed"


def _ended(state: State) -> Any:
    did = f"{len(state.done or ())} shards done by {state.worker}"
    if state.end == "done":
        return Completed(message=did)
    if state.end == "stopped":
        return Cancelled(message=f"{state.message}; {did}")
    get_run_logger().error(why := f"{state.message}; {did}")
    return Failed(message=why)
