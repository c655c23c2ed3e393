"""Training of a causal language model on answers: prompts as the nightly task writes them, and what follows them.

Source: TRL's SFTTrainer. `training.packing` puts several rows into one sequence without padding; a row still reads
only its own tokens, which is measured before the training, because not every architecture of transformers can.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer, pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from jobs.training.exchanges import Exchanges, fitted
from jobs.training.request import Request
from jobs.training.setup import Setup, load, window
from transforms.errors import ModelError

# As SFTConfig's max_length: longer rows are cut at their beginning, so that the answer stays.
LONGEST = 1024

# Largest difference of logits between a row in a pack and the row alone, as a share of the largest logit.
EXACT = 1e-3


def build(request: Request) -> Setup:
    """The network and its examples; the loss counts the tokens of the last answer only.

    Raises:
        ModelError: conversations without a chat template, or packing with an architecture that mixes packed rows.
    """
    tokenizer, network = parts(request)
    limit, exchanges = longest(request, tokenizer, network.config), Exchanges(tokenizer, request.options)
    whole = request.arguments.get("completion_only_loss") is False
    packed, strategy = request.arguments.get("packing"), request.arguments.get("packing_strategy", "bfd")
    free = bool(packed) and strategy != "wrapped"
    if free:
        require_packing(network, tokenizer.pad_token_id)

    def encode(table: pa.Table) -> list[dict[str, Any]]:
        rows = table.to_pylist()
        prompts = exchanges.prompt_ids([row["messages"][:-1] if "messages" in row else row["prompt"] for row in rows])
        answers = exchanges.answer_ids([row["messages"] if "messages" in row else row["completion"] for row in rows])
        examples = [example(*pair) for pair in zip(prompts, answers, strict=True)]
        return pack(examples) if packed else examples

    def example(prompt: list[int], answer: list[int]) -> dict[str, Any]:
        before, (after,) = fitted(prompt, [answer], limit)
        return {"input_ids": before + after, "labels": (before if whole else [-100] * len(before)) + after}

    def pack(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        from datasets import Dataset

        found: list[dict[str, Any]] = pack_dataset(Dataset.from_list(examples), limit, strategy).to_list()
        return found

    # The examples are cut and packed here, so that the number of steps is known before the training.
    fixed = {"max_length": None, "packing": False, "eval_packing": None, "padding_free": free}
    fixed |= {"completion_only_loss": False, "remove_unused_columns": True}
    return Setup((SFTTrainer, SFTConfig), network, tokenizer, encode, fixed=fixed)


def parts(request: Request) -> tuple[Any, Any]:
    """Tokenizer, with a padding token, and network."""
    tokenizer: Any = AutoTokenizer.from_pretrained(request.base)
    start = request.start if request.method == "full" and request.start is not None else request.base
    network: Any = load(replace(request, base=start), AutoModelForCausalLM)[0]
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, network


def longest(request: Request, tokenizer: Any, config: Any) -> int:
    """Tokens of a row: those of training.max_length, and not more than the window has."""
    given: int = request.arguments.get("max_length") or LONGEST
    return min(given, window(tokenizer, config, request) or given)


def require_packing(network: Any, padding: int) -> None:
    """Refuse to pack rows where a packed row reads the rows before it.

    Two rows are computed alone and packed. Whether transformers tells packed rows apart depends on the architecture:
    with 5.23, on a CPU, it does for Llama, Qwen, Mistral, Gemma, GPT-2 and GPT-NeoX, and not for BLOOM, Falcon, OPT and
    Mamba.

    Args:
        network: the base.
        padding: id of the padding token.

    Raises:
        ModelError: the logits differ.
    """
    size = network.get_input_embeddings().weight.shape[0]
    rows = [[(7 * i + 11 * row + 3) % size for i in range(9 + row)] for row in range(2)]
    batch = DataCollatorForLanguageModeling(pad_token_id=padding, padding_free=True)(
        [{"input_ids": row} for row in rows]
    )
    batch.pop("labels")
    place = {"device": network.device}
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        alone = torch.cat([network(input_ids=torch.tensor([row], **place), use_cache=False).logits[0] for row in rows])
        try:
            together = network(
                **{name: value.to(**place) if torch.is_tensor(value) else value for name, value in batch.items()},
                use_cache=False,
            ).logits[0]
        except (TypeError, ValueError, RuntimeError):
            together = torch.full_like(alone, torch.inf)
    network.train(was_training)
    if not torch.allclose(alone, together, atol=EXACT * float(alone.abs().max()), rtol=0.0):
        raise ModelError(
            f"training.packing is true, and a {network.config.model_type} model reads across rows that are packed into "
            "one sequence, so that its loss would be wrong; remove packing, because rows of similar length share a "
            "batch without it, or choose a base such as Llama, Qwen, Mistral or Gemma"
        )
