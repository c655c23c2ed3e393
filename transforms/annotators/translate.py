"""Translation on a loaded model: see transforms/tasks/translate.py for its source and options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.batches import MAX_TOKENS, Caps
from transforms.contract import Annotation, failures_of
from transforms.errors import ModelError
from transforms.generation import languages
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.generation.windows import space_after, windows
from transforms.generation.writer import Steps, alone, new_tokens, texts_of
from transforms.model import Model
from transforms.tasks.translate import Options
from transforms.tokens import call_cut


@dataclass(frozen=True)
class Piece:
    """A text or a window of a text, with its languages and the space after it."""

    row: int
    text: str
    source: str | None
    target: str | None
    space: str = ""


class Translator:
    """Texts in, translations out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        self.options = options
        self.model = model
        self.max_tokens = max_tokens or MAX_TOKENS[model.device.type]
        self.caps = Caps()
        self.languages = languages.read(model)
        if self.languages.start not in (None, options.target_language) and (
            options.target_language is not None or options.target_language_column is not None
        ):
            raise ModelError(
                f"target_language is {options.target_language or options.target_language_column!r}, and this model "
                f"writes {self.languages.start} only; remove it"
            )
        if options.source_language_column is None:
            self.check_language("source", options.source_language)
        if options.target_language_column is None:
            self.check_language("target", options.target_language)
        self.max_new_tokens = options.max_new_tokens or new_tokens(model, {}, default=512)
        self.how = Decoding(num_beams=options.num_beams)

    def check_language(self, side: str, code: str | None) -> None:
        """Refuse a language that the model does not have.

        Raises:
            ModelError: with the languages that it has.
        """
        if self.options.prefix is not None:
            return
        needed = self.languages.needs_source if side == "source" else self.languages.needs_target
        # A multilingual Marian model takes a target only, a bilingual one nothing; a job may still name the source.
        taken = needed or (side == "target" and code is not None and self.languages.start is None)
        if self.languages.kind == "prefixed" and code is None:
            raise ModelError(f"{side}_language is missing; a T5 model needs both languages, or the whole `prefix`")
        if taken:
            self.languages.check(code, f"{side}_language")

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Translate the rows of a batch."""
        return alone(self.steps(batch), self.model, self.how, self.max_tokens, self.caps)

    def steps(self, batch: pa.RecordBatch) -> Steps:
        """The same in steps."""
        texts = batch.column(self.options.column).to_pylist()
        failed: dict[int, Exception] = {}
        pieces = self.pieces(texts, self.side(batch, "source"), self.side(batch, "target"), failed)
        every, cut = self.ids_cut(pieces)
        requests = [
            Request(ids, self.limit(len(ids)), self.languages.forced(piece.target))
            for piece, ids in zip(pieces, every, strict=True)
        ]
        result = yield requests
        failed |= {pieces[i].row: error for i, error in sorted(result.failures.items(), reverse=True)}
        joined: dict[int, str] = {}
        for piece, text in zip(pieces, texts_of(self.model, result.outputs), strict=True):
            joined[piece.row] = joined.get(piece.row, "") + (text or "") + piece.space
        values = [joined[row].rstrip() if row in joined and row not in failed else None for row in range(len(texts))]
        cut_at = np.zeros(len(texts), np.int32)
        lost = {piece.row for piece, was_cut in zip(pieces, cut, strict=True) if was_cut}
        cut_at[sorted(lost - failed.keys())] = self.model.max_length
        column = pa.array(values, pa.string())
        return Annotation(column, failures_of(failed), result.tokens, result.padded_tokens, cut_at=cut_at)

    def side(self, batch: pa.RecordBatch, side: str) -> list[str | None]:
        """The source or target language of each row."""
        if (column := getattr(self.options, f"{side}_language_column")) is not None:
            return batch.column(column).to_pylist()
        return [getattr(self.options, f"{side}_language")] * len(batch)

    def pieces(
        self,
        texts: Sequence[str | None],
        sources: Sequence[str | None],
        targets: Sequence[str | None],
        failed: dict[int, Exception],
    ) -> list[Piece]:
        """Every text as pieces that fit into the window; a row with a language that the model does not have fails."""
        found = []
        for row, (text, source, target) in enumerate(zip(texts, sources, targets, strict=True)):
            if not text:
                continue
            try:
                self.check_language("source", source)
                self.check_language("target", target)
            except ModelError as error:
                failed[row] = error
                continue
            whole = Piece(row, text, source, target)
            if self.options.long_text == "truncate":
                found.append(whole)
                continue
            parts = windows(text, self.count, self.room(whole))
            spaces = [space_after(part) for part in parts[:-1]] + [""]
            stripped = parts if len(parts) == 1 else [part.strip() for part in parts]
            found += [
                Piece(row, part, source, target, space) for part, space in zip(stripped, spaces, strict=True) if part
            ]
        return found

    def room(self, piece: Piece) -> int:
        """Number of text tokens that fit into the window beside the tokens of the languages and special tokens."""
        return max(1, self.model.max_length - len(self.ids([Piece(0, "", piece.source, piece.target)])[0]))

    def limit(self, source: int) -> int:
        """The maximum number of new tokens for a source of this many tokens."""
        if self.options.length_ratio is None:
            return self.max_new_tokens
        return min(self.max_new_tokens, int(self.options.length_ratio * source) + 16)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones."""
        encoded = self.model.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def ids(self, pieces: Sequence[Piece]) -> list[list[int]]:
        """The model's input ids for each piece, truncated to the window."""
        return self.ids_cut(pieces)[0]

    def ids_cut(self, pieces: Sequence[Piece]) -> tuple[list[list[int]], list[bool]]:
        """The same, and whether each piece was cut."""
        tokenizer: Any = self.model.tokenizer
        ids: list[list[int]] = [[]] * len(pieces)
        cut = [False] * len(pieces)
        by_source: dict[str | None, list[int]] = {}
        for i, piece in enumerate(pieces):
            by_source.setdefault(piece.source, []).append(i)
        for source, members in by_source.items():
            if self.languages.kind == "tokens" and source is not None:
                tokenizer.src_lang = source
            texts = [self.prefix(pieces[i]) + pieces[i].text for i in members]
            encoded, found = call_cut(tokenizer, texts, max_length=self.model.max_length)
            for i, row, was_cut in zip(members, encoded["input_ids"], found, strict=True):
                ids[i], cut[i] = row, was_cut
        return ids, cut

    def prefix(self, piece: Piece) -> str:
        """The text to put before the source text."""
        if self.options.prefix is not None:
            return self.options.prefix
        return self.languages.prefix(piece.source, piece.target)
