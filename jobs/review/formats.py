"""The rows of a draw as files that label tools import, with the model's prediction of each row.

    RUN.labelstudio.json   Label Studio: Import takes JSON with predictions, and no JSON lines
    labelstudio.xml        its labelling interface: Settings, Labeling Interface, Code
    RUN.argilla.json       Argilla 2: rg.Dataset.records.from_json
    argilla-settings.json  its questions: rg.Settings.from_json
    RUN.jsonl              one row a line, for other tools; without a truth, so that it is not mistaken for labels

In every file the text is `text`, and the question has the name that training files expect for the truth: `label`,
`entities`, `target` or `completion`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa

from jobs.review import columns, prediction, question
from jobs.review.offsets import to_units
from jobs.review.question import Question
from jobs.store import Store

# More labels than this are chosen from a list that opens.
BUTTONS = 12

COLOURS = ("#1f77b4", "#d9680f", "#2b8a3e", "#c92a2a", "#7048a8", "#8a5a44", "#c2438f", "#5c6770", "#7a7a12", "#0f8a99")

ASKED = {
    "classify": "Which label fits the text?",
    "ner": "Mark every entity in the text.",
    "summarize": "Write the summary of the text, or correct it.",
    "translate": "Write the translation of the text, or correct it.",
    "generate": "Write the answer to the text, or correct it.",
}
ASKED_SEVERAL = "Which labels fit the text? It may be none."

# Argilla takes no empty list of labels.
NO_LABEL = "(none)"


def write(store: Store, job: str, run: str, rows: pa.Table) -> None:
    """Write a draw for every label tool, beside its Parquet file.

    Args:
        store: the review folder.
        job: name of the job.
        run: id of the run.
        rows: the draw; with a question in its metadata, or one is derived from its predictions.

    Raises:
        SinkError: the review folder cannot be written.
    """
    if not len(rows):
        return
    asked, folder = question.read(rows), f"{columns.DRAWS}/{job}"
    store.put(f"{folder}/labelstudio.xml", label_studio_config(asked.task, asked.labels, asked.several).encode())
    store.put(f"{folder}/argilla-settings.json", argilla_settings(asked.task, asked.labels, asked.several))
    store.put(f"{folder}/{run}.labelstudio.json", label_studio(rows))
    store.put(f"{folder}/{run}.argilla.json", argilla(rows))
    store.put(f"{folder}/{run}.jsonl", lines(rows))


def label_studio(rows: pa.Table) -> bytes:
    """A JSON list of tasks with `data` and `predictions`.

    Source: https://labelstud.io/guide/tasks and https://labelstud.io/guide/predictions. Offsets of entities count code
    points since https://github.com/HumanSignal/label-studio-frontend/pull/308; seen in version 1.23.

    Args:
        rows: a draw.
    """
    if not len(rows):
        return b"[]"
    asked = question.read(rows)
    tasks = []
    for data, guess in zip(_data(rows, asked), prediction.shown(rows, asked), strict=True):
        results = [] if guess.value is None else list(_results(data["text"], guess.value, asked))
        made: dict[str, Any] = {"model_version": guess.model, "result": results}
        if guess.score is not None:
            made["score"] = guess.score
        tasks.append({"data": data, "predictions": [made]})
    return json.dumps(tasks, ensure_ascii=False, indent=1).encode()


def label_studio_config(task: str, labels: Iterable[str] = (), several: bool = False) -> str:
    """The labelling interface of Label Studio for a task.

    Args:
        task: classify, ner, summarize, translate or generate.
        labels: the labels to choose from.
        several: whether several of them may fit.
    """
    asked = Question(task, tuple(labels), several)
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value=_instruction(asked), size="5")
    # Without a value type a text that begins with http would be loaded from there.
    text = ElementTree.Element("Text", name="text", value="$text", valueType="text", granularity="symbol")
    same = {"name": asked.truth, "toName": "text"}
    if task == "ner":
        control = ElementTree.SubElement(view, "Labels", same)
        for i, label in enumerate(asked.labels):
            ElementTree.SubElement(control, "Label", value=label, background=COLOURS[i % len(COLOURS)])
        view.append(text)
    elif task == "classify":
        view.append(text)
        kind = {"choice": "multiple"} if several else {"choice": "single", "required": "true"}
        layout = {"layout": "select"} if len(asked.labels) > BUTTONS else {"showInline": "true"}
        control = ElementTree.SubElement(view, "Choices", same | kind | layout)
        for label in asked.labels:
            ElementTree.SubElement(control, "Choice", value=label)
    else:
        view.append(text)
        more = {"maxSubmissions": "1", "editable": "true", "rows": "6", "required": "true"}
        ElementTree.SubElement(view, "TextArea", same | more)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def argilla(rows: pa.Table) -> bytes:
    """A JSON list of records of Argilla 2; their ids are the keys of the rows.

    In entities the pages of Argilla count UTF-16 code units, its server code points
    (https://github.com/argilla-io/argilla/issues/5729). Offsets are as the pages show them; an entity that the server
    would refuse, at the end of a text with emojis, is left out.

    Args:
        rows: a draw.
    """
    if not len(rows):
        return b"[]"
    asked = question.read(rows)
    records = []
    for data, guess in zip(_data(rows, asked), prediction.shown(rows, asked), strict=True):
        text = data.pop("text")
        suggestion: dict[str, Any] = {"value": guess.value, "agent": guess.model}
        if asked.task == "ner":
            spans = [entity for entity in guess.value or () if to_units(text, entity["end"]) <= len(text)]
            suggestion["value"] = [
                {"label": one["label"], "start": to_units(text, one["start"]), "end": to_units(text, one["end"])}
                for one in spans
            ]
            suggestion["score"] = [one["score"] for one in spans]
        elif asked.several:
            suggestion["value"] = guess.value or [NO_LABEL]
        elif guess.score is not None:
            suggestion["score"] = guess.score
        record = {
            "id": data[columns.KEY],
            "fields": {"text": text},
            "metadata": {name: value for name, value in data.items() if value is not None},
            "suggestions": {asked.truth: suggestion} if suggestion["value"] else {},
            "responses": {},
            "vectors": {},
        }
        records.append(record)
    # Argilla's library opens the file with the encoding of the machine.
    return json.dumps(records, indent=1).encode()


def argilla_settings(task: str, labels: Iterable[str] = (), several: bool = False) -> bytes:
    """The settings of an Argilla data set for a task; arguments as of `label_studio_config`."""
    asked = Question(task, tuple(labels), several)
    labels = (*asked.labels, NO_LABEL) if several else asked.labels
    options = [{"value": label, "text": label, "description": None} for label in labels]
    settings: dict[str, Any]
    match task:
        case "ner":
            settings = {"type": "span", "field": "text", "options": options, "allow_overlapping": False}
        case "classify":
            settings = {"type": "multi_label_selection" if several else "label_selection", "options": options}
        case _:
            settings = {"type": "text", "use_markdown": False}
    if task in ("classify", "ner"):
        settings["visible_options"] = None if len(options) < 3 else min(len(options), 20)
    asking = {"name": asked.truth, "title": _instruction(asked), "description": None}
    field = {"name": "text", "title": "text", "required": True, "settings": {"type": "text", "use_markdown": False}}
    found = {
        "guidelines": None,
        "questions": [asking | {"required": True, "settings": settings}],
        "fields": [field],
        "vectors": [],
        "metadata": [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }
    return json.dumps(found, indent=1).encode()


def lines(rows: pa.Table) -> bytes:
    """JSON lines with the text, the prediction in words and the plain columns of each row."""
    if not len(rows):
        return b""
    asked = question.read(rows)
    return "".join(json.dumps(data, ensure_ascii=False) + "\n" for data in _data(rows, asked)).encode()


def _instruction(asked: Question) -> str:
    return ASKED_SEVERAL if asked.several else ASKED[asked.task]


def _data(rows: pa.Table, asked: Question) -> Iterator[dict[str, Any]]:
    """The text, the columns of the draw, and the other columns that are plain; a column named as the truth is none."""
    kept = [field.name for field in rows.schema if _is_plain(field.type) and field.name not in ("text", asked.truth)]
    for row in rows.select(kept).to_pylist():
        text = row.pop("review_text")
        yield {"text": text} | {name: _as_json(value) for name, value in row.items()}


def _results(text: str, value: Any, asked: Question) -> Iterator[dict[str, Any]]:
    same = {"from_name": asked.truth, "to_name": "text"}
    if asked.task == "classify":
        chosen = value if asked.several else [value]
        yield same | {"id": "0", "type": "choices", "value": {"choices": chosen}}
    elif asked.task == "ner":
        for i, entity in enumerate(value):
            yield same | {"id": str(i), "type": "labels", "score": entity["score"], "value": _region(text, entity)}
    else:
        yield same | {"id": "0", "type": "textarea", "value": {"text": [value]}}


def _region(text: str, entity: Mapping[str, Any]) -> dict[str, Any]:
    start, end = entity["start"], entity["end"]
    return {"start": start, "end": end, "text": text[start:end], "labels": [entity["label"]]}


def _is_plain(type_: pa.DataType) -> bool:
    kind = type_.value_type if pa.types.is_dictionary(type_) else type_
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return not (pa.types.is_nested(kind) or binary or pa.types.is_null(kind) or pa.types.is_duration(kind))


def _as_json(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
