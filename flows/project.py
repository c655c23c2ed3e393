"""Writes deploy/prefect.yaml from the job files and training files, for deploying with Prefect's own command.

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

from flows import deployments, files
from flows.deployments import ONE_AT_A_TIME, POOL, SLUG
from flows.files import File

HEADER = """\
# Written by `nightscribe deploy --prefect-file deploy/prefect.yaml` from the files in deploy/specs.
#
#   prefect work-pool create nightscribe --type process     (once; starting a worker also creates it)
#   prefect deploy --prefect-file deploy/prefect.yaml --all
"""


def project(found: Sequence[File], pool: str = POOL) -> str:
    """The content of a prefect.yaml that deploys these files.

    Nothing is built or pushed: the code is in the workers' environment or image. `build` only prepares the server.
    """
    content = {
        "name": "nightscribe",
        "push": [],
        "pull": [],
        "deployments": [_deployment(file, pool) for file in found],
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=110)


def prepare(file: str, pool: str = POOL) -> dict[str, Any]:
    """Build step of a deployment: prepare the server, and remove schedules that the file no longer has.

    Args:
        file: the job file or training file.
        pool: work pool.

    Returns:
        its version and description, and the directory that its paths start from.
    """
    read = files.read(Path(file))
    deployments.prepare_server(pool)
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(f"{read.flow_name}/{read.spec.name}")
        except ObjectNotFound:
            pass
        else:
            deployments.drop_schedules(client, found, read)
    return {"version": read.version, "description": read.description, "workdir": os.getcwd()}


def _deployment(file: File, pool: str) -> dict[str, Any]:
    # What the build step returns is named by the kind of file: job or training.
    made_by = file.parameter
    step = {"flows.project.prepare": {"id": made_by, "file": str(file.file), "pool": pool}}
    made: dict[str, Any] = {
        "name": file.spec.name,
        "version": f"{{{{ {made_by}.version }}}}",
        "description": f"{{{{ {made_by}.description }}}}",
        "tags": file.tags,
        "entrypoint": file.entrypoint,
        "parameters": {file.parameter: str(file.file)},
        "concurrency_limit": ONE_AT_A_TIME.model_dump(mode="json", exclude_none=True),
        "work_pool": {"name": pool, "job_variables": deployments.job_variables(f"{{{{ {made_by}.workdir }}}}")},
        "build": [step],
    }
    if file.spec.schedule:
        schedule = {"slug": SLUG, "cron": file.spec.schedule.cron, "timezone": file.spec.schedule.timezone}
        made["schedules"] = [schedule]
    if file.spec.trigger:
        trigger = deployments.event_trigger(file)
        match = {"prefect.resource.id": [file.spec.trigger.resource]}
        made["triggers"] = [
            {"type": "event", "enabled": True, "name": trigger.name, "expect": sorted(trigger.expect), "match": match}
        ]
    return made
