"""Prompts and answers as tokens of a causal model: the prompt as the nightly task writes it, and the answer after it.

Training and evaluation both take their tokens from here, so that a likelihood is measured on what was learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from transforms import template
from transforms.errors import ModelError

# A text, or the turns of a conversation: {role, content}.
Text = str | list[dict[str, Any]]

# Prompts are cut together with their answers, not before.
NO_LIMIT = 10**9

# Stands for an answer while the chat template is rendered.
MARK = "\ue0f2"


class Exchanges:
    """Turns prompts and answers into tokens.

    Args:
        tokenizer: of the model.
        options: options of `generate`, such as `system` and `chat`.

    Raises:
        ModelError: `options.prompt` names other columns than `prompt`.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, Any]):
        # Imported here because it imports torch and transformers, which takes seconds.
        from transforms.generation.prompt import Prompts

        self.tokenizer = tokenizer
        parts = template.parse(options["prompt"]) if options.get("prompt") else ["", "prompt", ""]
        if set(parts[1::2]) != {"prompt"}:
            others = ", ".join(sorted({*parts[1::2]} - {"prompt"}))
            raise ModelError(
                f"options.prompt names {others}; training rows have the column prompt only: write {{prompt}}"
            )
        chat = options.get("chat", "auto")
        # Only the tokenizer of a model is looked at.
        model: Any = SimpleNamespace(tokenizer=tokenizer)
        self.prompts = Prompts(model, parts, NO_LIMIT, options.get("system"), chat)
        self.chat = self.prompts.chat
        self.before, self.after = self._around() if self.chat else ("", None)

    def prompt_ids(self, prompts: Sequence[Text]) -> list[list[int]]:
        """Tokens of prompts, special tokens and the opening of the answer's turn included.

        Raises:
            ModelError: conversations, and the tokenizer has no chat template.
        """
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        plain = iter(self.prompts([[text] for text in texts]) if texts else [])
        found = [next(plain) if isinstance(prompt, str) else self._turns(prompt) for prompt in prompts]
        return [ids for ids in found if not isinstance(ids, ValueError)]

    def answer_ids(self, answers: Sequence[Text]) -> list[list[int]]:
        """Tokens of answers, with the end of the answer's turn, or the end token."""
        texts = [answer if isinstance(answer, str) else str(answer[-1]["content"]) for answer in answers]
        whole = [f"{self.before}{text}{self.after or ''}" for text in texts]
        ids = self.tokenizer(whole, add_special_tokens=False, return_attention_mask=False)["input_ids"] if whole else []
        end = self.tokenizer.eos_token_id
        return [[*each, end] for each in ids] if self.after is None and end is not None else ids

    def _turns(self, turns: list[dict[str, Any]]) -> list[int]:
        if not self.chat:
            raise ModelError(NO_TEMPLATE)
        rendered = self.tokenizer.apply_chat_template(_plain(turns), tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return ids

    def _around(self) -> tuple[str, str | None]:
        """What the chat template writes before and after an answer; nothing and None if it cannot be told."""
        turns = [{"role": "user", "content": "x"}]
        prompt = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        answered = [*turns, {"role": "assistant", "content": MARK}]
        whole = self.tokenizer.apply_chat_template(answered, tokenize=False)
        # Some templates write the turn that is answered differently from earlier ones.
        if not whole.startswith(prompt) or MARK not in whole[len(prompt) :]:
            return "", None
        before, _, after = whole[len(prompt) :].partition(MARK)
        return before, after


NO_TEMPLATE = (
    "the rows have conversations (lists of messages), and the tokenizer of base.model has no chat template, or "
    "options.chat is never; choose a base with a chat template, or give prompts and answers as texts"
)


def fitted(prompt: list[int], answers: Sequence[list[int]], limit: int) -> tuple[list[int], list[list[int]]]:
    """A prompt and answers to it that fit into a window together.

    An answer is cut at its end, and the prompt at its beginning, so that the longest answer stays; one token of the
    prompt is kept.

    Args:
        prompt: tokens.
        answers: tokens of each answer.
        limit: tokens of the window.
    """
    kept = [answer[: limit - 1] for answer in answers]
    room = limit - max(map(len, kept))
    return prompt[-room:], kept


def _plain(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns without the keys that other turns of the column have."""
    return [{key: value for key, value in turn.items() if value is not None} for turn in turns]
