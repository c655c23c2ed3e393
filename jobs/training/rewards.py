"""What written answers are scored with: a reward model, functions that Python can import, or several of them.

A reward model is a model of the task `classify` with one output. It reads the prompt with its answer as a nightly job
would read them in one column, so that training, evaluation and a job give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.models import hub
from jobs.registry import Registry
from jobs.training import functions
from jobs.training.scored_text import scored_text
from jobs.training.sections import NO_REWARD, RewardSpec
from transforms import adapter as adapters
from transforms import heads
from transforms.errors import ModelError, SpecError
from transforms.reference import ModelRef, read_config

MODEL = "reward.model"
CHUNK_ROWS = 256
# Columns that are no further columns for reward functions.
OWN = ("prompt", "messages", "completion", "key")


@dataclass(frozen=True)
class Reward:
    """Rewards that are pinned: nothing in it changes when a registry or a module does.

    Attributes:
        model: folder of the reward model, or of its base; None without one.
        adapter: folder of its adapter; None for a whole model.
        commit: version of the reward model.
        functions: `module:function` -> hash of its source.
        weights: weight of each reward, the model first.
        max_kl: largest divergence from the starting policy, in nats per token; None for a fixed penalty.
    """

    model: str | None = None
    adapter: str | None = None
    commit: str | None = None
    functions: Mapping[str, str] = field(default_factory=dict)
    weights: Sequence[float] = ()
    max_kl: float | None = None

    @property
    def names(self) -> list[str]:
        """The rewards in the order of their weights."""
        return [*(["model"] if self.model else []), *(name.partition(":")[2] for name in self.functions)]

    @property
    def identity(self) -> dict[str, Any]:
        """What it is, without where it lies."""
        return {
            "commit": self.commit,
            "functions": dict(self.functions),
            "weights": list(self.weights),
            "max_kl": self.max_kl,
        }


@dataclass(frozen=True)
class Folders:
    """A reward model that an earlier stage of the same file has made.

    Attributes:
        model: its folder, or that of its base.
        adapter: folder of its adapter; None for a whole model.
        commit: hash of what it was trained from.
    """

    model: str
    adapter: str | None
    commit: str


def pin(spec: RewardSpec, made: Folders | None = None) -> Reward:
    """Resolve a section `reward`, and check what can be checked before weights load.

    Args:
        spec: the section.
        made: the reward model of an earlier stage, used if the section names no other one.

    Raises:
        SpecError: there is no reward, a function cannot be imported, or the weights do not fit.
        ModelError: the model is no reward model.
    """
    found = Folders("", None, "")
    if spec.model is not None:
        found = _model(spec)
    elif made is not None:
        found = made
    if not found.model and not spec.functions:
        raise SpecError(NO_REWARD)
    count = bool(found.model) + len(spec.functions)
    weights = [1.0] * count if spec.weights is None else spec.weights
    if len(weights) != count:
        raise SpecError(
            f"reward.weights has {len(weights)} numbers, and there are {count} rewards; give one for each, that of the "
            "model first"
        )
    if found.model:
        _check(found, spec.model or "of the stage before")
    sources = {name: functions.version(name) for name in spec.functions}
    return Reward(found.model or None, found.adapter, found.commit or None, sources, tuple(weights), spec.max_kl)


def _model(spec: RewardSpec) -> Folders:
    assert spec.model is not None
    pinned = hub.pin(spec.model, None, MODEL if spec.base is None else "reward.adapter")
    folder = pinned.folder()
    if not (Path(folder) / "adapter_config.json").is_file():
        return Folders(folder, None, pinned.version)
    if spec.base is not None:
        base = hub.pin(spec.base, None, "reward.base.model")
    elif pinned.registry is not None:
        version = Registry(pinned.registry).version(pinned.name.rpartition("@")[2])
        base = hub.pin(version.base.model, None if Path(version.base.model).is_dir() else version.base.commit, MODEL)
    else:
        raise SpecError(
            f"{MODEL} {spec.model!r} is an adapter; write its base as reward.base, or name a version of a registry"
        )
    adapters.check(folder, base.folder(), base.name)
    return Folders(base.folder(), folder, f"{base.version}:{pinned.version}")


def _check(found: Folders, name: str) -> None:
    """Refuse a model that has no head with one output, from its configuration."""
    config = read_config(ModelRef(found.model, found.adapter))
    if found.adapter is None:
        heads.require(config, "ForSequenceClassification", "a reward")
    if (labels := heads.labels(config)) and len(labels) != 1:
        raise ModelError(
            f"{MODEL} {name!r} has {len(labels)} labels ({', '.join(labels[:5])}), and a reward model has one output; "
            "train one with objective: reward"
        )


def examples(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as the trainer and reward functions get them.

    Args:
        table: rows with `prompt` or `messages`.

    Returns:
        Rows with `prompt`, `reference` (the true answer, if there is one), and the further columns of the table.
    """
    found = []
    for row in table.to_pylist():
        prompt, reference = row.get("prompt"), row.get("completion")
        if (messages := row.get("messages")) is not None:
            answered = len(messages) > 1 and messages[-1]["role"] == "assistant"
            prompt, reference = (messages[:-1], messages[-1]["content"]) if answered else (messages, None)
        example = {"prompt": prompt} | {name: value for name, value in row.items() if name not in OWN}
        if reference is not None:
            example["reference"] = reference if isinstance(reference, str) else reference[-1]["content"]
        found.append(example)
    return found


class Scorer:
    """Gives the answers to prompts their rewards; the reward model is loaded once.

    Args:
        reward: what to score with.
        device: of the reward model: auto, cpu, cuda or mps.

    Raises:
        ModelError: the reward model cannot be loaded.
    """

    def __init__(self, reward: Reward, device: str = "auto"):
        self.reward = reward
        self.annotator: Callable[[pa.RecordBatch], Any] | None = None
        self.tokenizer: Any = None
        if reward.model is not None:
            self._load(ModelRef(reward.model, reward.adapter, device=device))

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[str], columns: Mapping[str, Sequence[Any]]
    ) -> list[float]:
        """The weighted sum of all rewards of each answer.

        Args:
            prompts: texts, or conversations.
            completions: the answers, texts.
            columns: further columns of the rows, for functions.

        Raises:
            ModelError: a function failed or returned something wrong.
        """
        parts = self.each(prompts, completions, columns)
        return [
            sum(weight * value for weight, value in zip(self.reward.weights, values, strict=True))
            for values in zip(*parts, strict=True)
        ]

    def each(
        self, prompts: Sequence[Any], completions: Sequence[str], columns: Mapping[str, Sequence[Any]]
    ) -> list[list[float]]:
        """As a call, but each reward by itself, in the order of `Reward.names`."""
        parts = [] if self.annotator is None else [self.by_model(prompts, completions)]
        return parts + [functions.call(name, prompts, completions, columns) for name in self.reward.functions]

    def by_model(self, prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
        """The output of the reward model for each answer."""
        assert self.annotator is not None
        texts = [
            scored_text(self.tokenizer, prompt, answer) for prompt, answer in zip(prompts, completions, strict=True)
        ]
        found: list[float] = []
        for first in range(0, len(texts), CHUNK_ROWS):
            batch = pa.record_batch({"text": pa.array(texts[first : first + CHUNK_ROWS], pa.string())})
            annotation = self.annotator(batch)
            if annotation.failures:
                raise ModelError(f"the reward model fails for an answer: {annotation.failures[0].message}")
            # An empty prompt with an empty answer has no text, which the task leaves without a score.
            found += [0.0 if value is None else value["score"] for value in annotation.values.to_pylist()]
        return found

    def _load(self, reference: ModelRef) -> None:
        # Imported here because it imports torch and transformers, which takes seconds.
        from transforms import model as models
        from transforms.checkpoint.loading import explaining
        from transforms.tasks import classify

        with explaining(reference, "classify"):
            loaded = models.load(reference, classify.ARCHITECTURE)
        # Reward models of others do not say that their output is a number, which would be squeezed into 0 to 1.
        loaded.network.config.problem_type = "regression"
        self.tokenizer = loaded.tokenizer
        self.annotator = classify.load(classify.Options(column="text"), loaded)
