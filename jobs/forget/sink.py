"""The sink of a job: rejected rows, drawn rows that are not published yet, and rows that reports show.

Enriched rows are read only: they follow the source. The counts of the ledger stay, because they say what a run did.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from jobs.forget import parquet
from jobs.forget.change import Change, written
from jobs.forget.parquet import Table
from jobs.forget.person import Person
from jobs.forget.texts import Texts
from jobs.forget.traces import Traces
from jobs.report import accuracy, history
from jobs.report.history import DamagedReport
from jobs.report.observer import Observer
from jobs.report.shown import CHARACTERS, cut
from jobs.report.web import web
from jobs.review.night import ROWS
from jobs.sink.folder import FolderSink
from jobs.sink.part import SOURCE
from jobs.source.files import partition
from jobs.spec import JobSpec
from jobs.store import Store, names

REPORTS = "rows that reports show"


def tables(spec: JobSpec, sink: FolderSink) -> list[Table]:
    """The Parquet files with rejected rows, staged ones too, and with drawn rows that are not published yet."""
    store, texts = sink.store, Texts(spec.tasks)
    rejected = [
        name
        for name in store.find((names.REJECTED_ENDING, names.STAGED_ENDING))
        if name.endswith(names.REJECTED_ENDING) or name.startswith(f"{names.STAGED_REJECTED}/")
    ]
    drawn = [name for name in store.names(names.REVIEW) if name.endswith(ROWS)]
    return [
        *(parquet.in_store(store, name, f"{store.url}: rejected rows", texts) for name in rejected),
        *(parquet.in_store(store, name, f"{store.url}: drawn rows", Texts()) for name in drawn),
    ]


def enriched(spec: JobSpec, sink: FolderSink) -> list[Table]:
    """The part files, published and staged."""
    texts = Texts(spec.tasks)
    tables = []
    if sink.table is not None:
        view = sink.table.view
        owners = {piece.part: entry for entry in view.entries.values() for piece in entry.pieces}
        # The ledger does not know the files into which another writer has moved rows.
        for name, file in view.active.items():
            folders = partition(owners[name].key) if name in owners else _texts(file.partition)
            tables.append(parquet.in_store(sink.store, name, "enriched rows", texts, folders))
    for ledger in (sink.published, sink.staged):
        for entry in ledger.read().values():
            if entry.in_table:
                continue
            folders = partition(entry.key)
            table = parquet.in_store(sink.store, ledger.file(entry.part, entry.writer), "enriched rows", texts, folders)
            # A part file of a dataset may be on the Hub only.
            tables.append(replace(table, open=partial(sink.open, entry)) if ledger is sink.published else table)
    return tables


def _texts(values: Mapping[str, Any]) -> dict[str, str | None]:
    return {name: None if value is None else str(value) for name, value in values.items()}


def changes(
    spec: JobSpec, sink: FolderSink, files: Iterable[Table], traces: Traces, all_rows: bool
) -> Iterator[Change]:
    """The reports and the ledger without rows of a person.

    Args:
        spec: the job.
        sink: its sink.
        files: those of `tables`.
        traces: what the person has left.
        all_rows: leave out every row that a report shows, not only those of the person.
    """
    shown = {cut(text, CHARACTERS) for text in traces.texts}
    # As JSON, because a ledger has the keys in another order than a report.
    failures = {json.dumps(each, sort_keys=True) for file in files for each in _failures(spec, file, traces)}

    def is_gone(row: Any) -> bool:
        return all_rows or row.get("text") in shown or json.dumps(row, sort_keys=True) in failures

    store = sink.store
    for ledger in (sink.published, sink.staged):
        # Also lines that newer ones replace: they go only when files are merged.
        for name in store.names(ledger.folder):
            content, count, has_changed = _lines_without(store.get(name), is_gone)
            if has_changed:
                yield written(store, name, content, f"{store.url}: {REPORTS}", count)
    for run in history.run_ids(store):
        name = f"{names.REPORTS}/{run}.json"
        try:
            report = json.loads(store.get(name))
        except ValueError as error:
            raise DamagedReport(
                f"{store.url}/{name} is damaged, so it cannot be searched; restore the file, or delete it"
            ) from error
        if count := _without(report, is_gone):
            yield Change(f"{store.url}: {REPORTS}", count, _report(store, run, report))


def unreadable(person: Person, files: Iterable[Table]) -> int:
    """Rejected rows of which only the text in the source is known, so that nobody can tell whose they are."""
    count = 0
    for file in files:
        schema = file.schema()
        # Added columns come last; they have a longer name if the source has a column of the same name.
        raw = [name for name in schema.names if name.endswith("_raw")][-1:]
        named = person.columns(schema, file.name) or []
        for batch in file.batches(list(dict.fromkeys([*named, *raw]))) if raw else ():
            match = person.match(batch, file.name)
            unknown = batch.column(raw[0]).is_valid().to_numpy(zero_copy_only=False)
            count += int((unknown if match is None else unknown & ~match.person & ~match.other).sum())
    return count


def _report(store: Store, run: str, report: dict[str, Any]) -> Callable[[], None]:
    """Writes a report and its page again; a page that is there is deleted first, so that no kill leaves the old one."""

    def make() -> None:
        page = f"{names.REPORTS}/{run}.html"
        had_page = store.exists(page)
        store.delete(page)
        store.put(f"{names.REPORTS}/{run}.json", json.dumps(report, indent=1).encode())
        if had_page:
            kept = history.read(store, run)
            measured = accuracy.earlier(kept.numbers)
            store.put(page, web(kept, history.before(store, run), measured=measured).encode())

    return make


def _lines_without(content: bytes, is_gone: Callable[[Any], bool]) -> tuple[bytes, int, bool]:
    """A file of a ledger without rows in its findings; the number of those, and whether the file has changed."""
    lines, count, has_changed = [], 0, False
    for line in content.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            # A torn line, which no reader uses, may have a row in it.
            lines.append(b"{}")
            has_changed = True
            continue
        gone = _without(found, is_gone) if isinstance(found, dict) else 0
        lines.append(json.dumps(found).encode() if gone else line)
        count += gone
    return b"".join(line + b"\n" for line in lines), count, has_changed or count > 0


def _without(report: dict[str, Any], is_gone: Callable[[Any], bool]) -> int:
    """Take rows out of the findings of a report or an entry; their number."""
    findings = report.get("findings") or {}
    lists = [findings, findings.get("least_certain", {})]
    count = 0
    for holder in lists:
        for name in list(holder):
            if holder is findings and name not in ("examples", "failures"):
                continue
            left = [row for row in holder[name] if not is_gone(row)]
            count += len(holder[name]) - len(left)
            holder[name] = left
    return count


def _failures(spec: JobSpec, file: Table, traces: Traces) -> Iterator[dict[str, Any]]:
    """The person's rejected rows as reports show them."""
    if not len(numbers := traces.of(file)) or file.name.endswith(ROWS):
        return
    key = (file.schema().metadata or {}).get(SOURCE.encode(), b"").decode()
    for batch in file.rows(numbers).to_batches():
        for row in range(len(batch)):
            observer = Observer(spec.tasks, key)
            observer.observe(batch.slice(0, 0), batch.slice(row, 1))
            yield from observer.failures
