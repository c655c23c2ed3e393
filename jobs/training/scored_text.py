"""The text that a reward model scores: a prompt and an answer to it, as training and nightly jobs both read it.

A job that scores answers has this text in the column that its task `classify` reads, and the tokenizer of the model
then gives the tokens of the training.
"""

from __future__ import annotations

from typing import Any

from jobs.training.exchanges import NO_TEMPLATE, Text
from transforms.errors import ModelError


def scored_text(tokenizer: Any, prompt: Text | None, answer: Text) -> str:
    """A prompt and an answer as one text.

    Texts are joined as they are, as TRL's RewardTrainer joins them, but without an end token, because a job's texts
    have none. Conversations are written by the chat template, without the special token at their beginning if the
    tokenizer adds it to every text.

    Args:
        tokenizer: of the reward model.
        prompt: a text, the turns before the answer, or nothing.
        answer: a text, or turns.

    Raises:
        ModelError: turns, and the tokenizer has no chat template.
    """
    if isinstance(answer, str) and not isinstance(prompt, list):
        return f"{prompt or ''}{answer}"
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(NO_TEMPLATE)
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) and prompt else list(prompt or [])
    after = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer
    turns = [{key: value for key, value in turn.items() if value is not None} for turn in [*before, *after]]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    start = tokenizer.bos_token
    if start and text.startswith(start) and tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]:
        return text[len(start) :]
    return text
