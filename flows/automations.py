"""Automations that the server needs: a run whose machine has failed is marked Crashed, so that the next run can start.

Open source Prefect leaves such a run Running forever. A flow run sends a heartbeat event from a separate thread;
a run that misses three heartbeats and has not ended is dead. Source: Prefect's guide "Detect zombie flows".
"""

from __future__ import annotations

from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

# Every flow run of Nightscribe has this tag, so that the automations ignore other flows.
TAG = "nightscribe"
HEARTBEAT_S = 30
# Variables of the process of a run, with which it sends heartbeats.
HEARTBEATS = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S)}
NO_HEARTBEAT = "no heartbeat"
SILENT_S = 3 * HEARTBEAT_S
PENDING_S = 600
# Names of the states from when a worker takes a run until its process begins.
PENDING = ("Pending", "Submitting", "InfrastructurePending")
# After one of these events a run sends no heartbeats, because it has ended or waits for its next attempt.
ENDS = ("Completed", "Failed", "Cancelled", "Skipped", "Crashed", "TimedOut", "AwaitingRetry", "Paused", "Suspended")


def crash_automation(silent_s: float = SILENT_S) -> AutomationCore:
    """Marks a run Crashed if it has sent heartbeats and then none for `silent_s` seconds."""
    beat = "prefect.flow-run.heartbeat"
    return _crash(
        name="nightscribe: crash runs whose machine is gone",
        description=f"Marks a run Crashed that sent heartbeats and then none for {silent_s:g} s without having ended.",
        after={beat},
        expect={beat, *(f"prefect.flow-run.{end}" for end in ENDS)},
        within_s=silent_s,
        message=f"{NO_HEARTBEAT} for {silent_s:g} s: the machine or the worker is gone; the next run goes on from here",
    )


def pending_automation(pending_s: float = PENDING_S) -> AutomationCore:
    """Marks a run Crashed if a worker took it and did not start it within `pending_s` seconds after the last step."""
    return _crash(
        name="nightscribe: crash runs that never start",
        description=f"Marks a run Crashed that a worker took and that has not started for {pending_s:g} s.",
        # Each of them counts anew: the next one would otherwise answer the one before it, as the start does.
        after={f"prefect.flow-run.{state}" for state in PENDING},
        expect={"prefect.flow-run.*"},
        within_s=pending_s,
        message=f"taken by a worker and not started within {pending_s:g} s",
    )


def ensure() -> None:
    """Create those that the server does not have, and change none."""
    for automation in (crash_automation(), pending_automation()):
        with get_client(sync_client=True) as client:
            if not client.read_automations_by_name(automation.name):
                client.create_automation(automation)


def apply(automation: AutomationCore) -> str:
    """Create an automation, or update the one with the same name.

    Returns:
        `created`, `changed` or `unchanged`.
    """
    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(automation.name)
        if not found:
            client.create_automation(automation)
            return "created"
        # Operators may disable it, so that setting is kept.
        wanted = automation.model_copy(update={"enabled": found[0].enabled})
        if _content(found[0]) == _content(wanted):
            return "unchanged"
        client.update_automation(found[0].id, wanted)
        return "changed"


def _crash(
    name: str, description: str, after: set[str], expect: set[str], within_s: float, message: str
) -> AutomationCore:
    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(
            after=after,
            expect=expect,
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": [f"prefect.tag.{TAG}"], "prefect.resource.role": ["tag"]}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=within_s),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )


def _content(automation: AutomationCore) -> object:
    """The parts in which two automations are compared: all except ids and times."""
    content = automation.model_dump(mode="json", include={"description", "enabled", "trigger", "actions"})
    trigger = {key: sorted(v) if isinstance(v, list) else v for key, v in content["trigger"].items() if key != "id"}
    return content | {"trigger": trigger}
