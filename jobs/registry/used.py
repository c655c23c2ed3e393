"""The runs of a sink that used a version."""

from __future__ import annotations

import json

from jobs.registry.version import Version
from jobs.store import Store, names
from transforms.errors import SinkError


def runs_with(sink: str, version: Version) -> list[str]:
    """Run ids whose plan names the version as a model or an adapter, oldest first.

    Raises:
        SinkError: a plan of the sink is damaged.
    """
    store, found = Store(sink), []
    for name in store.names(names.PLANS):
        try:
            plan = json.loads(store.get(name))
            pins = [task[key] for task in plan["tasks"] for key in ("model", "adapter") if task[key]]
            if any(pin["commit"] == version.content for pin in pins):
                found.append(str(plan["run_id"]))
        except (ValueError, KeyError, TypeError) as error:
            raise SinkError(f"{store.url}/{name} is damaged ({error}); restore it") from error
    return found
