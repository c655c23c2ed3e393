"""Events for other systems: a run has finished, has failed or has promoted a model.

Automations turn them into messages (Slack, mail, webhook) or into the start of another job; see deploy/RUNBOOK.md.
"""

from __future__ import annotations

from typing import Any, Literal

from prefect import get_run_logger
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Failed, State

from transforms.errors import NightscribeError

Kind = Literal["finished", "failed", "promoted"]

# Attribute of the log record that says why a run failed, for a program that shows the error itself.
ENDS_RUN = "ends_run"


def emit(kind: Kind, job: str, payload: dict[str, Any]) -> None:
    """Emit `nightscribe.run.<kind>` about `nightscribe.job.<job>`.

    Args:
        kind: what happened.
        job: name of the job.
        payload: numbers and references, never rows.
    """
    related = []
    if flow_run.id:
        name = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.name": flow_run.name or ""}
        related.append(name | {"prefect.resource.role": "flow-run"})
    resource = {"prefect.resource.id": resource_id(job), "prefect.resource.name": job}
    emit_event(event=event_name(kind), resource=resource, related=related, payload=payload)


def failed(job: str, error: Exception) -> State[Any]:
    """Emit `failed`, and give the state in which the flow ends: its message is the error's sentence.

    Raises:
        Exception: the error itself, if it is none of ours; Prefect logs it with its traceback.
    """
    emit("failed", job, {"error": type(error).__name__, "message": str(error)})
    if not isinstance(error, NightscribeError):
        raise error
    # Returned as a state, because Prefect logs a raised exception with its traceback.
    get_run_logger().error(str(error), extra={ENDS_RUN: True})
    return Failed(message=str(error), data=error)


def event_name(kind: Kind) -> str:
    """Name of an event, to trigger on."""
    return f"nightscribe.run.{kind}"


def resource_id(job: str) -> str:
    """The resource that the events of a job are about, to match on."""
    return f"nightscribe.job.{job}"
