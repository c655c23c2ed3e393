"""One deployment for each job file and training file of a folder; deploying them again changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, VersionInfo
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.workers.process import ProcessWorker

from flows import automations, files, gpu, part
from flows.files import File, Job
from flows.pool import POOL

SPECS = Path("deploy/specs")
# One name for the only schedule of a deployment, so that a new deploy changes it in place and late runs are kept.
SLUG = "job-file"
# One run for each sink or registry. A second one waits for the first and is not cancelled: with other parameters it has
# something to do, and otherwise it finds everything done and ends within seconds. `flows.nights` skips late runs that
# are superfluous. A run that is suspended for an approval does not count.
ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)


def deployment(file: File, pool: str, workdir: Path) -> RunnerDeployment:
    """The deployment of a job file or training file.

    Args:
        file: the file.
        pool: work pool of the workers that run it.
        workdir: working directory of the worker; relative paths in the file start there.
    """
    schedules = []
    if file.spec.schedule is not None:
        schedules.append(Cron(file.spec.schedule.cron, timezone=file.spec.schedule.timezone, slug=SLUG))
    made = file.flow.to_deployment(
        name=file.spec.name,
        entrypoint_type=EntrypointType.MODULE_PATH,
        parameters={file.parameter: str(file.file)},
        schedules=schedules,
        triggers=[event_trigger(file)] if file.spec.trigger else [],
        concurrency_limit=ONE_AT_A_TIME,
        description=file.description,
        tags=file.tags,
        version=file.version,
        work_pool_name=pool,
        job_variables=job_variables(workdir),
    )
    assert isinstance(made, RunnerDeployment)
    return made


def job_variables(workdir: Path | str) -> dict[str, Any]:
    """Where the process of a run starts, and how often it sends a heartbeat."""
    return {"working_dir": str(workdir), "env": dict(automations.HEARTBEATS)}


def event_trigger(file: File) -> DeploymentEventTrigger:
    """The automation that starts a job or a training on its event."""
    assert file.spec.trigger is not None
    return DeploymentEventTrigger(
        name=f"nightscribe: {file.spec.name} on {file.spec.trigger}",
        expect={file.spec.trigger.event},
        match=ResourceSpecification({"prefect.resource.id": [file.spec.trigger.resource]}),
        parameters={file.parameter: str(file.file)},
    )


def deploy(folder: Path = SPECS, pool: str = POOL, workdir: Path | None = None) -> dict[str, str]:
    """Deploy the job files and training files under a folder to a server; a second time changes nothing.

    Deployments and schedules that are paused stay paused.

    Returns:
        name of a job, or `retrain/NAME` of a training -> created, changed, unchanged, or a note that its file is gone.

    Raises:
        SpecError: a file is wrong; nothing is deployed then.
    """
    found = files.read_all(folder)
    done = prepare_server(pool)
    with get_client(sync_client=True) as client:
        for file in found:
            wanted = deployment(file, pool, workdir or Path.cwd())
            done[file.shown_as(file.spec.name)] = _deploy_one(client, file, wanted)
        for each in sorted(_pools_of_parts(found)):
            done[f"{part.enrich_part.name}/{each}"] = part.deploy(client, each)[1]
        done |= _without_file(client, found, folder)
    return done


def prepare_server(pool: str = POOL) -> dict[str, str]:
    """Create what every deployment needs: the work pool, the queue for the GPU, the automations.

    Returns:
        each of them -> created, changed or unchanged.
    """
    done = {f"work pool {pool}": "unchanged"}
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
            done[f"work pool {pool}"] = "created"
    done[f"concurrency limit {gpu.LIMIT}"] = "created" if gpu.create_limit() else "unchanged"
    for automation in (automations.crash_automation(), automations.pending_automation()):
        done[f"automation {automation.name}"] = automations.apply(automation)
    return done


def drop_schedules(client: SyncPrefectClient, found: DeploymentResponse, file: File) -> bool:
    """Remove schedules that the file does not have; Prefect itself only adds and changes schedules."""
    extra = [each for each in found.schedules if file.spec.schedule is None or each.slug != SLUG]
    for schedule in extra:
        client.delete_deployment_schedule(found.id, schedule.id)
    return bool(extra)


def _deploy_one(client: SyncPrefectClient, file: File, wanted: RunnerDeployment) -> str:
    try:
        found = client.read_deployment_by_name(f"{file.flow_name}/{wanted.name}")
    except ObjectNotFound:
        found = None
    if found is not None:
        dropped = drop_schedules(client, found, file)
        if not dropped and _same(found, file, wanted):
            return "unchanged"
    wanted.apply(version_info=VersionInfo(type="prefect:simple", version=file.version))
    return "created" if found is None else "changed"


def _same(found: DeploymentResponse, file: File, wanted: RunnerDeployment) -> bool:
    crons = [each.schedule for each in found.schedules if isinstance(each.schedule, CronSchedule)]
    schedules = [f"{each.cron} {each.timezone}" for each in crons]
    return (
        (found.version, found.work_pool_name) == (file.version, wanted.work_pool_name)
        and found.job_variables == wanted.job_variables
        and schedules == ([str(file.spec.schedule)] if file.spec.schedule else [])
    )


def _pools_of_parts(found: Iterable[File]) -> set[str]:
    """The work pools whose workers execute parts."""
    runners = [file.spec.runner for file in found if isinstance(file, Job)]
    return {runner.work_pool or POOL for runner in runners if runner.name == "prefect"}


def _without_file(client: SyncPrefectClient, found: Iterable[File], folder: Path) -> dict[str, str]:
    """The deployments whose file is gone, and how to remove them."""
    there = {(file.entrypoint, file.spec.name) for file in found}
    kinds = {kind.entrypoint: kind for kind in files.KINDS}
    left = {}
    for each in client.read_deployments():
        kind = kinds.get(each.entrypoint or "")
        if kind is not None and automations.TAG in each.tags and (each.entrypoint, each.name) not in there:
            left[kind.shown_as(each.name)] = (
                f"has no {kind.noun} in {folder} any more; "
                f"`prefect deployment delete '{kind.flow_name}/{each.name}'` removes it"
            )
    return left
