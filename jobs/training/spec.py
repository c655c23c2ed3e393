"""The training file: what is trained on which rows, and when it replaces the champion."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from jobs.evaluation import metrics
from jobs.gate.spec import GateSpec
from jobs.spec.complaint import NAME, keys_of, sentence
from jobs.spec.content import load, refuse_tokens
from jobs.spec.schedule import ScheduleSpec, TriggerSpec
from jobs.spec.section import Section
from jobs.spec.task import options_adapter
from jobs.training import processes, settings, staged, support
from jobs.training.sections import NO_REWARD, BaseSpec, DataSpec, FractionSpec, RewardSpec, TeacherSpec
from transforms import registry
from transforms.errors import SpecError

TrainedTask = Literal["classify", "ner", "summarize", "translate", "generate"]

__all__ = ["FractionSpec", "TrainedTask", "TrainingSpec", "parse", "read", "task_options"]

Method = Literal["lora", "qlora", "prefix", "prompt", "p-tuning", "ia3", "full"]
Objective = Literal["supervised", "sft", "dpo", "kto", "orpo", "reward", "rloo", "grpo", "distill"]

EXAMPLE = "training.learning_rate=1e-4"


class TrainingSpec(Section):
    """A training file."""

    name: str = Field(pattern=NAME)
    task: TrainedTask = Field(description="the task that the adapter will serve")
    base: BaseSpec
    method: Method = Field("lora", description="what is trained: an adapter of a kind, or all weights (full)")
    objective: Objective = Field(
        "supervised",
        description="what is learnt: the truth of each row (supervised, sft), preferences (dpo, kto, orpo, reward), "
        "the reward of written answers (rloo, grpo), or the outputs of a larger model (distill)",
    )
    data: DataSpec
    options: dict[str, Any] = Field(
        default_factory=dict, description="options of the task, as in a job file, such as source_language"
    )
    slices: list[str] = Field(default_factory=list, description="columns by whose values the metric is also reported")
    training: dict[str, Any] = Field(
        default_factory=dict, description="fields of the library's arguments class, passed on unchanged"
    )
    adapter: dict[str, Any] = Field(
        default_factory=dict,
        description="fields of peft's configuration class of the method, such as LoraConfig; target_modules by "
        "architecture if left out",
    )
    reward: RewardSpec | None = Field(None, description="rloo, grpo: what the written answers are scored with")
    teacher: TeacherSpec | None = Field(None, description="distill: the model whose outputs are learnt")
    stages: list[dict[str, Any]] = Field(
        default_factory=list,
        description="trainings one after another, such as sft, reward, rloo: each has a name, and keys in the place of "
        "the file's; the version is what the last one makes",
    )
    registry: str = Field(description="where versions are kept: a folder, an fsspec URL, or hf://org/name")
    gate: GateSpec = GateSpec()
    approval: Literal["none", "prefect"] = Field(
        "none", description="who approves a promotion beside the gate; prefect asks a person in Prefect"
    )
    approval_timeout_days: float = Field(
        7, gt=0, description="how long a run in Prefect waits for the approval; after that the next run asks again"
    )
    description: str | None = Field(None, description="what is trained, in a sentence or two")
    tags: list[str] = Field(default_factory=list, description="tags to search for its runs in Prefect")
    schedule: ScheduleSpec | None = Field(None, description="when Prefect starts the training, after it was deployed")
    trigger: TriggerSpec | None = Field(None, description="the event on which Prefect starts the training")

    @pydantic.field_validator("objective", mode="before")
    @classmethod
    def _is_here(cls, value: Any) -> Any:
        if value == "ppo":
            raise ValueError(
                "ppo does not exist any more, because TRL has removed it; train a reward model with objective: reward, "
                "and then a policy with objective: rloo or grpo"
            )
        return value

    @pydantic.field_validator("method", mode="before")
    @classmethod
    def _is_a_method(cls, value: Any) -> Any:
        if value in ("dora", "rslora"):
            key = {"dora": "use_dora", "rslora": "use_rslora"}[value]
            raise ValueError(f"{value} is no method of its own; write method: lora with adapter: {{{key}: true}}")
        return value

    @pydantic.model_validator(mode="after")
    def _fits(self) -> TrainingSpec:
        if why := support.refusal(self.method, self.objective, self.task):
            raise ValueError(why)
        arguments = self.arguments()
        if self.objective == "kto" and arguments.get("per_device_train_batch_size", 2) < 2:
            raise ValueError(
                "training.per_device_train_batch_size is 1, and kto compares the rows of a batch; give 2 or more"
            )
        self.peft()
        try:
            if self.objective in metrics.BY_OBJECTIVE:
                metrics.of_objective(self.objective, self.gate.metric)
            elif self.objective in ("supervised", "sft", "distill"):
                metrics.check_metric(self.task, self.gate.metric)
        except SpecError as error:
            # Pydantic collects the errors of a file from ValueErrors.
            raise ValueError(str(error)) from error
        for name, objectives in (("reward", ("rloo", "grpo")), ("teacher", ("distill",))):
            given, needed = getattr(self, name) is not None, self.objective in objectives
            if given and not needed:
                raise ValueError(f"{name} applies to objective {' and '.join(objectives)} only, not {self.objective}")
            if needed and not given:
                raise ValueError(f"{name} is missing; objective {self.objective} needs it")
        if self.teacher is not None and f"{self.registry}@champion" in (self.teacher.model, self.teacher.adapter):
            raise ValueError(
                f"teacher is the champion of {self.registry!r}, where the student goes, so that a promoted student "
                "would be its own teacher; name a version, or choose another registry for the students"
            )
        taken = set(self.learnt) | {"key"}
        if wrong := [name for name in self.slices if name in taken]:
            raise ValueError(f"slices has {wrong[0]!r}, which is what the model reads or writes; name other columns")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Canonical column -> column of the source."""
        return self.data.columns(self.task, self.objective)

    @property
    def learnt(self) -> dict[str, str]:
        """As `columns`, with the truth that the teacher of a distillation adds."""
        return self.data.columns(self.task) if self.objective == "distill" else self.columns

    @property
    def learns_labels(self) -> bool:
        """Whether the outputs of the network are named after the labels of the rows."""
        return self.task in ("classify", "ner") and self.objective in ("supervised", "distill")

    def arguments(self) -> dict[str, Any]:
        """The section `training` without our keys, with the types of the library's fields."""
        return settings.training(self.training, self.task, self.objective)

    @property
    def layout(self) -> processes.Layout:
        """How many processes train, and how."""
        return processes.split(self.training)[0]

    def peft(self) -> dict[str, Any]:
        """The section `adapter` with the types of peft's fields."""
        return settings.adapter(self.adapter, self.method)

    @property
    def earlier(self) -> list[TrainingSpec]:
        """The stages before the last one, each as a training file; the file itself says what the last one does."""
        shared = {"registry": self.registry}
        return [TrainingSpec.model_validate(shared | stage) for stage in self.stages[:-1]]

    def frozen(self) -> dict[str, Any]:
        """Plain JSON with every default written out."""
        return self.model_dump(mode="json")


def read(path: str | Path, overrides: Sequence[str] = ()) -> TrainingSpec:
    """Read a training file and apply `key=value` overrides.

    Args:
        path: YAML file.
        overrides: such as `training.learning_rate=1e-4`; values are YAML.

    Raises:
        SpecError: one sentence that says what is wrong, where, and how to correct it.
    """
    return parse(load(path, overrides, "training file", list(TrainingSpec.model_fields), EXAMPLE), str(path))


def parse(content: dict[str, Any], origin: str = "training file", rewarded: bool = False) -> TrainingSpec:
    """Validate the content of a training file.

    Args:
        content: the keys.
        origin: its name, for errors.
        rewarded: whether an earlier stage makes the reward model.

    Raises:
        SpecError: one sentence that says what is wrong, where, and how to correct it.
    """
    refuse_tokens(content, origin)
    if content.get("stages"):
        return _staged(content, origin)
    valid = [*keys_of(TrainingSpec)]
    try:
        spec = TrainingSpec.model_validate(content)
        task_options(spec)
    except pydantic.ValidationError as error:
        prefix = "" if error.title == TrainingSpec.__name__ else "options."
        raise SpecError(f"{origin}: {sentence(error, [*valid, *_option_keys(content)], prefix)}") from error
    if spec.reward is not None and not (rewarded or spec.reward.model or spec.reward.functions):
        raise SpecError(f"{origin}: {NO_REWARD}")
    return spec


def _staged(content: dict[str, Any], origin: str) -> TrainingSpec:
    """The last stage as a training file, with all stages in it."""
    every = staged.contents(content, origin)
    made = [any(each.get("objective") == "reward" for each in every[:number]) for number in range(len(every))]
    stages = [parse(each, f"{origin}: stage {each['name']}", has) for each, has in zip(every, made, strict=True)]
    # What belongs to the whole file belongs to the version, which the last stage makes.
    whole = {key: content[key] for key in ("name", "slices", "gate") if key in content}
    last = parse(every[-1] | whole, origin, made[-1])
    staged.refuse_breaks(stages, origin)
    frozen = [{key: stage.frozen()[key] for key in ("name", *staged.KEYS)} for stage in stages]
    return last.model_copy(update={"stages": frozen})


def task_options(spec: TrainingSpec) -> Any:
    """The task's own options, an instance of its `Options`, with the column that training rows have.

    Raises:
        pydantic.ValidationError: an option does not exist or has a wrong value.
    """
    column = {"column": "prompt" if spec.task == "generate" else "text"}
    given = {} if "prompt" in spec.options else column
    return options_adapter(spec.task).validate_python(given | spec.options)


def _option_keys(content: dict[str, Any]) -> list[str]:
    task = content.get("task")
    if not isinstance(task, str) or task not in settings.BY_TASK:
        return []
    return [f"options.{field.name}" for field in dataclasses.fields(registry.get(task).Options)]
