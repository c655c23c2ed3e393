"""The retraining flow: what `nightscribe train` does, with retries, approvals, and the comparison in the UI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectException
from prefect.states import Cancelled

from flows import approval, events, logs, names, nights
from flows.approval import Answer
from flows.enrich import STOP_WITHIN_S, artifact_key, may_pass
from flows.form import Overrides, TrainingFile
from jobs.execute import stop
from jobs.execute.stop import NEVER, StopToken
from jobs.registry import Registry
from jobs.retraining import approval as approvals
from jobs.retraining import report
from jobs.retraining import round as rounds
from jobs.retraining.outcome import Outcome
from jobs.training import spec
from jobs.training.shown import lines
from jobs.training.spec import TrainingSpec
from transforms.errors import Stopped

# Both tasks begin again where they ended.
ATTEMPTS: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": 10,
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": may_pass,
    "persist_result": False,
    "cache_policy": NO_CACHE,
}


@task(name="train", **ATTEMPTS)
def train(parsed: TrainingSpec, stopped: StopToken) -> Any:
    """Train a challenger unless one waits, measure it beside the champion, decide; a retry continues the training.

    Returns:
        The outcome as a dict, or a Cancelled state if the run was asked to stop.
    """
    log = get_run_logger()
    progress_id: Any = create_progress_artifact(0.0, key=artifact_key(parsed, "training"), description=parsed.name)
    shown = 0.0
    tell = lines(parsed.name, log.info, at_once=True)

    def watch(line: dict[str, Any]) -> None:
        nonlocal shown
        tell(line)
        done = round(100.0 * line["step"] / max(1, line["steps"]), 1)
        if done < shown + 1.0:
            return
        shown = done
        losses = ", ".join(f"{key} {line[key]:.4g}" for key in ("loss", "eval_loss") if key in line)
        show(done, f"step {line['step']:,} of {line['steps']:,} {losses}")

    def show(done: float, about: str) -> None:
        try:
            update_progress_artifact(progress_id, progress=done, description=f"{parsed.name}\n\n{about}")
        except (httpx.HTTPError, PrefectException) as error:
            # A server that restarts interrupts the display of the progress, not the work.
            log.warning("the progress could not be sent to the Prefect server: %s", error)

    try:
        with rounds.holding(parsed) as registry:
            measured = rounds.measure(parsed, registry, watch, stopped)
            show(100.0, "trained and measured")
            if measured.outcome.decision == "promoted" and parsed.approval == "none":
                return rounds.promote(parsed, registry, measured, by="gate").as_dict()
            return measured.outcome.as_dict()
    except Stopped as error:
        return Cancelled(message=str(error))


@task(name="answer", **ATTEMPTS)
def carry_out(parsed: TrainingSpec, answer: Answer) -> dict[str, Any]:
    """Promote or refuse the version that a person was asked about; nothing is trained or measured.

    Returns:
        The outcome as a dict.
    """
    with rounds.holding(parsed) as registry:
        done = approvals.answer(registry, answer.version, answer.approved, answer.by, answer.reason)
    return done.as_dict()


@flow(name="retrain", flow_run_name=names.name_of_training, persist_result=False, validate_parameters=True)
def retrain(training: TrainingFile, overrides: Overrides = []) -> Any:  # noqa: B006 - Prefect copies it
    """Train, measure, decide, promote: the next night of the jobs that name `REGISTRY@champion` uses the new version.

    With `approval: prefect` the run is suspended before the promotion, and starts again with the answer of a person.

    Returns:
        The outcome as a dict; a Cancelled state if the run was asked to stop; a Cancelled state with the name Skipped
        if another run does its work or waits for an approval; a Failed state with the error, whose message is one
        sentence.
    """
    with stop.on_signals(within_s=STOP_WITHIN_S) as stopped, logs.forwarded(stopped.is_set):
        name = Path(training).stem
        try:
            parsed = spec.read(training, overrides)
            name = parsed.name
            if (answer := approval.answered()) is not None:
                outcome = settle(parsed, answer)
            else:
                why = nights.superfluous(parsed.schedule.timezone if parsed.schedule else "UTC")
                if why := why or approval.asked_elsewhere(parsed):
                    return Cancelled(name="Skipped", message=why)
                outcome = run_round(parsed, stopped)
                if outcome.decision == "promoted" and not outcome.approved:
                    approval.ask(parsed, outcome)
        except Stopped as error:
            return Cancelled(message=str(error))
        except Exception as error:
            return events.failed(name, error)
        events.emit("promoted" if outcome.approved else "finished", name, numbers(outcome))
        return outcome.as_dict()


def run_round(parsed: TrainingSpec, stopped: StopToken = NEVER) -> Outcome:
    """One round, shown on the page of the run.

    Raises:
        Stopped: the run was asked to stop.
        NightscribeError: as `rounds.run`.
    """
    log = get_run_logger()
    state = train(parsed, stopped, return_state=True)
    if state.is_cancelled():
        raise Stopped(state.message or "the run was asked to stop")
    outcome = Outcome(**state.result())
    publish(parsed, outcome)
    log.info(report.headline(outcome).replace("**", ""))
    return outcome


def settle(parsed: TrainingSpec, answer: Answer) -> Outcome:
    """What a person has answered, carried out and shown on the page of the run.

    Raises:
        NightscribeError: as `jobs.retraining.approval.answer`, or another training holds the registry.
    """
    outcome = Outcome(**carry_out(parsed, answer))
    get_run_logger().info("%s: %s", outcome.decision, outcome.reason)
    try:
        create_markdown_artifact(
            report.headline(outcome), key=artifact_key(parsed, "approval"), description="What a person has answered"
        )
    except httpx.HTTPError as error:
        # It is carried out, and in the history of the registry.
        get_run_logger().warning("the answer could not be shown on the Prefect server: %s", error)
    return outcome


def publish(parsed: TrainingSpec, outcome: Outcome) -> None:
    """The report of a round on the page of its run: the comparison, the curves, rows that the two answer differently.

    Rows are shown with the beginning of their texts; the file in the registry has them too.

    Raises:
        PrefectException: the server refuses an artifact.
    """
    place = f"{Registry(parsed.registry).url}/{rounds.examples_of(outcome)}" if outcome.changes else None
    try:
        create_table_artifact(
            report.table(outcome),
            key=artifact_key(parsed, "comparison"),
            description=f"{outcome.metric} of champion and challenger on the holdout, by slice",
        )
        create_markdown_artifact(
            report.markdown(outcome, place),
            key=artifact_key(parsed, "retraining"),
            description="The decision, the evidence, and the loss curves",
        )
        if rows := report.differing(outcome):
            create_table_artifact(
                rows,
                key=artifact_key(parsed, "differences"),
                description=f"Rows that the two answer differently, also in `{place}`",
            )
    except httpx.HTTPError as error:
        # The round is over, and its outcome is in the registry.
        get_run_logger().warning("the report could not be sent to the Prefect server: %s", error)


def numbers(outcome: Outcome) -> dict[str, Any]:
    """The payload of an event: numbers and names, never rows."""
    left_out = ("changes", "curves", "slices")
    return {key: value for key, value in outcome.as_dict().items() if key not in left_out}
