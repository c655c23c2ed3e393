"""The picture of a run's parts as an artifact of its flow run, drawn again now and then while it runs."""

from __future__ import annotations

import base64
import time
from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from jobs.parts import timeline
from jobs.parts.timeline import Timeline
from jobs.plan import Plan
from jobs.report import parts, picture
from jobs.store import Store

# Seconds between two pictures; the coordinator writes the timeline about as often.
EVERY_S = 60.0


class Shown:
    """The artifact of one run; none if the run is not divided into parts.

    Args:
        store: the sink's.
        plan: the run.
    """

    def __init__(self, store: Store, plan: Plan):
        self.store, self.plan = store, plan
        self.shown: Timeline | None = None
        self.id: UUID | None = None
        self.at = time.monotonic()

    def update(self, key: str, about: str, now: bool = False) -> None:
        """Draw it, if there is something new.

        Args:
            key: of the artifact.
            about: its description.
            now: whether to draw it although it is not yet time.
        """
        if not self.plan.spec.runner.fans_out or not (now or time.monotonic() - self.at > EVERY_S):
            return
        self.at = time.monotonic()
        found = timeline.read(self.store, self.plan.run_id)
        if found is None or found == self.shown or (text := markdown(found)) is None:
            return
        if self.id is None:
            # Within a flow run the call returns the id, not a coroutine.
            self.id = create_markdown_artifact(text, key=key, description=about)  # type: ignore[assignment]
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self.id, ArtifactUpdate(data=text))
        self.shown = found


def markdown(found: Timeline) -> str | None:
    """The picture and the numbers; None before a worker has begun a part."""
    if (png := picture.sheet(parts.pictures(found))) is None:
        return None
    numbers = found.numbers()
    image = f"![who did what when](data:image/png;base64,{base64.b64encode(png).decode()})"
    lost = [f"- part {bar.number} of {bar.worker}: {bar.why}" for bar in found.bars if bar.why]
    lost += [f"- part {number}: {why}" for number, why in found.unbegun.items()]
    told = [f"{parts.sentence(numbers)}. Shards by worker: {parts.shares(numbers)}.", parts.NOTE, image]
    return "\n\n".join([*told, *(["## Lost, refused and failed", "\n".join(lost)] if lost else [])])
