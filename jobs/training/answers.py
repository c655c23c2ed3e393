"""Answers in rows: preferred and rejected ones, desirable ones, and ones to write. A mistake is one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from jobs.training.identity import is_text
from jobs.training.sections import PAIRED
from transforms.errors import SpecError

ANSWERS = ("completion", "chosen", "rejected")
TURN = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def check_types(objective: str, types: Mapping[str, pa.DataType], columns: Mapping[str, str], place: str) -> None:
    """Refuse columns whose types cannot hold prompts, answers or whether an answer is desirable.

    Args:
        objective: of the training file.
        types: canonical column -> its Arrow type.
        columns: canonical column -> column of the source.
        place: the section of the training file, for messages.

    Raises:
        SpecError: names the column, its type and the valid ones.
    """
    for role, type_ in types.items():
        where = f"column {columns[role]!r} of {place} is {type_}, and"
        if objective == "kto" and role == "label" and not pa.types.is_boolean(type_):
            raise SpecError(f"{where} kto needs bool there: whether people find the answer desirable")
        if role in (*ANSWERS, "prompt") and not is_text(type_) and not _is_turns(type_):
            raise SpecError(f"{where} {role} needs string, or list<struct<role, content>> for a conversation")


def with_prompts(table: pa.Table) -> pa.Table:
    """Pairs with the columns prompt, chosen and rejected, where the prompt may have been a part of both answers.

    A conversation in `chosen` that begins with the turns of the prompt keeps only its answer. Without a prompt, or with
    a prompt that is a text beside conversations, the prompt is what chosen and rejected begin with: their common turns,
    or the common words of two texts (as TRL's `extract_prompt`).

    Args:
        table: rows with `chosen` and `rejected`, and perhaps `prompt`.
    """
    sides = (table["chosen"].to_pylist(), table["rejected"].to_pylist())
    prompts = table["prompt"].to_pylist() if "prompt" in table.schema.names else [None] * len(table)
    talks = not is_text(table.schema.field("chosen").type)
    if not talks and "prompt" in table.schema.names:
        return table
    split = [_split(*row) for row in zip(prompts, *sides, strict=True)]
    type_ = TURN if talks else pa.string()
    for name, values in zip(("prompt", "chosen", "rejected"), zip(*split, strict=True), strict=True):
        column = pa.array(values, type_)
        place = table.schema.get_field_index(name)
        table = table.append_column(name, column) if place < 0 else table.set_column(place, name, column)
    return table


def check(objective: str, table: pa.Table, columns: Mapping[str, str], place: str) -> None:
    """Refuse rows without an answer, with two equal ones, or with a turn too many.

    Args:
        objective: of the training file.
        table: rows with canonical columns; in pairs the prompt is split off.
        columns: canonical column -> column of the source, for messages.
        place: the section of the training file, for messages.

    Raises:
        SpecError: names the first row, its column, how many rows there are, and what to do.
    """
    found = {name: table[name].to_pylist() for name in (*ANSWERS, "messages") if name in columns}
    for name, values in found.items():
        column = columns[name]
        _refuse(
            values,
            _is_open if name == "messages" else _is_no_answer,
            f"of {place} has a conversation in {column!r} that does not end with one answer of the role assistant",
            "correct the row",
        )
        _refuse(
            values,
            lambda value: not content(value).strip(),
            f"of {place} has an empty answer in {column!r}",
            f"leave such rows out, for example with {place}.where: {column} != ''",
        )
    if objective in PAIRED:
        _refuse(
            list(zip(found["chosen"], found["rejected"], strict=True)),
            lambda pair: content(pair[0]).strip() == content(pair[1]).strip(),
            f"of {place} has the same answer in {columns['chosen']!r} and {columns['rejected']!r}, so that neither is "
            "preferred",
            "leave such rows out",
        )


def check_both(labels: Sequence[bool], column: str, place: str) -> None:
    """Refuse rows of kto that are all desirable, or all undesirable.

    Raises:
        SpecError: says which kind is missing.
    """
    if len(set(labels)) < 2:
        only = bool(labels and labels[0])
        raise SpecError(
            f"all {len(labels)} rows of {place} are {str(only).lower()} in column {column!r}; kto needs desirable and "
            f"undesirable answers, so add {'undesirable' if only else 'desirable'} ones"
        )


def content(answer: Any) -> str:
    """The text of an answer, which is a text or turns."""
    return str(answer[-1]["content"] or "") if isinstance(answer, list) and answer else str(answer or "")


def _split(prompt: Any, chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """Prompt, chosen and rejected of one row."""
    if chosen is None or rejected is None:
        return prompt if prompt is not None else chosen, chosen, rejected
    if isinstance(prompt, list):
        count = len(prompt)
        return prompt, *(side[count:] if side[:count] == prompt else side for side in (chosen, rejected))
    same = next((i for i, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other), None)
    same = min(len(chosen), len(rejected)) if same is None else same
    if isinstance(chosen, str):
        # Words stay whole, and both answers keep at least one.
        same = max((i for i in range(same + 1) if _between(chosen, i) and _between(rejected, i)), default=0)
        return chosen[:same], chosen[same:], rejected[same:]
    if same == 0 and prompt:
        return [{"role": "user", "content": prompt}], chosen, rejected
    return chosen[:same], chosen[same:], rejected[same:]


def _between(text: str, place: int) -> bool:
    """Whether a text can be cut there: before a space that is followed by more."""
    return text[place : place + 1].isspace() and bool(text[place:].strip())


def _refuse(values: Sequence[Any], wrong: Callable[[Any], bool], what: str, fix: str) -> None:
    rows = [row for row, value in enumerate(values) if wrong(value)]
    if rows:
        raise SpecError(f"row {rows[0]} {what} ({len(rows)} of {len(values)} rows have); {fix}")


def _is_open(turns: Any) -> bool:
    """Whether a conversation does not end with an answer."""
    return isinstance(turns, list) and (not turns or turns[-1]["role"] != "assistant")


def _is_no_answer(turns: Any) -> bool:
    """Whether turns are not one answer alone."""
    return isinstance(turns, list) and (len(turns) != 1 or turns[0]["role"] != "assistant")


def _is_turns(type_: pa.DataType) -> bool:
    if not (pa.types.is_list(type_) or pa.types.is_large_list(type_)) or not pa.types.is_struct(type_.value_type):
        return False
    return {"role", "content"} <= {field.name for field in type_.value_type}
