"""Rows that a person has written, the job and the training over them, and what is left."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import cli
from jobs.report import history, web
from jobs.review import columns, labels
from jobs.store import Store
from tests import lake
from tests.jobs.training import made

ADA = "author = 'ada'"


# A word in every text of the person and in no other.
WORD = "zanzibar"


def rows(n, seed, ada=0):
    """Labelled rows with authors; the texts of the first `ada` of them are ada's."""
    table = made.labelled(n, seed=seed)
    texts = [f"{WORD} {text}" if i < ada else text for i, text in enumerate(table["text"].to_pylist())]
    authors = ["ada" if i < ada else f"author {i % 7}" for i in range(n)]
    return pa.table({"text": texts, "label": table["label"], "author": authors})


def job(folder, model, **task):
    """A job that rejects rows whose number of stars is no number, and draws a third of the others for review."""
    base = {"task": "classify", "column": "text", "model": str(model), "into": "found", "dtype": "float32"}
    return {
        "name": "nightly",
        "source": {"path": str(folder / "in"), "where": "CAST(stars AS INTEGER) >= 0"},
        "tasks": [base | task],
        "sink": {"path": str(folder / "out")},
        "review": {"rows": 60, "path": str(folder / "review")},
        "errors": {"max_fraction": 0.5},
    }


def day(folder, number, ada=20, n=60):
    """New rows at the source; one of ada's and one of another author's cannot be enriched, as their messages say."""
    (folder / "in").mkdir(exist_ok=True)
    table = rows(n, 100 + number, ada).drop_columns(["label"])
    stars = [WORD if i == 0 and ada else "many" if i in (0, n - 1) else str(i % 5) for i in range(n)]
    pq.write_table(table.append_column("stars", pa.array(stars)), folder / "in" / f"{number}.parquet")


def night(folder, content):
    """Run the job, with its report as a page as the flow writes it, and label what was drawn."""
    report = lake.execute(content)
    store, review = Store(content["sink"]["path"]), content["review"]["path"]
    page = web.web(history.read(store, report.run_id), [])
    store.put(f"{history.FOLDER}/{report.run_id}.html", page.encode())
    drawn = pq.read_table(Store(review).open(columns.draw_file("nightly", report.run_id)))
    pq.write_table(pa.table({columns.KEY: drawn[columns.KEY], "label": ["good"] * len(drawn)}), folder / "answers.pq")
    labels.take(review, [str(folder / "answers.pq")])
    (folder / "answers.pq").unlink()
    return report


def command(*arguments):
    return cli.main(["forget", *map(str, arguments)])


def files(folder, content, training=None):
    """The job file, and the training file if there is one, as arguments of the command."""
    found = ["--job", lake.write_job(folder, content)]
    if training is not None:
        (folder / "training.yaml").write_text(json.dumps(training))
        found += ["--training", folder / "training.yaml"]
    return found


def holding(folder, words):
    """Files below a folder that hold one of some words, tables decoded; enriched rows and the source not."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        if name.startswith("in/") or file in lake.parts(folder / "out"):
            continue
        content = file.read_bytes()
        if content.startswith(b"PAR1"):
            with pq.ParquetFile(file) as table:
                content += json.dumps(table.read().to_pylist(), default=str, ensure_ascii=False).encode()
        found += [name for word in words if word.encode() in content or word.encode() in file.name.encode()]
    return found


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def training(folder, base):
    return {
        "name": "sentiment",
        "task": "classify",
        "base": {"model": str(base)},
        "data": {
            "train": {"path": str(folder / "labels")},
            "review": str(folder / "review"),
            "holdout": {"path": str(folder / "holdout")},
        },
        "training": {"num_train_epochs": 4, "learning_rate": 5e-3, "per_device_train_batch_size": 8},
        "adapter": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
        "registry": str(folder / "registry"),
        "gate": {"metric": "accuracy", "floor": 0.1, "confidence": 0.8},
    }
