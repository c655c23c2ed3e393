"""Text classification: one label, several labels or a number for each text.

Source: the AutoModelForSequenceClassification heads of transformers; scores are those of its text-classification
pipeline (softmax for one label, sigmoid for several or for a single logit, the unchanged value for regression).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from transforms import heads
from transforms.options import column_field

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.annotators.classify import Classifier
    from transforms.model import Model

ARCHITECTURE = "AutoModelForSequenceClassification"
VERSION = 1

LABEL = pa.struct([("label", pa.string()), ("score", pa.float32())])


@dataclass(frozen=True)
class Options:
    """The options of `classify` in a job file.

    Attributes:
        column: text column (string).
        top_k: give a list of the k best labels, or of all; by default the best label, or all labels of a multi-label
            model.
        long_text: what happens to a text that is longer than the model's window: truncate cuts it, window scores
            overlapping windows and averages their scores, weighted by their tokens.
        stride: number of tokens that two neighbouring windows share.
    """

    column: str = column_field("text column")
    top_k: int | Literal["all"] | None = None
    long_text: Literal["truncate", "window"] = "truncate"
    stride: int = 64

    def __post_init__(self) -> None:
        if isinstance(self.top_k, int) and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; give a number of labels from 1, or all")
        if self.stride < 0:
            raise ValueError(f"stride is {self.stride}; give a number of tokens from 0")


def check(options: Options, config: PretrainedConfig | None) -> None:
    """Refuse a model without a classification head."""
    heads.require(config, "ForSequenceClassification", "classify")


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """struct<label: string, score: float32>; a list of them, best first, with `top_k` or a multi-label model."""
    return pa.list_(LABEL) if gives_list(options, config) else LABEL


def gives_list(options: Options, config: PretrainedConfig | None) -> bool:
    """Whether a row gets a list of labels instead of one label."""
    problem = getattr(config, "problem_type", None)
    several_numbers = problem == "regression" and config is not None and len(heads.labels(config)) > 1
    return options.top_k is not None or problem == "multi_label_classification" or several_numbers


def load(options: Options, model: Model, max_tokens: int | None = None) -> Classifier:
    """The task on a loaded model."""
    from transforms.annotators.classify import Classifier

    return Classifier(options, model, max_tokens)
