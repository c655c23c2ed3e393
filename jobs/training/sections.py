"""The sections of a training file: the base, the rows, the reward, the teacher and the stages."""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic import Field

from jobs.spec.complaint import keys_of, sentence
from jobs.spec.section import Section
from jobs.spec.source import SourceSpec

# Objectives that learn from pairs of answers, one of which is preferred.
PAIRED = ("dpo", "orpo", "reward")
# Objectives whose rows are prompts only, because the model writes the answers itself.
PROMPTED = ("rloo", "grpo")


NO_REWARD = (
    "reward has neither a model nor functions; name a reward model (reward.model: ./rewards@champion), functions "
    "(reward.functions: [my_rewards:short]), or both"
)


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
    label: str = Field(
        "label",
        description="classify: column of the label, or of a list of labels; kto: of whether an answer is desirable",
    )
    entities: str = Field("entities", description="ner: column of the entities, list<struct<label, start, end>>")
    target: str = Field("target", description="summarize, translate: column of the text to write")
    prompt: str | None = Field(None, description="generate: column of the prompt; by default prompt")
    completion: str | None = Field(None, description="generate: column of the text to write; by default completion")
    messages: str | None = Field(None, description="generate: column of a conversation, instead of prompt, completion")
    chosen: str = Field("chosen", description="dpo, orpo, reward: column of the answer that is preferred")
    rejected: str = Field("rejected", description="dpo, orpo, reward: column of the other answer")

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

    def columns(self, task: str, objective: str = "supervised") -> dict[str, str]:
        """Canonical column -> column of the source.

        Args:
            task: the task that the version serves.
            objective: what is learnt from the rows.
        """
        prompt = {"prompt": self.prompt or "prompt"}
        answer = {"completion": self.completion or "completion"}
        match objective, task:
            case (("dpo" | "orpo" | "reward"), _):
                return prompt | {"chosen": self.chosen, "rejected": self.rejected}
            case "kto", _:
                return prompt | answer | {"label": self.label}
            case (("rloo" | "grpo"), _) if self.messages is not None:
                return {"messages": self.messages}
            case (("rloo" | "grpo"), _):
                # True answers are not learnt; reward functions get them as `reference`.
                return prompt | (answer if self.completion is not None else {})
            case "distill", "generate":
                return prompt
            case "distill", _:
                return {"text": self.text}
            case _, "classify":
                return {"text": self.text, "label": self.label}
            case _, "ner":
                return {"text": self.text, "entities": self.entities}
            case _, "generate":
                return {"messages": self.messages} if self.messages is not None else prompt | answer
        return {"text": self.text, "target": self.target}


class RewardSpec(Section):
    """What rloo and grpo score the written answers with; several rewards are added up."""

    model: str | None = Field(
        None,
        description="a reward model: registry@champion, a folder, or its name on the Hub; in a file with stages by "
        "default that of the stage before",
    )
    base: str | None = Field(None, description="base of a reward model that is an adapter outside of a registry")
    functions: list[str] = Field(
        default_factory=list,
        description="functions `module:name` that Python can import: prompts, completions and columns -> numbers",
    )
    weights: list[float] | None = Field(
        None, description="weight of each reward, that of the model first; by default 1 for each"
    )
    max_kl: float | None = Field(
        0.3,
        gt=0,
        description="largest divergence from the policy that the training starts from, in nats per token of the "
        "answers: above it the penalty training.beta grows, until the divergence falls; null keeps the penalty",
    )

    @pydantic.field_validator("functions")
    @classmethod
    def _importable(cls, value: list[str]) -> list[str]:
        for each in value:
            module, _, name = each.partition(":")
            if not module or not name:
                raise ValueError(f"{each!r} is not module:function, such as my_rewards:short")
        return value


class TeacherSpec(Section):
    """What a distilled student learns from: the outputs of a larger model on the rows."""

    model: str = Field(description="the teacher: its name on the Hub, a folder, or registry@champion of whole models")
    revision: str | None = Field(None, description="branch, tag or commit of a Hub model; by default its main branch")
    adapter: str | None = Field(None, description="adapter over it, such as registry@champion")
