"""Labels that people gave in a label tool -> rows for training, joined with the rows that were drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from jobs.review import answer, answers, columns, doubts, exports, parquet, question
from jobs.review.answers import Answers, Given, Kept, Undecided
from jobs.review.exports import Answer
from jobs.review.question import Question
from jobs.store import Store
from transforms.errors import SpecError

ENTITIES = pa.list_(pa.struct([("label", pa.string()), ("start", pa.int32()), ("end", pa.int32())]))


@dataclass(frozen=True)
class Labelled:
    """The labels of a run after an import.

    Attributes:
        job: name of the job.
        run: id of the run.
        drawn: rows that were drawn from it.
        labelled: those that have a label.
        skipped: those that people could not decide about.
        tied: those that equally many people labelled in different ways; they count as skipped too.
        unknown: label that the model does not have -> rows with it.
    """

    job: str
    run: str
    drawn: int
    labelled: int
    skipped: int
    tied: int
    unknown: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        runs: the runs that have answers in the files, by job and run.
        answers: answers in the files.
        strangers: answers about rows that were never drawn, or were erased; they are left out.
        stranger: the first of those rows.
    """

    runs: Sequence[Labelled]
    answers: int
    strangers: int
    stranger: str | None


@dataclass(frozen=True)
class _Draw:
    """A draw with the answers about it; `new` are (key, who, answer) of this import."""

    rows: pa.Table
    question: Question
    kept: Kept
    new: list[tuple[str, str, Given]]

    @property
    def answers(self) -> Answers:
        return answers.add(self.kept.answers, self.new)


def take(review: str, files: Sequence[str], new_labels: Collection[str] = ()) -> Imported:
    """Read exports of label tools, and write the labelled rows of every run that they have answers about.

    All files are checked before anything is written. The same files again change nothing.

    Args:
        review: the review folder, as `review.path` in the job file.
        files: the exports; see `jobs.review.exports`.
        new_labels: labels that the model does not know and that are meant, although they look misspelt.

    Raises:
        SpecError: a file is no export, has an answer that does not fit its row, or none about a drawn row.
        SinkError: the review folder cannot be read or written.
    """
    store = Store(review, "REVIEW")
    where = _drawn(store)
    if not where:
        raise SpecError(
            f"{review} has no drawn rows in {columns.DRAWS}/; give the folder that review.path of the job names"
        )
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    found: dict[tuple[str, str], _Draw] = {}
    count, strangers = 0, []
    for file in files:
        matched = 0
        before = {place: len(draw.new) for place, draw in found.items()}
        for each in exports.read(file):
            count += 1
            place = _place(each, where, file)
            if place is None:
                strangers.append(each.key or "a row without a key")
                continue
            matched += 1
            if place not in found:
                found[place] = _read(store, *place)
            _check(each, found[place], file, now)
        if not matched and strangers:
            raise SpecError(
                f"{file} has no answer about a row that was drawn (first: {columns.KEY} {strangers[-1]}); give the "
                f"export of a project with rows of {review}/{columns.DRAWS}"
            )
        for place, draw in found.items():
            new = draw.new[before.get(place, 0) :]
            doubts.refuse_contradictions(new, file)
            doubts.refuse_misspelt(new, draw.kept.answers, draw.question, new_labels, file)
    if not found:
        raise SpecError(
            f"{', '.join(files)}: no row has an answer yet; label rows in the tool, submit them, and export again"
        )
    tables = {place: _table(draw) for place, draw in found.items()}
    for (job, run), draw in found.items():
        answers.write(store, job, run, draw.kept, draw.answers)
        store.put(columns.labels_file(job, run), parquet.content(tables[job, run]))
    runs = [_counted(job, run, draw) for (job, run), draw in sorted(found.items())]
    return Imported(runs, count, len(strangers), strangers[0] if strangers else None)


def _drawn(store: Store) -> dict[str, list[tuple[str, str]]]:
    """Key of a row -> (job, run) of the draws that have it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for folder in store.names(columns.DRAWS):
        for name in store.names(folder):
            if name.endswith(".parquet"):
                _, job, run = name.removesuffix(".parquet").split("/")
                for key in parquet.load(store, name, [columns.KEY])[columns.KEY].to_pylist():
                    found.setdefault(key, []).append((job, run))
    return found


def _place(each: Answer, where: Mapping[str, list[tuple[str, str]]], file: str) -> tuple[str, str] | None:
    """The draw that an answer is about; None for a row that was not drawn."""
    fit = [(job, run) for job, run in where.get(each.key, ()) if each.job in (None, job) and each.run in (None, run)]
    if len(fit) > 1:
        raise SpecError(
            f"{file}: the row with {columns.KEY} {each.key} was drawn in {len(fit)} runs ({fit[0][1]} of {fit[0][0]}, "
            f"{fit[1][1]} of {fit[1][0]}); add the columns review_job and review_run"
        )
    return fit[0] if fit else None


def _read(store: Store, job: str, run: str) -> _Draw:
    rows = parquet.load(store, columns.draw_file(job, run))
    return _Draw(rows, question.read(rows), answers.read(store, job, run), [])


def _check(each: Answer, draw: _Draw, file: str, now: str) -> None:
    """Interpret an answer and add it to its draw."""
    text = draw.rows["review_text"][draw.rows[columns.KEY].index(each.key).as_py()].as_py()
    value = None
    if not each.skipped:
        value = answer.interpret(each, draw.question, text, f"{file}: the row with {columns.KEY} {each.key}")
    draw.new.append((each.key, each.by, Given(value, each.at or now)))


def _table(draw: _Draw) -> pa.Table:
    """The labelled rows of a draw: its columns, the truth, and what training files expect beside it."""
    decided = {key: answers.decide(people) for key, people in draw.answers.items()}
    keys, truth = draw.rows[columns.KEY].to_pylist(), draw.question.truth
    has_label = [key in decided and not isinstance(decided[key], Undecided) for key in keys]
    rows = draw.rows.filter(pa.array(has_label, pa.bool_())).replace_schema_metadata(None)
    if truth in rows.schema.names:
        rows = rows.drop_columns([truth])
    read = "prompt" if draw.question.task == "generate" else "text"
    if read not in rows.schema.names:
        rows = rows.append_column(read, rows["review_text"])
    values = [decided[key] for key, labelled in zip(keys, has_label, strict=True) if labelled]
    rows = rows.append_column(truth, pa.array(values, _type(draw.question)))
    different = [kind == columns.DIFFERENCE for kind in draw.rows[columns.DRAWN].to_pylist()]
    asked = [key for key, is_one in zip(keys, different, strict=True) if is_one]
    skipped = sum(isinstance(decided.get(key), Undecided) for key in asked)
    complete = all(key in decided for key in asked)
    kinds = rows[columns.DRAWN].to_pylist()
    of_difference = [(skipped, complete) if kind == columns.DIFFERENCE else (None, None) for kind in kinds]
    return rows.append_column(columns.SKIPPED, pa.array([each for each, _ in of_difference], pa.int64())).append_column(
        columns.COMPLETE, pa.array([each for _, each in of_difference], pa.bool_())
    )


def _type(asked: Question) -> pa.DataType:
    if asked.task == "ner":
        return ENTITIES
    return pa.list_(pa.string()) if asked.several else pa.string()


def _counted(job: str, run: str, draw: _Draw) -> Labelled:
    decided = [answers.decide(people) for people in draw.answers.values()]
    labels = [value for value in decided if not isinstance(value, Undecided)]
    return Labelled(
        job,
        run,
        len(draw.rows),
        len(labels),
        len(decided) - len(labels),
        decided.count(Undecided.TIE),
        _unknown(labels, draw.question),
    )


def _unknown(truths: Sequence[Any], asked: Question) -> dict[str, int]:
    """Labels that the model does not know; a new one is no mistake, and a mistyped one looks the same."""
    counts: Counter[str] = Counter()
    for value in truths if asked.labels else ():
        each = value if isinstance(value, list) else [value]
        counts.update({one if isinstance(one, str) else one["label"] for one in each} - set(asked.labels))
    return dict(sorted(counts.items()))
