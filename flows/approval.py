"""Approval by a person: a run shows its report, is suspended, and starts again when the form is filled.

A suspended run has no process and no place in the queue of its deployment; its state and its form are in the server's
database, so they survive a restart. When a person resumes the run, a worker starts the flow from its first line; the
keys of its suspensions say which version it was about.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput, keyset_from_paused_state, read_flow_run_input
from prefect.runtime import flow_run
from prefect.states import Suspended
from pydantic import Field

from flows import heartbeats
from jobs.registry import Registry
from jobs.report.shown import clock
from jobs.retraining import report, state
from jobs.retraining.outcome import Outcome
from jobs.training.spec import TrainingSpec

KEY = "approve-"
# A run that was asked and has not ended is in one of these states; from the last three on it carries out its answer.
OPEN = [StateType.PAUSED, StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
# Prefect Server knows no persons.
SOMEBODY = "a person in Prefect"


def _shown(position: int, title: str, description: str, **limits: Any) -> Any:
    return Field(json_schema_extra={"title": title, "description": description, "position": position}, **limits)


class Approval(RunInput):
    """The form that a person fills."""

    decision: Annotated[
        Literal["approve", "refuse"],
        _shown(0, "Decision", "approve makes the version the champion, refuse keeps the champion as it is"),
    ]
    reason: Annotated[str, _shown(1, "Reason", "Why; it is kept in the history of the registry", min_length=1)]
    name: Annotated[str, _shown(2, "Your name", "Kept in the history of the registry; may be left empty")] = ""


@dataclass(frozen=True)
class Answer:
    """What a person has answered.

    Attributes:
        version: the version that the person was asked about.
        approved: whether it becomes the champion.
        by: the person.
        reason: why.
    """

    version: str
    approved: bool
    by: str
    reason: str


def ask(parsed: TrainingSpec, outcome: Outcome) -> None:
    """Suspend this run until a person has answered about the version that the gate has accepted.

    Only in a run without a deployment, which no worker could start again, does this return: then nobody is asked.

    Raises:
        prefect.exceptions.Pause: always in a run with a deployment; it ends the process.
    """
    log = get_run_logger()
    own = _own()
    if own is None or own.deployment_id is None:
        log.warning(
            "nobody is asked for an approval, because this run has no deployment; deploy the training file, or promote "
            "the version with `nightscribe adapters promote %s %s`",
            parsed.registry,
            outcome.version,
        )
        return
    heartbeats.wait_for_gap(own.id)
    timeout = timedelta(days=parsed.approval_timeout_days)
    until = clock(datetime.now(UTC) + timeout, _timezone(parsed))
    log.info("waiting until %s for the approval of %s: choose Resume in the menu of this run", until, outcome.version)
    suspend_flow_run(
        wait_for_input=Approval.with_initial_data(description=text(parsed, outcome, until)),
        timeout=max(1, round(timeout.total_seconds())),
        # The number tells two suspensions of one run apart: after a time-out a person may start it again.
        key=f"{KEY}{outcome.version}-{own.run_count}",
    )


def answered() -> Answer | None:
    """What a person has answered to this run; None if nobody was asked, or nobody has answered."""
    own = _own()
    if own is None:
        return None
    for key in sorted(_keys(own), key=lambda key: int(key.rpartition("-")[2]), reverse=True):
        keyset = keyset_from_paused_state(Suspended(pause_key=key))
        found: Any = read_flow_run_input(keyset["response"], flow_run_id=own.id)
        if found is not None:
            given = Approval(**found)
            return Answer(_version(key), given.decision == "approve", given.name.strip() or SOMEBODY, given.reason)
    return None


def asked_elsewhere(parsed: TrainingSpec) -> str | None:
    """The reason to skip this run, because another one of its deployment waits for an approval; None if none does.

    The version that a person is looking at keeps its place until it is approved or refused, or its time is over.
    """
    own = _own()
    if own is None or own.deployment_id is None:
        return None
    with get_client(sync_client=True) as client:
        others = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[own.deployment_id]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN)),
            )
        )
    registry = Registry(parsed.registry)
    for other in others:
        for version in map(_version, _keys(other)):
            # A version in another registry, or one that somebody has promoted on the command line, waits for nobody.
            if other.id != own.id and state.accepted(registry, version) is not None:
                return f"the run {other.name!r} waits for the approval of {version}; resume it, or cancel it, first"
    return None


def text(parsed: TrainingSpec, outcome: Outcome, until: str) -> str:
    """What stands above the form, as Markdown: the question, the time-out, and the comparison."""
    place = "" if outcome.champion_before is None else f", in place of **{outcome.champion_before}**"
    lines = [
        f"Shall **{outcome.version}** become the champion of `{parsed.registry}`{place}? The gate accepts it: "
        f"{outcome.reason}.",
        "",
        f"Answer until **{until}**. After that this run fails, the champion stays, and the next run asks again.",
        "",
    ]
    if outcome.champion_before is not None:
        rows = report.table(outcome)
        table = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
        lines += [*(f"| {' | '.join(cells)} |" for cells in table), ""]
    return "\n".join([*lines, *report.numbers(outcome), "", "The artifacts of this run show more."])


def _own() -> FlowRun | None:
    """This run as the server has it; None outside of a run."""
    if not flow_run.id:
        return None
    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(flow_run.id))


def _keys(run: FlowRun) -> list[str]:
    return [key for key in run.empirical_policy.pause_keys or () if key.startswith(KEY)]


def _version(key: str) -> str:
    return key.removeprefix(KEY).rpartition("-")[0]


def _timezone(parsed: TrainingSpec) -> str:
    return parsed.schedule.timezone if parsed.schedule else "UTC"
