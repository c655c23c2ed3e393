"""Zero-shot classification: how well each of some labels, named in the job or in a column, describes a text.

Source: Yin et al. 2019, Benchmarking Zero-shot Text Classification (arXiv:1909.00161): a model trained on natural
language inference scores whether the text entails "This example is LABEL."; labels, their order and their scores are
those of transformers' zero-shot-classification pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from transforms import heads
from transforms.errors import ModelError
from transforms.options import column_field, example_field

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.annotators.zero_shot import ZeroShotClassifier
    from transforms.model import Model

ARCHITECTURE = "AutoModelForSequenceClassification"
VERSION = 1

LABEL = pa.struct([("label", pa.string()), ("score", pa.float32())])


@dataclass(frozen=True)
class Options:
    """The options of `zero_shot` in a job file.

    Attributes:
        column: text column (string).
        labels: the labels to choose from, the same for every row.
        labels_column: column with the labels of each row (list<string>); null and empty labels are left out.
        hypothesis: the sentence that is scored for each label, with {} in the place of the label.
        multi_label: score each label independently of the others; otherwise the scores of a row add up to 1.
        top_k: give only the k best labels; by default all.
    """

    column: str = column_field("text column")
    labels: list[str] | None = example_field("[first, second]")  # noqa: RUF009 - it calls field()
    labels_column: str | None = column_field("column with the labels of each row", "list<string>", default=None)
    hypothesis: str = "This example is {}."
    multi_label: bool = False
    top_k: int | None = None

    def __post_init__(self) -> None:
        if (self.labels is None) == (self.labels_column is None):
            raise ValueError("give either labels (a list for all rows) or labels_column, and not both")
        if self.labels is not None and not (self.labels and all(self.labels)):
            raise ValueError(f"labels is {self.labels}; give at least one label, and none that is empty")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; give a number of labels from 1")
        try:
            fits = self.hypothesis.format("one") != self.hypothesis.format("two")
        except (IndexError, KeyError, ValueError):
            fits = False
        if not fits:
            raise ValueError(f"hypothesis is {self.hypothesis!r}; put one {{}} where the label goes")


def check(options: Options, config: PretrainedConfig | None) -> None:
    """Refuse a model without a classification head, or without a label for entailment."""
    heads.require(config, "ForSequenceClassification", "zero_shot")
    if config is not None:
        entailment(config)


def entailment(config: PretrainedConfig) -> int:
    """The index of the logit for entailment: the text implies the hypothesis.

    Raises:
        ModelError: no label of the model means entailment.
    """
    labels = heads.labels(config)
    for index, label in enumerate(labels):
        if label.lower().startswith("entail") and len(labels) > 1:
            return index
    raise ModelError(
        f"zero_shot needs a model with a label called entailment beside others, and this one has {', '.join(labels)}; "
        f"choose a model that was trained on natural language inference (NLI), or name its labels in config.json"
    )


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """list<struct<label: string, score: float32>>, best first."""
    return pa.list_(LABEL)


def load(options: Options, model: Model, max_tokens: int | None = None) -> ZeroShotClassifier:
    """The task on a loaded model."""
    from transforms.annotators.zero_shot import ZeroShotClassifier

    return ZeroShotClassifier(options, model, max_tokens)
