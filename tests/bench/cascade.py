"""A job whose smaller model is asked first (`tasks[].first`), beside the same job without it.

    python -m tests.bench.cascade [--models FOLDER] [--rows 6000] [--earlier-rows 20000] [--agree 0.99] [--quick]

A teacher of 12 layers and a student of 6 narrower ones, trained here (`tests.bench.distilled`) and kept in a folder, so
that only the first call trains them. Four jobs take turns on the same new reviews, each with loading its models and
writing its rows, in CPU seconds:

- `alone`: the teacher.
- `first night`: the student first. The job has to measure the threshold, on a sample of the rows.
- `second night`: the same in a sink that has the threshold of an earlier night, of other reviews.
- `student`: the student for every row, which is what no cascade can be faster than.

The agreement is that of the second night's files with those of the teacher: none of its rows was in the sample of the
threshold. Rows that differ are all answers of the student that nobody checked, so the report's counts give its rate.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flows.demo.grammar import SENTIMENTS
from jobs import run, spec
from jobs.models.pool import ModelPool
from jobs.plan import planning
from jobs.report import Report
from tests.bench import corpus, distilled, turns

MODELS = Path.home() / ".cache/nightscribe-bench/cascade"
# Rows of the measurement of one model alone in memory.
WARM, TIMED = 64, 400


def job(source: Path, sink: Path, model: Path, first: Path | None = None, **more: Any) -> dict[str, Any]:
    """The job, with or without a model that is asked first; `more` are keys of `first`."""
    task: dict[str, Any] = {"task": "classify", "column": "text", "model": str(model), "into": "mood"}
    task |= {"dtype": "float32", "device": "cpu"}
    if first is not None:
        task["first"] = {"model": str(first), "dtype": "float32", **more}
    return {
        "name": "cascade",
        "source": {"path": str(source)},
        "tasks": [task],
        "sink": {"path": str(sink)},
        "runner": {"workers": 1},
    }


def labels(sink: Path) -> dict[str, str]:
    """The label of each row with one."""
    table = ds.dataset(sink, format="parquet", exclude_invalid_files=True).to_table(["id", "mood"])
    found = zip(table["id"].to_pylist(), table["mood"].to_pylist(), strict=True)
    return {id_: mood["label"] for id_, mood in found if mood is not None}


def scores(model: Path, texts: list[str]) -> NDArray[np.float64]:
    """A model's scores, `(texts, labels)` in the order of SENTIMENTS, by a job."""
    with tempfile.TemporaryDirectory() as folder:
        source, sink = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        pq.write_table(pa.table({"id": np.arange(len(texts)), "text": texts}), source / "texts.parquet")
        content = job(source, sink, model)
        content["tasks"][0]["top_k"] = "all"
        run.run(spec.parse(content))
        table = ds.dataset(sink, format="parquet", exclude_invalid_files=True).to_table(["id", "mood"]).sort_by("id")
    said = [{each["label"]: each["score"] for each in row} for row in table["mood"].to_pylist()]
    return np.array([[row[label] for label in SENTIMENTS] for row in said])


def milliseconds(model: Path, source: Path, table: pa.Table) -> float:
    """CPU milliseconds of a row: a loaded model, tokenising included, the best of two turns."""
    [task] = planning.make(spec.parse(job(source, source.parent / "nowhere", model))).tasks
    annotator = ModelPool().annotator(task)
    batch = table.select(["id", "text"]).slice(0, TIMED).combine_chunks().to_batches()[0]
    annotator(batch.slice(0, WARM))
    found = []
    for _ in range(2):
        started = time.process_time()
        annotator(batch)
        found.append(1000 * (time.process_time() - started) / len(batch))
    return min(found)


def write(source: Path, name: str, table: pa.Table) -> pa.Table:
    """Add a file to a source; its ids begin with its name."""
    source.mkdir(parents=True, exist_ok=True)
    ids = pa.array([f"{name}-{id_}" for id_ in table["id"].to_pylist()])
    table = table.set_column(table.schema.get_field_index("id"), "id", ids)
    pq.write_table(table.select(["id", "text"]), source / f"{name}.parquet", row_group_size=1000)
    return table


def measured(sink: Path, report: Report) -> dict[str, Any]:
    """What a run knows of its threshold."""
    content = json.loads((sink / "_nightscribe/reports" / f"{report.run_id}.json").read_text())
    found: dict[str, Any] = content["tasks"][0]["first"]["measured"]
    return found


def agreement(report: Report, exact: dict[str, str], given: dict[str, str]) -> dict[str, Any]:
    """How often the student's answers are the teacher's, by the labels of two sinks and the counts of a run."""
    found = report.first["mood"]
    different = sum(given[id_] != label for id_, label in exact.items())
    unchecked = found.answered - found.checked
    return {
        "answered_share": round(found.answered / max(1, found.rows), 4),
        "answers": found.answered,
        "checked": found.checked,
        "checked_and_agreed": found.agreed,
        "unchecked_and_different": different,
        "agreement_of_answers": round((unchecked - different + found.agreed) / max(1, found.answered), 5),
        "agreement_of_all_rows": round(1 - different / len(exact), 5),
    }


def measure(
    folder: Path, pair: tuple[Path, Path], rows: int, earlier_rows: int, repeats: int, promise: dict[str, float]
) -> dict[str, Any]:
    """Run the jobs in turn, compare their sinks."""
    teacher, student = pair
    before = distilled.reviews(folder / "lakes/before", earlier_rows, seed=11)
    new = distilled.reviews(folder / "lakes/new", rows, seed=13)
    write(folder / "both", "before", before)
    alone_ms, student_ms = (milliseconds(model, folder / "both", before) for model in (teacher, student))
    print(f"a row takes {alone_ms:.2f} ms of the teacher, {student_ms:.2f} ms of the student", flush=True)
    earlier = run.run(spec.parse(job(folder / "both", folder / "earlier", teacher, student, **promise)))
    kept = measured(folder / "earlier", earlier)
    print(f"threshold of the earlier night: {kept['threshold']} {kept['why']}", flush=True)
    new = write(folder / "new", "new", new)
    shutil.copy(folder / "new/new.parquet", folder / "both")
    for repeat in range(repeats):
        shutil.copytree(folder / "earlier", folder / f"second night-{repeat}")
    reports: dict[str, Report] = {}

    def arm(name: str, source: str, model: Path, first: Path | None, **more: float) -> Callable[[int], None]:
        def once(repeat: int) -> None:
            sink = folder / f"{name}-{repeat}"
            reports[name] = run.run(spec.parse(job(folder / source, sink, model, first, **more)))

        return once

    arms = {
        "alone": arm("alone", "new", teacher, None),
        "first night": arm("first night", "new", teacher, student, **promise),
        "second night": arm("second night", "both", teacher, student, **promise),
        "student": arm("student", "new", student, None),
    }
    seconds = turns.take(arms, repeats, turns.cpu_seconds)
    turns.show(seconds, rows, "rows/s", "alone")
    if reports["second night"].rows_in != rows:
        raise SystemExit(f"the second night computed {reports['second night'].rows_in} rows instead of {rows}")
    sinks = {name: folder / f"{name}-{repeats - 1}" for name in arms}
    given = {name: labels(sink) for name, sink in sinks.items()}
    alone = given["alone"]
    later = {id_: label for id_, label in given["second night"].items() if id_ in alone}
    truth = dict(zip(new["id"].to_pylist(), new["sentiment"].to_pylist(), strict=True))
    second = agreement(reports["second night"], alone, later)
    asked = 1 - second["answered_share"] + second["checked"] / rows
    return {
        "teacher_ms": round(alone_ms, 2),
        "student_ms": round(student_ms, 2),
        "cpu_seconds": {name: [round(value, 1) for value in values] for name, values in seconds.items()},
        "times_as_fast": {
            name: round(statistics.median(seconds["alone"]) / statistics.median(values), 2)
            for name, values in seconds.items()
        },
        "most_if_every_row_is_answered": round(alone_ms / student_ms, 2),
        "expected_of_this_share": round(alone_ms / (student_ms + asked * alone_ms), 2),
        "earlier_night": {key: kept[key] for key in ("threshold", "why", "rows", "answered", "agreed")},
        "first_night": measured(sinks["first night"], reports["first night"])["threshold"],
        "first_night_agreement": agreement(reports["first night"], alone, given["first night"]),
        "second_night_agreement": second,
        "student_agrees_on": round(float(np.mean([given["student"][id_] == label for id_, label in alone.items()])), 4),
        "accuracy": {
            name: round(float(np.mean([found[id_] == label for id_, label in truth.items()])), 4)
            for name, found in (("alone", alone), ("second night", later), ("student", given["student"]))
        },
        "added_layers_weights": {model.name: round(distilled.added_weight(model), 3) for model in pair},
    }


def main() -> None:
    """Print the table and the last line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=MODELS, help="keeps the trained models")
    parser.add_argument("--rows", type=int, default=6_000, help="reviews of a night")
    parser.add_argument(
        "--earlier-rows", type=int, default=20_000, help="reviews of the earlier night, which measures the threshold"
    )
    parser.add_argument("--agree", type=float, default=0.99)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small and once, to see that everything runs")
    given = parser.parse_args()
    pair, rows, repeats = (distilled.QUICK, 900, 1) if given.quick else (distilled.FULL, given.rows, given.repeats)
    earlier_rows = rows if given.quick else given.earlier_rows
    # Of 900 rows 68 test a threshold.
    promise = {"agree": 0.5 if given.quick else given.agree, "confidence": given.confidence}
    models = distilled.train(given.models, pair, scores)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), models, rows, earlier_rows, repeats, promise)
    shapes = {"teacher": pair.teacher, "student": pair.student}
    print(
        json.dumps(
            {
                "bench": "cascade",
                "rows": rows,
                "earlier_rows": earlier_rows,
                "promise": promise,
                "models": {name: f"{each.layers} layers of {each.hidden}" for name, each in shapes.items()},
                "threads": os.environ.get("OMP_NUM_THREADS"),
                **found,
                "versions": corpus.versions(),
            }
        )
    )


if __name__ == "__main__":
    main()
