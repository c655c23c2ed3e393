"""Selects the languages of a translation model: tokens before the source, the decoder's first token, or plain words.

Source: the model cards and tokenizers of Marian (`>>deu<<` before the text), M2M100, NLLB and mBART (a language token
in the source, another as the decoder's first), T5 ("translate English to German: ").
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

from transforms.errors import ModelError
from transforms.model import Model

MARIAN = re.compile(r">>(.+)<<")
NLLB = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


@dataclass(frozen=True)
class Languages:
    """The languages of a model.

    Attributes:
        kind: `tokens` (M2M100, NLLB, mBART), `marked` (a Marian model of several targets), `prefixed` (T5) or `fixed`.
        codes: the languages it takes, code -> token id; of `prefixed` models the pairs `en to de` -> prefix.
        start: the one target it can write, if its decoder starts with a language token.
    """

    kind: str
    codes: dict[str, Any]
    start: str | None = None

    @property
    def needs_target(self) -> bool:
        """Whether a job has to say the target language."""
        return self.kind != "fixed" and self.start is None

    @property
    def needs_source(self) -> bool:
        """Whether a job has to say the source language."""
        return self.kind in ("tokens", "prefixed")

    def check(self, code: str | None, key: str) -> None:
        """Refuse a language that the model does not have.

        Raises:
            ModelError: names the key, the code, the nearest and all the others.
        """
        if self.kind == "prefixed" or (code is not None and code in self.codes):
            return
        if code is None:
            raise ModelError(f"{key} is missing; this model takes {_listed(self.codes)}")
        if self.kind == "fixed":
            raise ModelError(f"{key} is {code!r}, and this model translates between two fixed languages; remove it")
        near = difflib.get_close_matches(code, self.codes, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ModelError(f"{key} {code!r} is not a language of this model; {hint}it has {_listed(self.codes)}")

    def prefix(self, source: str | None, target: str | None) -> str:
        """The text to put before the source text."""
        if self.kind == "marked":
            return f">>{target}<< "
        if self.kind == "prefixed" and source and target:
            return self.codes.get(f"{source} to {target}", f"translate {source} to {target}: ")
        return ""

    def forced(self, target: str | None) -> tuple[int, ...]:
        """The decoder's first new tokens."""
        return (self.codes[target],) if self.kind == "tokens" and target is not None and self.start is None else ()


def read(model: Model) -> Languages:
    """The languages of a loaded model, from its tokenizer and configuration."""
    tokenizer: Any = model.tokenizer
    codes = dict(getattr(tokenizer, "lang_code_to_id", None) or {})
    if not codes and hasattr(tokenizer, "src_lang"):
        vocabulary = tokenizer.get_vocab()
        codes = {token: i for token, i in vocabulary.items() if NLLB.fullmatch(token)}
    if codes:
        ids = {i: code for code, i in codes.items()}
        return Languages("tokens", codes, ids.get(model.network.generation_config.decoder_start_token_id))
    if model.config.model_type == "marian":
        marks = {found[1]: i for token, i in tokenizer.get_vocab().items() if (found := MARIAN.fullmatch(token))}
        return Languages("marked", marks) if marks else Languages("fixed", {})
    own = getattr(model.config, "task_specific_params", None) or {}
    pairs = {
        name.removeprefix("translation_").replace("_to_", " to "): how.get("prefix", "")
        for name, how in own.items()
        if name.startswith("translation_")
    }
    return Languages("prefixed", pairs) if model.config.model_type in ("t5", "mt5", "umt5") else Languages("fixed", {})


def _listed(codes: dict[str, Any]) -> str:
    names = sorted(codes)
    return ", ".join(names[:60]) + (f" and {len(names) - 60} more" if len(names) > 60 else "")
