"""Answers in a file that are probably mistakes: misspelt labels, and two answers about one row."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from jobs.report.shown import count
from jobs.review import columns
from jobs.review.answers import Answers, Given
from jobs.review.question import Question
from transforms.errors import SpecError

# How alike two labels are, from 0 to 1, of which the one is taken for the other one misspelt.
ALIKE = 0.8


def refuse_misspelt(
    new: Sequence[tuple[str, str, Given]], before: Answers, asked: Question, accepted: Collection[str], file: str
) -> None:
    """Refuse labels that nobody has given before and that are close to a label of the model.

    A label that is close to none may be a new class, which is no mistake.

    Args:
        new: (key of the row, who, answer) of the file.
        before: earlier answers.
        asked: with the labels of the model.
        accepted: labels that are meant as they are.
        file: the file.

    Raises:
        SpecError: names the label, the one that it is close to, and how to accept it.
    """
    if not asked.labels:
        return
    counts = Counter(label for _, _, given in new for label in _labels(given.value))
    said = {label for people in before.values() for given in people.values() for label in _labels(given.value)}
    folded = {label.casefold(): label for label in asked.labels}
    for label in sorted(counts.keys() - said - set(asked.labels) - set(accepted)):
        near = difflib.get_close_matches(label.strip().casefold(), folded, 1, ALIKE)
        if near or not label.strip():
            meant = f"did you mean {folded[near[0]]!r}?" if near else "labels of the model: " + ", ".join(asked.labels)
            raise SpecError(
                f"{file} has the label {label!r} in {count(counts[label], 'answer')}, which the model does not know; "
                f"{meant} Correct the export, or accept a new label with --new-label "
                f"{json.dumps(label, ensure_ascii=False)}"
            )


def refuse_contradictions(new: Iterable[tuple[str, str, Given]], file: str) -> None:
    """Refuse two answers of nobody in particular about one row: none of the two is the later one.

    Raises:
        SpecError: names the row and both answers.
    """
    seen: dict[str, Any] = {}
    for key, by, given in new:
        if not by and seen.setdefault(key, given.value) != given.value:
            raise SpecError(
                f"{file} has two answers about the row with {columns.KEY} {key}: {seen[key]!r} and {given.value!r}; "
                "keep one of them"
            )


def _labels(value: Any) -> Iterator[str]:
    """The labels in an answer to classify or ner; a text has none."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict):
            yield each["label"]
        elif isinstance(each, str):
            yield each
