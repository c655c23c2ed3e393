"""Summarisation on a loaded model: see transforms/tasks/summarize.py for its source and options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from transforms.batches import MAX_TOKENS, Caps
from transforms.contract import Annotation, failures_of
from transforms.errors import ModelError
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.generation.windows import windows
from transforms.generation.writer import Steps, alone, new_tokens, texts_of
from transforms.model import Model
from transforms.tasks.summarize import Options
from transforms.tokens import call_cut

# The instruction to a causal model; the text follows.
INSTRUCTION = "Summarize the following text in a few sentences. Answer with the summary alone."

# Maximum rounds of summarising summaries; then the rest is cut. Each round divides the length by window / summary.
ROUNDS = 8


class Summarizer:
    """Texts in, summaries out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        self.options = options
        self.model = model
        self.max_tokens = max_tokens or MAX_TOKENS[model.device.type]
        self.caps = Caps()
        own = (getattr(model.config, "task_specific_params", None) or {}).get("summarization", {})
        prefix = own.get("prefix", getattr(model.config, "prefix", None)) if options.prefix is None else options.prefix
        self.encoder_decoder = bool(model.config.is_encoder_decoder)
        self.prefix = prefix or ("" if self.encoder_decoder else INSTRUCTION)
        if not self.encoder_decoder and not model.tokenizer.chat_template:
            raise ModelError(
                "summarize needs an encoder-decoder or a causal model with a chat template; this tokenizer has none"
            )
        self.max_new_tokens = options.max_new_tokens or new_tokens(model, own, default=128)
        own_minimum = own.get("min_length") if options.min_new_tokens is None else None
        self.how = Decoding(
            num_beams=options.num_beams,
            length_penalty=options.length_penalty if options.length_penalty is not None else own.get("length_penalty"),
            no_repeat_ngram_size=options.no_repeat_ngram_size
            if options.no_repeat_ngram_size is not None
            else own.get("no_repeat_ngram_size"),
            min_new_tokens=options.min_new_tokens if own_minimum is None else max(0, own_minimum - 1),
        )
        taken = 0 if self.encoder_decoder else self.max_new_tokens
        self.window = model.max_length - taken
        # What is left beside the prefix and special tokens, which an empty text has too.
        self.room = self.window
        self.room -= len(self.ids([""])[0])
        if self.room < 1:
            raise ModelError(
                f"the model's window of {model.max_length} tokens has no room for a text beside the prefix"
                + ("" if self.encoder_decoder else f" and {self.max_new_tokens} new tokens; lower max_new_tokens")
            )

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Summarise the rows of a batch."""
        return alone(self.steps(batch), self.model, self.how, self.max_tokens, self.caps)

    def steps(self, batch: pa.RecordBatch) -> Steps:
        """The same in steps."""
        column = batch.column(self.options.column)
        waiting = {row: text for row, text in enumerate(column.to_pylist()) if text}
        done: dict[int, str] = {}
        failed: dict[int, Exception] = {}
        cut_at = np.zeros(len(column), np.int32)
        tokens = slots = 0
        for last in [False] * (ROUNDS - 1) + [True]:
            pieces = [
                (row, piece, whole)
                for row, text in waiting.items()
                for found in [[text] if last or self.options.long_text == "truncate" else self.windows(text)]
                for piece, whole in zip(found, [len(found) == 1] * len(found), strict=True)
            ]
            if not pieces:
                break
            every, cut = self.ids_cut([piece for _, piece, _ in pieces])
            cut_at[[row for (row, _, _), was_cut in zip(pieces, cut, strict=True) if was_cut]] = self.window
            result = yield [Request(ids, self.max_new_tokens) for ids in every]
            tokens, slots = tokens + result.tokens, slots + result.padded_tokens
            failed |= {pieces[i][0]: error for i, error in sorted(result.failures.items(), reverse=True)}
            joined: dict[int, list[str]] = {}
            for (row, _, whole), summary in zip(pieces, texts_of(self.model, result.outputs), strict=True):
                if summary is not None and row not in failed:
                    joined.setdefault(row, []).append(summary)
                    if whole:
                        done[row] = summary
            waiting = {row: " ".join(parts) for row, parts in joined.items() if row not in done}
        values = pa.array([done.get(row) for row in range(len(column))], pa.string())
        cut_at[list(failed)] = 0
        return Annotation(values, failures_of(failed), tokens, slots, cut_at=cut_at)

    def windows(self, text: str) -> list[str]:
        """A text as pieces that fit into the window."""
        return windows(text, self.count, self.room)

    def count(self, texts: Any) -> list[int]:
        """Tokens of each text, without special ones."""
        encoded = self.model.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def ids(self, texts: list[str]) -> list[list[int]]:
        """The model's input ids for each text, truncated to the window."""
        return self.ids_cut(texts)[0]

    def ids_cut(self, texts: list[str]) -> tuple[list[list[int]], list[bool]]:
        """The same, and whether each text was cut."""
        tokenizer: Any = self.model.tokenizer
        if self.encoder_decoder:
            encoded, cut = call_cut(tokenizer, [self.prefix + text for text in texts], max_length=self.window)
            return encoded["input_ids"], cut
        ids, cut = [], []
        for text in texts:
            whole = tokenizer(text, add_special_tokens=False)["input_ids"]
            cut.append(len(whole) > self.room)
            if cut[-1]:
                text = tokenizer.decode(whole[: self.room])
            messages = [{"role": "user", "content": f"{self.prefix}\n\n{text}"}]
            prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids.append(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        return ids, cut
