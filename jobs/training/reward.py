"""Training of a reward model: a number for a text, higher for the answers that people prefer.

Source: TRL's RewardTrainer, the loss of Bradley and Terry as in Ouyang et al. 2022, arXiv 2203.02155. The version is
one of task classify with a single output, `reward`, whose score is that number.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from jobs.training.request import Request
from jobs.training.scored_text import scored_text
from jobs.training.setup import Setup, load_head, window

# Name of the output.
LABEL = "reward"


def build(request: Request) -> Setup:
    """The network with a new head of one output, and its examples.

    Raises:
        ModelError: conversations without a chat template.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(request.base)
    network, new = load_head(request, AutoModelForSequenceClassification, [LABEL], problem_type="regression")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    limit = window(tokenizer, network.config, request)

    def encode(table: pa.Table) -> list[dict[str, Any]]:
        rows = table.to_pylist()
        chosen, rejected = (ids([scored_text(tokenizer, row["prompt"], row[name]) for row in rows]) for name in SIDES)
        return [
            {"chosen_ids": one, "rejected_ids": other, "length": max(len(one), len(other))}
            for one, other in zip(chosen, rejected, strict=True)
        ]

    def ids(texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = tokenizer(texts, truncation=limit is not None, max_length=limit)["input_ids"]
        return found

    return Setup(
        (RewardTrainer, RewardConfig),
        network,
        tokenizer,
        encode,
        labels=[LABEL],
        new=new,
        arguments={"gradient_checkpointing": torch.cuda.is_available() and request.method != "prefix"},
        fixed={"max_length": None, "remove_unused_columns": False},
        lengths="length",
    )


SIDES = ("chosen", "rejected")
