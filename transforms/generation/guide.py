"""Constraints on a text while it is generated: stop strings end it, a JSON schema limits which tokens may follow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from transforms.errors import SpecError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Guide(Protocol):
    """The state of the constraint on one text; each text has its own guide."""

    def allowed(self) -> np.ndarray | None:
        """Which tokens may come next, bool `(vocabulary,)`; None allows all."""
        ...

    def accept(self, token: int) -> bool:
        """Add a new token, which may be an end token; returns whether the text ends."""
        ...


class StopStrings:
    """Ends a text once it contains one of the strings, even if a string is split over several tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str]):
        self.tokenizer, self.strings = tokenizer, strings
        # A token gives a byte at least, so these hold the longest string, and one that a decoder strips at the left.
        self.tail = max(len(string.encode()) for string in strings) + 1
        self.ids: list[int] = []

    def allowed(self) -> None:
        """All tokens are allowed."""

    def accept(self, token: int) -> bool:
        """Whether one of the strings is complete."""
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids[-self.tail :], skip_special_tokens=True)
        return any(string in text for string in self.strings)


def cut(text: str, strings: Sequence[str]) -> str:
    """The text before the first of some stop strings."""
    return text[: min((at for string in strings if (at := text.find(string)) >= 0), default=len(text))]


class JsonText:
    """Allows only tokens that keep the text valid under a schema, and an end token only after a complete text."""

    def __init__(self, matcher: Any):
        self.matcher = matcher

    def allowed(self) -> np.ndarray:
        """The tokens that the schema allows next."""
        return np.frombuffer(self.matcher.compute_logit_bias(), dtype=np.uint8) > 0

    def accept(self, token: int) -> bool:
        """Whether nothing can follow any more.

        Raises:
            ValueError: the schema is too complex at this place.
        """
        if not self.matcher.consume_token(token):
            raise ValueError(f"json_schema: {self.matcher.get_error()}")
        return self.matcher.is_stopped()


def json_texts(tokenizer: PreTrainedTokenizerBase, schema: str, vocabulary: int, ends: Sequence[int]) -> Any:
    """A function that makes the guide of one text, valid by a JSON schema.

    Source: llguidance (https://github.com/guidance-ai/llguidance), which walks the schema's grammar and the tokenizer's
    prefix tree together.

    Args:
        tokenizer: a fast tokenizer.
        schema: the JSON schema as text.
        vocabulary: number of logits, which may be larger than the number of tokens.
        ends: end tokens.

    Raises:
        SpecError: llguidance is missing, the schema is invalid, or the tokenizer is not a fast one.
    """
    guidance = _llguidance()
    grammar = _grammar(schema)
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise SpecError("json_schema needs a fast tokenizer (tokenizer.json), and this model has none")
    from llguidance.hf import from_tokenizer

    table = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=list(ends))
    template = guidance.LLMatcher(table, grammar)

    def start() -> Guide:
        return JsonText(template.deep_copy())

    return start


def check_schema(schema: str) -> None:
    """Refuse a JSON schema that llguidance cannot enforce.

    Raises:
        SpecError: llguidance is missing, or reports an error in the schema.
    """
    guidance = _llguidance()
    if message := guidance.LLMatcher.validate_grammar(_grammar(schema)):
        raise SpecError(f"json_schema: {message.splitlines()[0]}; see https://json-schema.org for valid schemas")


def _grammar(schema: str) -> str:
    # White space is bounded, because a model could otherwise write white space until max_new_tokens.
    return _llguidance().LLMatcher.grammar_from_json_schema(
        schema, overrides={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    )


@lru_cache(maxsize=1)
def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise SpecError("json_schema needs llguidance; pip install 'nightscribe[json]'") from error
    return llguidance
