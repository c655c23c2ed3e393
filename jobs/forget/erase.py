"""Erase the rows of a person: search everything, prepare every change, then make the changes.

What has only keys or texts comes first and the rows that name the person come last, so that a command that was killed
can be run again: as long as something is left, the rows that lead to it are left too.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from jobs.forget import labelled, registry, review, sink
from jobs.forget.change import Change
from jobs.forget.labelled import Other
from jobs.forget.outcome import Outcome
from jobs.forget.parquet import Table
from jobs.forget.person import Person
from jobs.forget.traces import Traces, find
from jobs.registry import Registry, used
from jobs.report.shown import count
from jobs.retraining import round as rounds
from jobs.sink import open_sink
from jobs.sink.folder import FolderSink
from jobs.spec import JobSpec
from jobs.store import Store, lease
from jobs.training.spec import TrainingSpec


@dataclass(frozen=True)
class _Places:
    """Everything that is searched, each once.

    Attributes:
        sinks: job and its sink.
        reviews: review folders.
        registries: registries that a training has written to, each with its training file.
        tables: Parquet files that rows are erased from.
        rejected: those of them that are in a sink, by its URL.
        others: labelled rows that are only searched.
        enriched: part files.
    """

    sinks: Sequence[tuple[JobSpec, FolderSink]]
    reviews: Sequence[Store]
    registries: Sequence[tuple[TrainingSpec, Registry]]
    tables: Sequence[Table]
    rejected: Mapping[str, Sequence[Table]]
    others: Sequence[Other]
    enriched: Sequence[Table]


def forget(
    condition: str,
    jobs: Sequence[JobSpec],
    trainings: Sequence[TrainingSpec],
    dry_run: bool = False,
    all_examples: bool = False,
) -> Outcome:
    """Erase the rows that meet a condition, and what has only their keys or texts.

    Args:
        condition: on one row, as `source.where`.
        jobs: jobs whose sinks and review folders are searched.
        trainings: training files whose labelled rows and registries are searched.
        dry_run: only search.
        all_examples: erase every row that a report shows, also of other people.

    Raises:
        UserError: the condition fits no table, or a file, a sink or a registry is wrong; nothing was erased.
        SinkBusy: a run or a training is under way; nothing was erased.
        RunError: a file cannot be read or written; run the command again.
    """
    with ExitStack() as stack:
        person = stack.enter_context(Person(condition))
        opened = [(job, open_sink(job.sink, used.open_sink(job.sink.path, "sink.path"))) for job in jobs]
        sinks = list({folder.store.root: (job, folder) for job, folder in opened}.values())
        known = [(training, Registry(training.registry)) for training in trainings]
        registries = list({each.url: (spec, each) for spec, each in known if registry.is_there(each)}.values())
        if not dry_run:
            for _, folder in sinks:
                held_sink = stack.enter_context(lease.hold(folder.store))
                folder.claim(held_sink.number)
                folder.recover()
                folder.store.clear_temporary()
            for training, held in registries:
                stack.enter_context(rounds.holding(training))
                held.store.clear_temporary()
        places = _search(sinks, jobs, trainings, registries)
        traces = find(person, [*places.tables, *places.others], places.enriched)
        prepared = list(_changes(places, traces, all_examples))
        left = list(_left(places, traces, person)) if prepared or traces.texts else []
        if not dry_run:
            for change in prepared:
                change.make()
    counts: Counter[str] = Counter()
    for change in prepared:
        counts[change.place] += change.rows
    not_written = {other.name: rows for other in places.others if (rows := len(traces.of(other)))}
    return Outcome(dict(counts), len(traces.keys), left, not_written, dry_run)


def _search(
    sinks: Sequence[tuple[JobSpec, FolderSink]],
    jobs: Sequence[JobSpec],
    trainings: Sequence[TrainingSpec],
    registries: Sequence[tuple[TrainingSpec, Registry]],
) -> _Places:
    folders = [Store(job.review.path, "review.path") for job in jobs if job.review is not None]
    folders += [Store(each.data.review, "data.review") for each in trainings if each.data.review is not None]
    reviews = {store.root: store for store in folders}
    enriched = [table for job, folder in sinks for table in sink.enriched(job, folder)]
    rejected = {folder.store.url: sink.tables(job, folder) for job, folder in sinks}
    tables = [table for store in reviews.values() for table in review.tables(store)]
    tables += itertools.chain.from_iterable(rejected.values())
    others: list[Other] = []
    for training in trainings:
        own, more = labelled.of(training)
        tables += own
        others += more
    # A label file can be in a review folder and in a training file; enriched rows are never written.
    seen = {table.identity for table in enriched}
    once = {table.identity: table for table in reversed(tables) if table.identity not in seen}
    return _Places(
        sinks,
        list(reviews.values()),
        registries,
        list(reversed(once.values())),
        rejected,
        list({other.identity: other for other in others}.values()),
        enriched,
    )


def _changes(places: _Places, traces: Traces, all_examples: bool) -> Iterator[Change]:
    for _, found in places.registries:
        yield from registry.changes(found, traces, all_examples)
    for store in places.reviews:
        yield from review.changes(store, traces)
    for job, folder in places.sinks:
        yield from sink.changes(job, folder, places.rejected[folder.store.url], traces, all_examples)
    for table in sorted(places.tables, key=lambda each: each.identity in traces.named):
        if len(rows := traces.of(table)):
            yield Change(table.place, len(rows), partial(table.remove, rows))


def _left(places: _Places, traces: Traces, person: Person) -> Iterator[str]:
    """What still holds the rows, or what was learnt from them, one sentence each."""
    if rows := sum(len(traces.of(table)) for table in places.enriched):
        yield (
            f"the sink keeps {count(rows, 'enriched row')} of the person until deleted at the source; the "
            "next run then drops them, and those of a file that is deleted as a whole only with sink.on_vanished: "
            "remove."
        )
    if unreadable := sum(sink.unreadable(person, tables) for tables in places.rejected.values()):
        yield (
            f"{count(unreadable, 'rejected row')} could not be read, so nobody can tell whose they are; their column "
            "_raw has them as they are in the source."
        )
    for job, _ in places.sinks:
        if job.sink.dataset is not None:
            yield (
                f"{job.sink.shown} keeps the rows of a file that the next run replaces in its earlier commits; "
                f"`HfApi().super_squash_history('{job.sink.dataset}', repo_type='dataset')` deletes those."
            )
    for _, found in places.registries:
        trained = registry.trained(found, traces)
        if trained.on:
            yield f"Weights keep what they learnt: {found.url} {', '.join(trained.on)} learnt from these rows."
        if trained.maybe:
            yield (
                f"Weights keep what they learnt: {found.url} {', '.join(trained.maybe)} may have learnt from these "
                "rows; what those versions were trained on is not kept."
            )
    for _, found in places.registries:
        if found.store.on_hub:
            yield (
                f"The older commits of {found.url} keep what was erased: its owner can make one commit of all, with "
                "`super_squash_history` of huggingface_hub; other machines that have used the registry keep it in "
                "~/.cache/nightscribe/hub."
            )
    for training in {training.name: training for training, _ in places.registries}.values():
        if training.data.train.prepare:
            yield (
                f"The texts of {training.name} come from {training.data.train.prepare}, so rows of it were found by "
                "the condition and not by their texts."
            )
    yield (
        "Copies elsewhere are not reached: projects in label tools and their exports, pages written with `nightscribe "
        "report`, tables of the flow that trains in Prefect, backups."
    )
