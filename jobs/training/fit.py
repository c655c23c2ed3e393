"""Whether the rows fit the base: its chat template and its window, from the files of its tokenizer.

No weights are read, so that a mistake is found before a training starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from jobs.training.data import Rows
from jobs.training.exchanges import NO_TEMPLATE, Exchanges, Text
from jobs.training.methods import virtual
from jobs.training.scored_text import scored_text
from jobs.training.sections import PROMPTED
from jobs.training.setup import window
from jobs.training.spec import TrainingSpec
from transforms.errors import ModelError

# Characters of a prompt in a message.
SHOWN = 60


def check(spec: TrainingSpec, rows: Rows, base: str, config: Any) -> None:
    """Refuse virtual tokens and prompts that leave no room, and conversations without a chat template.

    Args:
        spec: the training file.
        rows: its rows.
        base: folder of the base.
        config: its configuration.

    Raises:
        ModelError: one sentence that names the column, a row and the fix.
    """
    # What the window needs to know of the training.
    training: Any = SimpleNamespace(method=spec.method, adapter=spec.peft())
    _fits_ahead(training, base, config)
    scores = spec.objective == "reward"
    # Prompts of rloo and grpo are checked with the room that their answers need, by `policy.check`.
    if spec.objective in PROMPTED or not (scores or spec.task == "generate"):
        return
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    limit = window(tokenizer, config, training)
    exchanges = None if scores else Exchanges(tokenizer, spec.options)
    for place, prompt, answer in _rows(rows):
        talks = isinstance(prompt, list) or isinstance(answer, list)
        if talks and not (tokenizer.chat_template and (exchanges is None or exchanges.chat)):
            raise ModelError(NO_TEMPLATE)
        # A token has one byte or more, so that most rows need not be counted.
        if limit is None or len(_text(prompt).encode()) < limit // 2:
            continue
        if exchanges is None:
            tokens = len(tokenizer(scored_text(tokenizer, prompt, "" if isinstance(answer, str) else []))["input_ids"])
        else:
            tokens = len(exchanges.prompt_ids([prompt])[0])
        if tokens >= limit:
            column = spec.columns.get("messages" if spec.data.messages else "prompt", "prompt")
            text = " ".join(_text(prompt).split())
            shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
            raise ModelError(
                f"a prompt in column {column!r} of {place} has {tokens:,} tokens ({shown!r}), and base.model has a "
                f"window of {limit:,} for prompt and answer together; shorten it, leave such rows out, or choose a "
                "base with a longer window"
            )


def _fits_ahead(training: Any, base: str, config: Any) -> None:
    """Refuse virtual tokens that fill the window: no text would be left, and the library fails with an index."""
    if not (ahead := virtual.count(training)):
        return
    from transformers import AutoTokenizer

    limit = window(AutoTokenizer.from_pretrained(base), config)
    if limit is not None and ahead >= limit:
        raise ModelError(
            f"adapter.num_virtual_tokens is {ahead}, and base.model has a window of {limit:,} tokens for them and the "
            f"text together; lower it, for example to {min(virtual.VIRTUAL_TOKENS, max(1, limit // 4))}"
        )


def _rows(rows: Rows) -> Iterator[tuple[str, Text, Text | None]]:
    """Place, prompt and an answer of each row."""
    for place, table in (("data.train", rows.train), ("data.train", rows.validation), ("the holdout", rows.holdout)):
        names = [name for name in ("prompt", "messages", "chosen", "completion") if name in table.schema.names]
        for row in table.select(names).to_pylist():
            if "messages" in row:
                yield place, row["messages"][:-1], None
            else:
                yield place, row["prompt"] or "", row.get("chosen", row.get("completion"))


def _text(prompt: Text) -> str:
    return prompt if isinstance(prompt, str) else " ".join(str(turn["content"]) for turn in prompt)
