"""Training of a causal language model on preferences: which answer to a prompt people like better.

    dpo    pairs      Rafailov et al. 2023, arXiv 2305.18290; TRL's DPOTrainer
    kto    one answer a row, desirable or not; Ethayarajh et al. 2024, arXiv 2402.01306; TRL's KTOTrainer
    orpo   pairs, without a reference model; Hong et al. 2024, arXiv 2403.07691; TRL 1.16 has its trainer in
           `trl.experimental`, whose interface may change between releases

The trainers get tokens, not texts: theirs would leave out the system message, and the end of a prompt that shares a
token with its answer. The reference model of dpo and kto is the base: what the network is without its new adapter, or
for `method: full` a second copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from jobs.training import methods
from jobs.training.causal import longest, parts
from jobs.training.exchanges import Exchanges, fitted
from jobs.training.request import Request
from jobs.training.setup import Setup

# Preferences move whole texts, and a learning rate that suits tokens soon makes every answer improbable.
SLOWER = 0.1

# Losses of kto that do not estimate the divergence from the reference by mismatched answers.
WITHOUT_MISMATCHED = ("apo_zero_unpaired",)


def build(request: Request) -> Setup:
    """The network and its examples.

    Raises:
        ModelError: conversations without a chat template.
    """
    tokenizer, network = parts(request)
    limit, exchanges = longest(request, tokenizer, network.config), Exchanges(tokenizer, request.options)
    answers, example, kind = FORMS[request.objective]

    def encode(table: pa.Table) -> list[dict[str, Any]]:
        rows = table.to_pylist()
        prompts = exchanges.prompt_ids([row["prompt"] for row in rows])
        found = [exchanges.answer_ids([row[name] for row in rows]) for name in answers]
        examples = []
        for row, prompt, *texts in zip(rows, prompts, *found, strict=True):
            before, after = fitted(prompt, texts, limit)
            examples.append(example(row, before, after) | {"length": len(before) + max(map(len, after))})
        return examples

    arguments = {
        "learning_rate": SLOWER * methods.LEARNING_RATES[request.method],
        # It saves memory at the price of a second forward pass, and peft's prefix tuning refuses it.
        "gradient_checkpointing": torch.cuda.is_available() and request.method != "prefix",
    }
    collator = None
    if request.objective == "kto":
        estimates = request.arguments.get("loss_type", "kto") not in WITHOUT_MISMATCHED
        collator = Mismatched(tokenizer.pad_token_id) if estimates else None
    return Setup(
        kind(request.start is None),
        network,
        tokenizer,
        encode,
        collator,
        arguments=arguments,
        fixed={"max_length": None, "remove_unused_columns": False},
        lengths="length",
    )


@dataclass
class Mismatched(DataCollatorForUnpairedPreference):
    """A batch of kto with each answer also after the prompt of the next row, which estimates the divergence.

    TRL makes these pairs before the training, which fixes the order of the rows; here they are made in each batch, so
    that rows of similar length can share one. A last batch of a single row has its own answer there.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Tensors of a batch."""
        answers = [example["completion_ids"] for example in examples]
        others = [answers[-1], *answers[:-1]]
        return super().torch_call(
            [example | {"KL_completion_ids": other} for example, other in zip(examples, others, strict=True)]
        )


def _pair(row: Mapping[str, Any], prompt: list[int], answers: list[list[int]]) -> dict[str, Any]:
    return {"prompt_ids": prompt, "chosen_ids": answers[0], "rejected_ids": answers[1]}


def _single(row: Mapping[str, Any], prompt: list[int], answers: list[list[int]]) -> dict[str, Any]:
    return {"prompt_ids": prompt, "completion_ids": answers[0], "label": bool(row["label"])}


def _labelled(row: Mapping[str, Any], prompt: list[int], answers: list[list[int]]) -> dict[str, Any]:
    """A pair as ORPOTrainer has it after its own encoding."""
    found: dict[str, Any] = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
    for name, answer in zip(("chosen", "rejected"), answers, strict=True):
        ids = prompt + answer
        found |= {
            f"{name}_input_ids": ids,
            f"{name}_attention_mask": [1] * len(ids),
            f"{name}_labels": [-100] * len(prompt) + answer,
        }
    return found


def _with_reference(kind: Any, arguments: Any) -> Callable[[bool], tuple[Any, Any]]:
    """A trainer with a reference model, and its arguments class."""

    def of(new: bool) -> tuple[Any, Any]:
        class Trainer(kind):
            """The trainer, for rows that are tokens already."""

            def __init__(self, *args: Any, **more: Any):
                super().__init__(*args, **more)
                if new and "ref" in getattr(self.model, "peft_config", {}):
                    # TRL copies the adapter as the reference. Without a new adapter the network is the base.
                    self.model.delete_adapter("ref")
                    self.model.set_adapter("default")

            def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
                return dataset

        return Trainer, arguments

    return of


def _orpo(new: bool) -> tuple[Any, Any]:
    class Trainer(ORPOTrainer):
        """The trainer, for rows that are tokens already."""

        def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
            return feature

        def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> Any:
            def without_virtual(ids: torch.Tensor, **more: Any) -> Any:
                """The outputs at the row's own tokens, without those of a prompt-tuned adapter."""
                outputs = model(ids, **more)
                outputs.logits = outputs.logits[:, -ids.shape[1] :]
                return outputs

            called: Any = without_virtual
            return super().concatenated_forward(called, batch)

    return Trainer, ORPOConfig


# Objective -> the columns with answers, a function that makes an example, and one that gives the trainer.
FORMS: Mapping[str, tuple[tuple[str, ...], Callable[..., dict[str, Any]], Callable[[bool], tuple[Any, Any]]]] = {
    "dpo": (("chosen", "rejected"), _pair, _with_reference(DPOTrainer, DPOConfig)),
    "kto": (("completion",), _single, _with_reference(KTOTrainer, KTOConfig)),
    "orpo": (("chosen", "rejected"), _labelled, _orpo),
}
