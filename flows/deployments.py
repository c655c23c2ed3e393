"""One deployment for each job file under a folder; deploying them again changes nothing."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from dataclasses import dataclass
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

from flows import automations, gpu
from flows.enrich import enrich
from jobs import spec
from jobs.spec import JobSpec
from transforms.errors import SpecError

SPECS = Path("deploy/specs")
POOL = "nightscribe"
# A module, not a file: for a file, the worker puts its folder first on the path and does not find the package `flows`.
ENTRYPOINT = "flows.enrich.enrich"
# One name for the only schedule of a deployment, so that a new deploy changes it in place and late runs are kept.
SLUG = "job-file"
# A second run of a sink waits for the first and is not cancelled: with other parameters it has something to do, and
# otherwise it finds everything done and ends within seconds. `flows.nights` skips late runs that are superfluous.
ONE_A_SINK = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)


@dataclass(frozen=True)
class Job:
    """A job file.

    Attributes:
        file: path of the job file from the worker's working directory.
        spec: content of the job file.
    """

    file: Path
    spec: JobSpec

    @property
    def description(self) -> str:
        """The job's tasks, schedule, source and sink as Markdown."""
        source = self.spec.source.path or self.spec.source.dataset
        starts = [f"schedule `{self.spec.schedule}`"] if self.spec.schedule else []
        starts += [f"event `{self.spec.trigger}`"] if self.spec.trigger else []
        lines = [
            f"- starts: {', '.join([*starts, 'by hand'])}",
            f"- reads: `{source if isinstance(source, str) else ', '.join(source or [])}`",
            *(f"- {task.task} into `{task.into}`: {task.model or 'no model'}" for task in self.spec.tasks),
            f"- writes: `{self.spec.sink.path}`",
        ]
        return "\n".join([*([self.spec.description, ""] if self.spec.description else []), *lines])

    @property
    def tags(self) -> list[str]:
        """The tags of the deployment and its runs."""
        return sorted({automations.TAG, *(task.task for task in self.spec.tasks), *self.spec.tags})

    @property
    def version(self) -> str:
        """Package version and a hash of the deployment's content; a new version is deployed again."""
        content = [self.spec.model_dump(mode="json"), str(self.file), enrich.parameters.model_dump(mode="json")]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{importlib.metadata.version('nightscribe')}+{digest[:10]}"


def read_jobs(folder: Path) -> list[Job]:
    """Every job file under a folder.

    Raises:
        SpecError: the folder has no job file, a job file is wrong, or two have the same name or sink.
    """
    jobs = [Job(file, spec.read(file)) for file in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")])]
    if not jobs:
        raise SpecError(f"{str(folder)!r} has no job file; put one there, or name another folder with --specs")
    for what, of in (("name", lambda job: job.spec.name), ("sink.path", lambda job: job.spec.sink.path)):
        seen: dict[str, Path] = {}
        for job in jobs:
            if (other := seen.setdefault(of(job), job.file)) != job.file:
                raise SpecError(f"{what} {of(job)!r} is used in both {other} and {job.file}; give each job its own")
    return jobs


def deployment(job: Job, pool: str, workdir: Path) -> RunnerDeployment:
    """The deployment of a job file.

    Args:
        job: the job file.
        pool: work pool of the workers that run it.
        workdir: working directory of the worker; relative paths in the job file start there.
    """
    schedules = []
    if job.spec.schedule is not None:
        schedules.append(Cron(job.spec.schedule.cron, timezone=job.spec.schedule.timezone, slug=SLUG))
    made = enrich.to_deployment(
        name=job.spec.name,
        entrypoint_type=EntrypointType.MODULE_PATH,
        parameters={"job": str(job.file)},
        schedules=schedules,
        triggers=[event_trigger(job)] if job.spec.trigger else [],
        concurrency_limit=ONE_A_SINK,
        description=job.description,
        tags=job.tags,
        version=job.version,
        work_pool_name=pool,
        job_variables=job_variables(workdir),
    )
    assert isinstance(made, RunnerDeployment)
    return made


def job_variables(workdir: Path | str) -> dict[str, Any]:
    """Where the process of a run starts, and how often it sends a heartbeat."""
    return {
        "working_dir": str(workdir),
        "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(automations.HEARTBEAT_S)},
    }


def event_trigger(job: Job) -> DeploymentEventTrigger:
    """The automation that starts a job on its event."""
    assert job.spec.trigger is not None
    return DeploymentEventTrigger(
        name=f"nightscribe: {job.spec.name} on {job.spec.trigger}",
        expect={job.spec.trigger.event},
        match=ResourceSpecification({"prefect.resource.id": [job.spec.trigger.resource]}),
        parameters={"job": str(job.file)},
    )


def deploy(folder: Path = SPECS, pool: str = POOL, workdir: Path | None = None) -> dict[str, str]:
    """Deploy the job files under a folder to a server; a second time changes nothing.

    Deployments and schedules that are paused stay paused.

    Returns:
        name of the deployment -> created, changed, unchanged, or a note that it has no job file any more.

    Raises:
        SpecError: a job file is wrong; nothing is deployed then.
    """
    jobs = read_jobs(folder)
    done = prepare_server(pool)
    with get_client(sync_client=True) as client:
        for job in jobs:
            done[job.spec.name] = _deploy_one(client, job, deployment(job, pool, workdir or Path.cwd()))
        for left in _without_job_file(client, jobs):
            done[left] = f"has no job file in {folder} any more; `prefect deployment delete 'enrich/{left}'` removes it"
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


def drop_schedules(client: SyncPrefectClient, found: DeploymentResponse, job: Job) -> bool:
    """Remove schedules that the job file does not have; Prefect itself only adds and changes schedules."""
    extra = [each for each in found.schedules if job.spec.schedule is None or each.slug != SLUG]
    for schedule in extra:
        client.delete_deployment_schedule(found.id, schedule.id)
    return bool(extra)


def _deploy_one(client: SyncPrefectClient, job: Job, wanted: RunnerDeployment) -> str:
    try:
        found = client.read_deployment_by_name(f"{enrich.name}/{wanted.name}")
    except ObjectNotFound:
        found = None
    if found is not None:
        dropped = drop_schedules(client, found, job)
        if not dropped and _same(found, job, wanted):
            return "unchanged"
    wanted.apply(version_info=VersionInfo(type="prefect:simple", version=job.version))
    return "created" if found is None else "changed"


def _same(found: DeploymentResponse, job: Job, wanted: RunnerDeployment) -> bool:
    crons = [each.schedule for each in found.schedules if isinstance(each.schedule, CronSchedule)]
    schedules = [f"{each.cron} {each.timezone}" for each in crons]
    return (
        (found.version, found.work_pool_name) == (job.version, wanted.work_pool_name)
        and found.job_variables == wanted.job_variables
        and schedules == ([str(job.spec.schedule)] if job.spec.schedule else [])
    )


def _without_job_file(client: SyncPrefectClient, jobs: Iterable[Job]) -> list[str]:
    names = {job.spec.name for job in jobs}
    found = (each for each in client.read_deployments() if automations.TAG in each.tags)
    return [each.name for each in found if each.entrypoint == ENTRYPOINT and each.name not in names]
