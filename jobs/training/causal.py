"""Training of a causal language model: prompts as the nightly task writes them, and the texts that follow them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from jobs.training.request import Request
from jobs.training.setup import Setup, load, window
from transforms.errors import ModelError

# As SFTConfig's max_length: longer rows are cut at their beginning, so that the answer stays.
LONGEST = 1024


def build(request: Request) -> Setup:
    """The network and its examples; the loss counts the tokens of the last answer only.

    Raises:
        ModelError: conversations without a chat template.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(request.base)
    network: Any = load(request, AutoModelForCausalLM)[0]
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    given = request.arguments.get("max_length") or LONGEST
    limit = min(given, window(tokenizer, network.config, request) or given)
    system, chat = request.options.get("system"), request.options.get("chat", "auto")
    templated = chat != "never" and bool(tokenizer.chat_template)

    def encode(table: pa.Table) -> list[dict[str, Any]]:
        return [example(*texts(row)) for row in table.to_pylist()]

    def texts(row: dict[str, Any]) -> tuple[str, str]:
        """The prompt and the answer as text, with all special tokens if there is a chat template."""
        messages = row.get("messages")
        if messages is None and not isinstance(row["prompt"], list):
            if not templated:
                prompt = f"{system}\n\n{row['prompt']}" if system else row["prompt"]
                return prompt, row["completion"] + tokenizer.eos_token
            opening = [{"role": "system", "content": system}] if system else []
            messages = [*opening, {"role": "user", "content": row["prompt"]}]
            messages.append({"role": "assistant", "content": row["completion"]})
        elif messages is None:
            messages = [*row["prompt"], *row["completion"]]
        if not templated:
            raise ModelError("data.messages needs a tokenizer with a chat template, and this base has none")
        prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        # Some templates write the turn that is answered differently from earlier ones.
        own = whole[len(prompt) :] if whole.startswith(prompt) else messages[-1]["content"] + tokenizer.eos_token
        return prompt, own

    def example(prompt: str, answer: str) -> dict[str, Any]:
        before = tokenizer(prompt, add_special_tokens=not templated)["input_ids"]
        # A tokenizer may end every text with its end token, which is not at the end here.
        if before and before[-1] == tokenizer.eos_token_id and not templated and tokenizer.eos_token_id is not None:
            before = before[:-1]
        after = tokenizer(answer, add_special_tokens=False)["input_ids"]
        ids, mask = before + after, [0] * len(before) + [1] * len(after)
        return {"input_ids": ids[-limit:], "completion_mask": mask[-limit:]}

    arguments = {"completion_only_loss": True, "packing": False}
    # The examples are cut here, at their beginning.
    fixed = {"max_length": None, "remove_unused_columns": True}
    return Setup((SFTTrainer, SFTConfig), network, tokenizer, encode, arguments=arguments, fixed=fixed)
