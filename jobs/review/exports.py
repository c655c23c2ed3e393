"""The files that label tools export, read as answers: who gave which value for which drawn row, and when.

    Label Studio   JSON; JSON-MIN, CSV and TSV, which leave out skipped tasks
    Argilla 2      rows of `records.to_datasets()` as Parquet or JSON lines; `records.to_json()`, which does not say
                   whether an answer was discarded
    any other      Parquet, JSON, JSON lines or CSV with a column `review_key` and a column named as the truth

What a file is follows from its content. Answers are interpreted later (`jobs.review.answer`), when the task is known.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from jobs.evaluation.rows import TRUTH
from jobs.review import columns
from jobs.source.urls import reason
from transforms.errors import SpecError

TRUTHS = tuple(dict.fromkeys(TRUTH.values()))

FORMATS = (
    "the JSON, JSON-MIN or CSV export of Label Studio, the records of Argilla, or Parquet, JSON lines or CSV with the "
    f"columns {columns.KEY} and {' or '.join(TRUTHS)}"
)


@dataclass(frozen=True)
class Answer:
    """What one person said about one row.

    Attributes:
        key: the row's `review_key`; empty if the file has none.
        job: its `review_job`, if the file says it.
        run: its `review_run`, if the file says it.
        by: who, as the tool names people; empty if the file does not say.
        at: when it was last changed, ISO 8601; None if the file does not say.
        skipped: whether the person could not decide.
        values: name of the question -> value as in the file; empty if it was submitted without a value.
        units: whether offsets of entities count UTF-16 code units.
    """

    key: str
    job: str | None
    run: str | None
    by: str
    at: str | None
    skipped: bool
    values: Mapping[str, Any]
    units: bool = False


def read(path: str) -> list[Answer]:
    """The answers in a file.

    Args:
        path: file or fsspec URL.

    Raises:
        SpecError: it cannot be read, or is no export.
    """
    try:
        with fsspec.open(path, "rb") as stream:
            content = stream.read()
    except FileNotFoundError as error:
        raise SpecError(f"{path} does not exist; give {FORMATS}") from error
    except (OSError, ImportError, ValueError) as error:
        raise SpecError(f"{path} cannot be read: {reason(error)}") from error
    try:
        rows, is_csv = _rows(content)
    except (ValueError, pa.ArrowInvalid) as error:
        raise SpecError(f"{path} is damaged or of an unknown kind: {reason(error)}; give {FORMATS}") from error
    if not rows:
        raise SpecError(f"{path} has no rows; export rows that people have labelled")
    return list(_answers(rows, path, is_csv))


def _rows(content: bytes) -> tuple[Sequence[Any], bool]:
    """The rows of a file, and whether every value is a text because it is CSV."""
    if content[:4] == b"PAR1":
        return pq.read_table(io.BytesIO(content)).to_pylist(), False
    text = content.decode("utf-8-sig")
    start = text.lstrip()[:1]
    if not start:
        return [], False
    if start == "[":
        return json.loads(text), False
    if start == "{":
        return [json.loads(line) for line in text.split("\n") if line.strip()], False
    return _csv(text), True


def _csv(text: str) -> list[dict[str, str]]:
    line = text.split("\n", 1)[0].rstrip("\r")
    delimiter = max(",;\t", key=line.count)
    names = next(csv.reader([line], delimiter=delimiter), [])
    table = pyarrow.csv.read_csv(
        io.BytesIO(text.encode()),
        pyarrow.csv.ReadOptions(block_size=len(text.encode()) + 1),
        pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False),
    )
    found: list[dict[str, str]] = table.to_pylist()
    return found


def _answers(rows: Sequence[Any], path: str, is_csv: bool) -> Iterator[Answer]:
    first = rows[0]
    if not all(isinstance(row, dict) for row in rows):
        raise SpecError(f"{path} is no list of rows; give {FORMATS}")
    if "annotations" in first and "data" in first:
        for row in rows:
            yield from _label_studio(row)
        return
    if "responses" in first and "fields" in first:
        for row in rows:
            yield from _argilla(row)
        return
    questions = [name.removesuffix(".responses") for name in first if name.endswith(".responses")]
    if questions:
        if is_csv:
            raise SpecError(
                f"{path} is a CSV of Argilla's records, which does not hold lists in a readable form; export them with "
                "records.to_datasets().to_parquet(...)"
            )
        for row in rows:
            yield from _argilla_flat(row, questions)
        return
    if {"data", "predictions"} <= set(first) and "annotations" not in first:
        raise SpecError(f"{path} is a file for the import into Label Studio; label its rows there, and give the export")
    is_min = "annotation_id" in first and "annotator" in first
    seen = set().union(*rows)
    if columns.KEY not in seen or not (is_min or seen.intersection(TRUTHS)):
        wanted = columns.KEY if columns.KEY not in seen else " or ".join(TRUTHS)
        raise SpecError(f"{path} has no column {wanted}; columns: {', '.join(sorted(seen))[:300]}; give {FORMATS}")
    for row in rows:
        given = {name: row[name] for name in TRUTHS if row.get(name) not in (None, "")}
        if is_min:
            yield _answer(row, str(row["annotator"]), row.get("updated_at"), False, given)
        elif given:
            yield _answer(row, "", None, False, given)


def _label_studio(task: Mapping[str, Any]) -> Iterator[Answer]:
    for each in task["annotations"]:
        values: dict[str, list[Any]] = {}
        for result in each["result"]:
            if "from_name" in result:
                values.setdefault(result["from_name"], []).append(result["value"])
        person = each.get("completed_by")
        by = str(person.get("id", "")) if isinstance(person, dict) else "" if person is None else str(person)
        at = each.get("updated_at") or each.get("created_at")
        yield _answer(task["data"], by, at, bool(each.get("was_cancelled")), values)


def _argilla(record: Mapping[str, Any]) -> Iterator[Answer]:
    # Without a status of the answers, only those of completed records are known to be submitted.
    if record.get("status") != "completed":
        return
    about = {columns.KEY: record.get("id")} | (record.get("metadata") or {})
    for name, responses in (record.get("responses") or {}).items():
        for each in responses:
            yield _answer(about, str(each["user_id"]), None, False, {name: each["value"]}, units=True)


def _argilla_flat(row: Mapping[str, Any], questions: Sequence[str]) -> Iterator[Answer]:
    about = {columns.KEY: row.get("id")} | {name: value for name, value in row.items() if value is not None}
    for name in questions:
        given, people, states = (row.get(f"{name}.responses{end}") or [] for end in ("", ".users", ".status"))
        for value, person, status in zip(given, people, states, strict=True):
            if status in ("submitted", "discarded"):
                yield _answer(about, str(person), None, status == "discarded", {name: value}, units=True)


def _answer(
    row: Mapping[str, Any], by: str, at: str | None, skipped: bool, values: Mapping[str, Any], units: bool = False
) -> Answer:
    key = row.get(columns.KEY)
    said = [row.get(name) or None for name in ("review_job", "review_run")]
    job, run = (None if value is None else str(value) for value in said)
    return Answer(str(key or ""), job, run, by, at or None, skipped, {} if skipped else values, units)
