"""The review folder of a job: drawn rows, labelled rows, and the files for label tools beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from jobs.forget import parquet
from jobs.forget.change import Change, lines_without, without_keys, written
from jobs.forget.parquet import Table
from jobs.forget.texts import Texts
from jobs.forget.traces import Traces
from jobs.review import columns
from jobs.store import Store, names
from transforms.errors import RunError

PLACES = {columns.DRAWS: "drawn rows", columns.LABELS: "labelled rows"}
FOLDERS = tuple(f"{folder}/" for folder in (*PLACES, names.FOLDER))


def tables(store: Store) -> list[Table]:
    """The Parquet files with rows; those with scores are numbers by position, and stay."""
    return [
        parquet.in_store(store, name, f"{store.url}: {PLACES[name.split('/')[0]]}", Texts())
        for name in store.find(".parquet")
        if name.split("/")[0] in PLACES
    ]


def changes(store: Store, traces: Traces) -> Iterator[Change]:
    """The files for label tools, and the answers of people, without the rows of a person.

    Raises:
        RunError: a file is damaged.
    """
    erased = {table.name.removeprefix(f"{store.url}/"): traces.own.get(table.identity) for table in tables(store)}
    for name in (each for each in store.find((".json", ".jsonl")) if each.startswith(FOLDERS)):
        run = name.rsplit("/", 1)[-1].split(".")[0]
        job = name.split("/")[-2] if "/" in name else ""
        keys = traces.keys | (erased.get(columns.draw_file(job, run)) or frozenset())
        before = store.get(name)
        try:
            if name.endswith(".jsonl"):
                after, count = lines_without(before, keys)
            else:
                content, count = without_keys(json.loads(before), keys)
                after = json.dumps(content, ensure_ascii=False, indent=1).encode()
        except ValueError as error:
            raise RunError(
                f"{store.url}/{name} is damaged ({error}), so it cannot be searched; restore it, or delete it"
            ) from error
        if count:
            yield written(store, name, after, f"{store.url}: exports and answers", count)
