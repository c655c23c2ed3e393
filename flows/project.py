"""Writes deploy/prefect.yaml from the job files, for deploying with Prefect's own command.

`prefect deploy --prefect-file deploy/prefect.yaml --all` makes the same deployments as `nightscribe deploy`. Prefect's
command keeps schedules that were removed from the file and does not create limits and automations: the build step of
each deployment, `prepare`, does both. The work pool must exist already.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from flows import deployments
from flows.deployments import ENTRYPOINT, ONE_A_SINK, POOL, SLUG, Job
from flows.enrich import enrich
from jobs import spec

HEADER = """\
# Written by `nightscribe deploy --prefect-file deploy/prefect.yaml` from the job files in deploy/specs.
#
#   prefect work-pool create nightscribe --type process     (once; starting a worker also creates it)
#   prefect deploy --prefect-file deploy/prefect.yaml --all
"""


def project(jobs: Sequence[Job], pool: str = POOL) -> str:
    """The content of a prefect.yaml that deploys these jobs.

    Nothing is built or pushed: the code is in the workers' environment or image. `build` only prepares the server.
    """
    content = {
        "name": "nightscribe",
        "push": [],
        "pull": [],
        "deployments": [_deployment(job, pool) for job in jobs],
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=110)


def prepare(file: str, pool: str = POOL) -> dict[str, Any]:
    """Build step of a deployment: prepare the server, and remove schedules that the job file no longer has.

    Args:
        file: the job file.
        pool: work pool.

    Returns:
        version and description of the job, and the directory that its paths start from.
    """
    job = Job(Path(file), spec.read(file))
    deployments.prepare_server(pool)
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(f"{enrich.name}/{job.spec.name}")
        except ObjectNotFound:
            pass
        else:
            deployments.drop_schedules(client, found, job)
    return {"version": job.version, "description": job.description, "workdir": os.getcwd()}


def _deployment(job: Job, pool: str) -> dict[str, Any]:
    step = {"flows.project.prepare": {"id": "job", "file": str(job.file), "pool": pool}}
    made: dict[str, Any] = {
        "name": job.spec.name,
        "version": "{{ job.version }}",
        "description": "{{ job.description }}",
        "tags": job.tags,
        "entrypoint": ENTRYPOINT,
        "parameters": {"job": str(job.file)},
        "concurrency_limit": ONE_A_SINK.model_dump(mode="json", exclude_none=True),
        "work_pool": {"name": pool, "job_variables": deployments.job_variables("{{ job.workdir }}")},
        "build": [step],
    }
    if job.spec.schedule:
        schedule = {"slug": SLUG, "cron": job.spec.schedule.cron, "timezone": job.spec.schedule.timezone}
        made["schedules"] = [schedule]
    if job.spec.trigger:
        trigger = deployments.event_trigger(job)
        match = {"prefect.resource.id": [job.spec.trigger.resource]}
        made["triggers"] = [
            {"type": "event", "enabled": True, "name": trigger.name, "expect": sorted(trigger.expect), "match": match}
        ]
    return made
