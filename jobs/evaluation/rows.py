"""The columns of labelled rows by task: what the model reads, and the truth that predictions are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from transforms.errors import SpecError

# The column that holds the truth, by task.
TRUTH = {
    "classify": "label",
    "ner": "entities",
    "summarize": "target",
    "translate": "target",
    "generate": "completion",
}


@dataclass(frozen=True)
class Readable:
    """Rows as a job of the task could have them.

    Attributes:
        table: the rows; conversations are split into `prompt` and `completion`.
        options: options of the task that the rows call for, such as the column that it reads.
    """

    table: pa.Table
    options: Mapping[str, Any]


def readable(task: str, table: pa.Table, options: Mapping[str, Any]) -> Readable:
    """The rows as the nightly task reads them.

    A conversation is split at its first answer, because the nightly task writes one answer to one prompt. One system
    message for all rows becomes the option `system`; different ones are put before their prompts.

    Args:
        task: classify, ner, summarize, translate or generate.
        table: rows with the canonical columns of the task; the truth may be missing.
        options: options of the task that the caller gives; they win.

    Raises:
        SpecError: the task cannot be evaluated, a column is missing, or a conversation has no question.
    """
    truth_column(task)
    if task != "generate":
        found = {} if "column" in options else {"column": "text"}
        return Readable(_with(table, found.get("column")), found)
    table, system = _split_conversations(table)
    found = {} if {"column", "prompt"} & set(options) else {"column": "prompt"}
    if system and "system" not in options:
        found["system"] = system
    return Readable(_with(table, found.get("column")), found)


def truth(task: str, table: pa.Table) -> pa.Array:
    """The truth of each row: strings, lists of strings (several labels), or lists of entities.

    Raises:
        SpecError: the column is missing, or a row has none.
    """
    if task == "generate":
        table, _ = _split_conversations(table)
    name = truth_column(task)
    column = _with(table, name).column(name).combine_chunks()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise SpecError(
            f"row {row} of the holdout has no {name} ({column.null_count} of {len(column)} rows have none); "
            "leave such rows out with data.holdout.where"
        )
    # Labels are names: a number and its text are the same label.
    return column.cast(pa.string()) if task == "classify" and not pa.types.is_nested(column.type) else column


def truth_column(task: str) -> str:
    """The column that holds the truth.

    Raises:
        SpecError: rows of this task cannot be evaluated.
    """
    if task not in TRUTH:
        raise SpecError(f"task is {task!r}, which cannot be evaluated; choices: {', '.join(TRUTH)}")
    return TRUTH[task]


def _with(table: pa.Table, column: str | None) -> pa.Table:
    if column is not None and column not in table.schema.names:
        raise SpecError(f"column {column!r} is not in the rows; columns: {', '.join(table.schema.names)}")
    return table


def _split_conversations(table: pa.Table) -> tuple[pa.Table, str | None]:
    """Conversations as text columns `prompt` and `completion`, and the system message that all rows share."""
    names = table.schema.names
    if "messages" in names:
        conversations = table.column("messages").to_pylist()
    elif "prompt" in names and not _is_text(table.schema.field("prompt").type):
        answers = table.column("completion").to_pylist() if "completion" in names else [[]] * len(table)
        prompts = table.column("prompt").to_pylist()
        conversations = [[*(one or []), *(other or [])] for one, other in zip(prompts, answers, strict=True)]
    else:
        return table, None
    split = [_first_exchange(messages or [], row) for row, messages in enumerate(conversations)]
    systems = {system for system, _, _ in split}
    shared = systems.pop() if len(systems) == 1 else None
    asked = [f"{system}\n\n{question}" if system and shared is None else question for system, question, _ in split]
    kept = table.drop_columns([name for name in ("messages", "prompt", "completion") if name in names])
    kept = kept.append_column("prompt", pa.array(asked, pa.string()))
    return kept.append_column("completion", pa.array([answer for *_, answer in split], pa.string())), shared or None


def _first_exchange(messages: list[dict[str, Any]], row: int) -> tuple[str, str, str | None]:
    """The system message (or an empty text), the first question, and the answer to it."""
    system = "".join(message["content"] for message in messages if message["role"] == "system")
    turns = [message for message in messages if message["role"] != "system"]
    if not turns or turns[0]["role"] != "user":
        raise SpecError(f"row {row}: messages do not begin with a message of the role user; correct the row")
    answered = len(turns) > 1 and turns[1]["role"] == "assistant"
    return system, turns[0]["content"], turns[1]["content"] if answered else None


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
