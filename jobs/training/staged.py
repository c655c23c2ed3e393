"""The key `stages` of a training file: each stage has the keys of the file, and its own in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.spec.complaint import suggest
from jobs.training.sections import PROMPTED
from transforms.errors import SpecError

# What a stage may have beside its name, in the place of what the file has.
KEYS = ("task", "base", "method", "objective", "data", "options", "training", "adapter", "reward", "teacher")

EXAMPLE = "stages: [{name: rewards, objective: reward, data: ...}, {name: policy, objective: rloo, data: ...}]"


def contents(content: Mapping[str, Any], origin: str) -> list[dict[str, Any]]:
    """The training file of each stage, as if it stood alone.

    Args:
        content: a training file with `stages`.
        origin: its name, for errors.

    Raises:
        SpecError: the stages are no list of sections with names of their own.
    """
    stages = content["stages"]
    if not isinstance(stages, list) or not stages or not all(isinstance(each, Mapping) for each in stages):
        raise SpecError(f"{origin}: stages is {stages!r}; give a list of sections, such as {EXAMPLE}")
    found: list[dict[str, Any]] = []
    names: list[str] = []
    for number, stage in enumerate(stages):
        if unknown := [key for key in stage if key not in ("name", *KEYS)]:
            raise SpecError(
                f"{origin}: stages.{number}.{unknown[0]} does not exist{suggest(unknown[0], ['name', *KEYS], 'keys')}"
            )
        name = stage.get("name")
        if not isinstance(name, str) or not name or name in names:
            raise SpecError(
                f"{origin}: stages.{number}.name is {name!r}; give each stage a name of its own, such as policy"
            )
        names.append(name)
        found.append(_completed(content, stage, found))
    return found


def _completed(content: Mapping[str, Any], stage: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> Any:
    own = {key: value for key, value in stage.items() if value is not None}
    objective = own.get("objective", content.get("objective", "supervised"))
    if objective == "reward":
        own.setdefault("task", "classify")
    shared = {key: value for key, value in content.items() if key not in ("stages", "slices", "gate")}
    # What the file says for other objectives and tasks does not apply here.
    if objective not in PROMPTED:
        shared.pop("reward", None)
    if objective != "distill":
        shared.pop("teacher", None)
    if own.get("task", content.get("task")) != content.get("task"):
        shared.pop("options", None)
    if objective in PROMPTED and any(each.get("objective") == "reward" for each in before):
        shared.setdefault("reward", {})
    return shared | own


def refuse_breaks(stages: Sequence[Any], origin: str) -> None:
    """Refuse stages that cannot go on from each other.

    Args:
        stages: the training file of each stage, a TrainingSpec.
        origin: name of the file, for errors.

    Raises:
        SpecError: names the two stages and the key in which they differ.
    """
    for one, other in zip(kept := policies(stages), kept[1:], strict=False):
        for key in ("base", "method", "adapter"):
            before, after = getattr(one, key), getattr(other, key)
            if before != after:
                raise SpecError(
                    f"{origin}: stages {one.name} and {other.name} have different {key}, and the second goes on from "
                    f"the weights of the first; give {key} once, at the top of the file"
                )


def policies(stages: Sequence[Any]) -> list[Any]:
    """The stages that go on from each other: all of them but the reward models."""
    return [stage for stage in stages if stage.objective != "reward"]
