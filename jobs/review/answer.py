"""An answer of any label tool -> the truth of a row, in the form that training files read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jobs.review.exports import Answer
from jobs.review.formats import NO_LABEL
from jobs.review.offsets import to_points
from jobs.review.question import Question
from jobs.training import truth
from transforms.errors import SpecError

# Label Studio writes a line break in the text of a region as a backslash and an n.
BREAKS = re.compile(r"\s|\\n")


def interpret(answer: Answer, question: Question, text: str, row: str) -> Any:
    """The truth that a person gave.

    Args:
        answer: not skipped.
        question: what was asked.
        text: the text of the row.
        row: the row, for messages.

    Returns:
        A label, a sorted list of labels, a sorted list of entities with label, start and end (code points), or a text;
        None if the person submitted nothing.

    Raises:
        SpecError: the answer is to another question, has several values where one fits, or entities that do not fit
            the text.
    """
    if answer.values and question.truth not in answer.values:
        raise SpecError(
            f"{row} answers {', '.join(map(repr, answer.values))}, and {question.task} needs {question.truth!r}; name "
            f"the question {question.truth!r} as in labelstudio.xml and argilla-settings.json, and export again"
        )
    value = answer.values.get(question.truth)
    if question.task == "ner":
        return _entities(_items(_from_json(value), "regions"), answer, text, row)
    if question.task == "classify":
        found = _labels(value, question)
        if wrong := [label for label in found if not isinstance(label, str | int)]:
            raise SpecError(f"{row} has the label {wrong[0]!r}, which is no name; correct the row")
        if question.several:
            return [label for label in truth.label_names(found) if label != NO_LABEL]
        if len(found) > 1:
            raise SpecError(
                f"{row} has {len(found)} labels ({', '.join(map(str, found))}), and one fits; keep one of them"
            )
        return truth.label_names(found[0]) if found else None
    written = "\n".join(str(each) for each in _items(value, "text"))
    return written if written.strip() else None


def _labels(value: Any, question: Question) -> list[Any]:
    found = _items(_from_json(value) if question.several else value, "choices")
    return [label.strip() if isinstance(label, str) else label for label in found]


def _from_json(value: Any) -> Any:
    """The lists and objects that a CSV has as JSON."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            # A label or a text that begins with a bracket.
            return value
    return value


def _items(value: Any, name: str) -> list[Any]:
    """The values of a question: one, a list, Label Studio's {name: [...]}, or a list of those."""
    if value is None:
        return []
    found = []
    for each in value if isinstance(value, list) else [value]:
        inner = each.get(name, each) if isinstance(each, dict) else each
        found += inner if isinstance(inner, list) else [inner]
    return found


def _entities(regions: list[Any], answer: Answer, text: str, row: str) -> list[dict[str, Any]]:
    found = []
    for region in regions:
        if not isinstance(region, dict) or not {"start", "end"} <= region.keys():
            raise SpecError(f"{row} has the entity {region!r}; give label, start and end")
        named = region.get("labels", region.get("label"))
        names = named if isinstance(named, list) else [] if named is None else [named]
        if len(names) != 1:
            raise SpecError(
                f"{row} has {len(names)} labels for its text from {region['start']} to {region['end']}, and an entity "
                "has one; correct the row"
            )
        start, end = _place(region, answer, text, row)
        found.append({"label": str(names[0]), "start": start, "end": end})
    truth.check_spans(text, found, row)
    return sorted(found, key=lambda entity: (entity["start"], entity["end"], entity["label"]))


def _place(region: Mapping[str, Any], answer: Answer, text: str, row: str) -> tuple[Any, Any]:
    """Start and end in code points."""
    start, end, stated = region["start"], region["end"], region.get("text")
    if start is None or end is None:
        return start, end
    start, end = int(start), int(end)
    points = to_points(text, start), to_points(text, end)
    if answer.units:
        if None in points:
            raise SpecError(
                f"{row} has an entity from {start} to {end} in UTF-16 code units, and its text has no such characters; "
                "correct the row"
            )
        return points
    if stated is None or _plain(stated) == _plain(text[start:end]):
        return start, end
    # Old versions of Label Studio counted code units (https://github.com/HumanSignal/label-studio/issues/1347).
    if None not in points and _plain(stated) == _plain(text[points[0] : points[1]]):
        return points
    raise SpecError(
        f"{row} has an entity at {start} to {end}, where its text reads {text[start:end]!r} and not {stated!r}; "
        "correct the row, and check that the text was not changed"
    )


def _plain(text: str) -> str:
    return BREAKS.sub("", text)
