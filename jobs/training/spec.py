"""The training file: what is trained on which rows, and when it replaces the champion."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from jobs.gate.spec import GateSpec
from jobs.spec import options_adapter
from jobs.spec.complaint import keys_of, sentence
from jobs.spec.content import load, refuse_tokens
from jobs.spec.schedule import ScheduleSpec, TriggerSpec
from jobs.spec.section import Section
from jobs.spec.source import SourceSpec
from jobs.training import arguments
from transforms import registry
from transforms.errors import SpecError

TrainedTask = Literal["classify", "ner", "summarize", "translate", "generate"]

# The library's class whose fields `training` sets, by task.
ARGUMENTS = {
    "classify": "transformers.training_args.TrainingArguments",
    "ner": "transformers.training_args.TrainingArguments",
    "summarize": "transformers.training_args_seq2seq.Seq2SeqTrainingArguments",
    "translate": "transformers.training_args_seq2seq.Seq2SeqTrainingArguments",
    "generate": "trl.trainer.sft_config.SFTConfig",
}
LORA = "peft.tuners.lora.config.LoraConfig"

FOLDER = "Nightscribe chooses the folder and continues from its last checkpoint"
VERSIONS = "versions are kept in the registry"
RESERVED = {
    "output_dir": FOLDER,
    "resume_from_checkpoint": FOLDER,
    "push_to_hub": VERSIONS,
    "hub_token": VERSIONS,
    "hub_model_id": VERSIONS,
    "do_train": "it always trains",
    "do_eval": "the validation rows are always evaluated",
    "do_predict": "predictions are made after the training",
    "disable_tqdm": "Nightscribe shows the progress itself",
    "save_only_model": "a training could not be continued",
    "remove_unused_columns": "it depends on the task",
    "label_names": "it depends on the task",
    "model_init_kwargs": "the base is loaded by Nightscribe",
    "dataset_text_field": "data.prompt and data.completion name the columns",
}
RESERVED_LORA = {
    "task_type": "it follows from the task",
    "peft_type": "it follows from the method",
    "base_model_name_or_path": "base.model names it",
    "revision": "base.revision names it",
    "inference_mode": "the adapter is being trained",
    "auto_mapping": "PEFT writes it",
    "peft_version": "PEFT writes it",
}

# Methods and objectives of later versions, so that the message does not call them unknown.
LATER_METHODS = ("qlora", "dora", "prefix", "prompt")
LATER_OBJECTIVES = ("sft", "dpo", "kto", "reward", "rloo", "grpo")

EXAMPLE = "training.learning_rate=1e-4"


class BaseSpec(Section):
    """The model that is trained further."""

    model: str = Field(description="the model: its name on the Hub (org/name), or a folder")
    revision: str | None = Field(None, description="branch, tag or commit of a Hub model; by default its main branch")


class FractionSpec(Section):
    """A holdout that is split off the training rows."""

    fraction: float = Field(gt=0, lt=1, description="share of the training rows, chosen by a hash of the text")


class DataSpec(Section):
    """The labelled rows, and the columns that have the text and the truth."""

    train: SourceSpec = Field(description="the training rows: a source as in a job file")
    review: str | None = Field(
        None,
        description="review folder of a job: rows of it that people have labelled are training rows too; it need not "
        "exist yet",
    )
    holdout: SourceSpec | FractionSpec = Field(
        FractionSpec(fraction=0.2), description="rows that are never trained on: a source, or {fraction: 0.2}"
    )
    validation: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the training rows that decides when to stop, and among which mislabelled ones are looked "
        "for; 0 for none: then two more trainings on halves of up to 2,000 rows look for mislabelled ones",
    )
    text: str = Field("text", description="column of the text")
    label: str = Field("label", description="classify: column of the label, or of a list of labels")
    entities: str = Field("entities", description="ner: column of the entities, list<struct<label, start, end>>")
    target: str = Field("target", description="summarize, translate: column of the text to write")
    prompt: str | None = Field(None, description="generate: column of the prompt; by default prompt")
    completion: str | None = Field(None, description="generate: column of the text to write; by default completion")
    messages: str | None = Field(None, description="generate: column of a conversation, instead of prompt, completion")

    @pydantic.field_validator("holdout", mode="before")
    @classmethod
    def _one_kind(cls, value: Any) -> Any:
        """Choose the section by its keys, so that the message is about the keys of that section only."""
        if isinstance(value, dict):
            kind: type[Section] = FractionSpec if "fraction" in value else SourceSpec
            unknown = [key for key in value if key not in kind.model_fields]
            if unknown and kind is FractionSpec:
                raise ValueError(f"{unknown[0]} cannot be given beside fraction, which splits the training rows")
            try:
                return kind.model_validate(value)
            except pydantic.ValidationError as error:
                raise ValueError(sentence(error, list(keys_of(kind)))) from error
        return value

    @pydantic.model_validator(mode="after")
    def _one_form(self) -> DataSpec:
        if self.messages is not None and (self.prompt is not None or self.completion is not None):
            raise ValueError("give either messages or prompt and completion, and not both")
        return self

    def columns(self, task: str) -> dict[str, str]:
        """Canonical column -> column of the source, for a task."""
        match task:
            case "classify":
                return {"text": self.text, "label": self.label}
            case "ner":
                return {"text": self.text, "entities": self.entities}
            case "generate" if self.messages is not None:
                return {"messages": self.messages}
            case "generate":
                return {"prompt": self.prompt or "prompt", "completion": self.completion or "completion"}
        return {"text": self.text, "target": self.target}


class TrainingSpec(Section):
    """A training file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: TrainedTask = Field(description="the task that the adapter will serve")
    base: BaseSpec
    method: Literal["lora", "full"] = Field("lora", description="lora trains an adapter, full trains all weights")
    objective: Literal["supervised"] = Field("supervised", description="what is learnt: the truth of each row")
    data: DataSpec
    options: dict[str, Any] = Field(
        default_factory=dict, description="options of the task, as in a job file, such as source_language"
    )
    slices: list[str] = Field(default_factory=list, description="columns by whose values the metric is also reported")
    training: dict[str, Any] = Field(
        default_factory=dict, description="fields of the library's arguments class, passed on unchanged"
    )
    adapter: dict[str, Any] = Field(
        default_factory=dict, description="fields of peft's LoraConfig; target_modules by architecture if left out"
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

    @pydantic.field_validator("method", "objective", mode="before")
    @classmethod
    def _is_here(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        later, here = (LATER_METHODS, "lora, full") if info.field_name == "method" else (LATER_OBJECTIVES, "supervised")
        if value in later:
            raise ValueError(f"{value} comes in a later version; choices: {here}")
        return value

    @pydantic.model_validator(mode="after")
    def _fits(self) -> TrainingSpec:
        arguments.check(self.training, ARGUMENTS[self.task], RESERVED, "training")
        arguments.check(self.adapter, LORA, RESERVED_LORA, "adapter")
        if self.adapter and self.method == "full":
            raise ValueError("adapter applies to method lora only; remove it, or set method: lora")
        taken = set(self.data.columns(self.task)) | {"key"}
        if wrong := [name for name in self.slices if name in taken]:
            raise ValueError(f"slices has {wrong[0]!r}, which is what the model reads or writes; name other columns")
        return self

    def arguments(self) -> dict[str, Any]:
        """The section `training` with the types of the library's fields."""
        return arguments.check(self.training, ARGUMENTS[self.task], RESERVED, "training")

    def lora(self) -> dict[str, Any]:
        """The section `adapter` with the types of peft's fields."""
        return arguments.check(self.adapter, LORA, RESERVED_LORA, "adapter")

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


def parse(content: dict[str, Any], origin: str = "training file") -> TrainingSpec:
    """Validate the content of a training file.

    Raises:
        SpecError: one sentence that says what is wrong, where, and how to correct it.
    """
    refuse_tokens(content, origin)
    valid = [*keys_of(TrainingSpec)]
    try:
        spec = TrainingSpec.model_validate(content)
        task_options(spec)
    except pydantic.ValidationError as error:
        prefix = "" if error.title == TrainingSpec.__name__ else "options."
        raise SpecError(f"{origin}: {sentence(error, [*valid, *_option_keys(content)], prefix)}") from error
    return spec


def task_options(spec: TrainingSpec) -> Any:
    """The task's own options, an instance of its `Options`, with the column that training rows have.

    Raises:
        pydantic.ValidationError: an option does not exist or has a wrong value.
    """
    column = {"column": "prompt" if spec.task == "generate" else "text"}
    given = {} if "prompt" in spec.options else column
    return options_adapter(spec.task).validate_python(given | spec.options)


def digest(spec: TrainingSpec) -> str:
    """A hash of everything in a training file that changes the trained weights, the rows excepted."""
    frozen = spec.model_dump_json(include={"task", "base", "method", "objective", "options", "training", "adapter"})
    return hashlib.sha256(frozen.encode()).hexdigest()


def _option_keys(content: dict[str, Any]) -> list[str]:
    task = content.get("task")
    if not isinstance(task, str) or task not in ARGUMENTS:
        return []
    return [f"options.{field.name}" for field in dataclasses.fields(registry.get(task).Options)]
