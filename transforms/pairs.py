"""Pairs of texts as one sequence; a text that is in several pairs is tokenised once.

A tokenizer joins two token lists with special tokens in fixed places (TemplateProcessing, BertProcessing and
RobertaProcessing of the tokenizers library all do); the places are learnt from the tokenizer itself and checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from transformers import PreTrainedTokenizerBase

# Pairs on which a template must give the same ids as the tokenizer.
PROBES = [
    ("a", "b"),
    ("Zoë, 3 cats; U.S.A.", "東京 😀 e\u0301"),
    (" two  spaces ", "This example is\tשלום."),
    ("x" * 50, "y"),
]


@dataclass(frozen=True)
class Template:
    """Where a tokenizer puts special tokens around and between two texts: `before first between second after`.

    Attributes:
        before: ids and type ids of the special tokens before the first text.
        between: ids and type ids of those between the texts.
        after: ids and type ids of those after the second text.
        first_type: type id of the tokens of the first text.
        second_type: type id of the tokens of the second text.
    """

    before: tuple[list[int], list[int]]
    between: tuple[list[int], list[int]]
    after: tuple[list[int], list[int]]
    first_type: int
    second_type: int

    @property
    def special(self) -> int:
        """How many special tokens a pair has."""
        return len(self.before[0]) + len(self.between[0]) + len(self.after[0])

    def ids(self, first: list[int], second: list[int]) -> list[int]:
        """Token ids of a pair."""
        return [*self.before[0], *first, *self.between[0], *second, *self.after[0]]

    def type_ids(self, first: int, second: int) -> list[int]:
        """Type ids of a pair of texts with these token counts."""
        return [
            *self.before[1],
            *[self.first_type] * first,
            *self.between[1],
            *[self.second_type] * second,
            *self.after[1],
        ]

    def find(self, id_: int | None, first: int, second: int) -> int | None:
        """Position of a special token in a pair of texts with these token counts; None if the template lacks it."""
        at = 0
        for (ids, _), text in ((self.before, first), (self.between, second), (self.after, 0)):
            if id_ in ids:
                return at + ids.index(id_)
            at += len(ids) + text
        return None


def learn(tokenizer: PreTrainedTokenizerBase) -> Template | None:
    """The template of a tokenizer; None if it has none or no tokenizer.json, or if a probe gets other ids from it."""
    if not tokenizer.is_fast:
        return None
    encoded = tokenizer(*PROBES[0], return_token_type_ids=True)
    columns = zip(encoded.sequence_ids(0), encoded["input_ids"], encoded["token_type_ids"], strict=True)
    runs = [(sequence, list(run)) for sequence, run in groupby(columns, key=lambda column: column[0])]
    if [sequence for sequence, _ in runs if sequence is not None] != [0, 1]:
        return None
    special: list[tuple[list[int], list[int]]] = [([], []), ([], []), ([], [])]
    types: list[int] = []
    for sequence, run in runs:
        if sequence is None:
            special[len(types)] = ([id_ for _, id_, _ in run], [type_ for _, _, type_ in run])
        else:
            types.append(run[0][2])
    template = Template(special[0], special[1], special[2], types[0], types[1])
    return template if all(_agrees(template, tokenizer, *probe) for probe in PROBES) else None


def bare(tokenizer: PreTrainedTokenizerBase, texts: list[str], **more: Any) -> Any:
    """Texts tokenised without special tokens, to be joined by a template."""
    return tokenizer(
        texts,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
        **more,
    )


def _agrees(template: Template, tokenizer: PreTrainedTokenizerBase, first: str, second: str) -> bool:
    whole = tokenizer(first, second, return_token_type_ids=True)
    a, b = bare(tokenizer, [first, second])["input_ids"]
    return (whole["input_ids"], whole["token_type_ids"]) == (template.ids(a, b), template.type_ids(len(a), len(b)))
