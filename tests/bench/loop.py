"""The training loop on a corpus with long-tailed topics: does a second night of labels give a better nightly output?

    python -m tests.bench.loop [--rows 60000] [--labels 1500] [--folder FOLDER] [--quick]

Two nights of half of the rows each; after each night its drawn rows are labelled (4 % of the labels are wrong) and a
round of the loop is run. A first adapter is trained on 300 labelled rows. At the end both nights are enriched again,
and an adapter is trained on shuffled labels. The last line is JSON: macro F1 of each night's output on the rows that
nobody labelled, and each decision.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from sklearn.metrics import f1_score

from jobs import run
from jobs import spec as jobs_spec
from jobs.report import Report
from jobs.retraining import round as rounds
from jobs.review import columns, labels
from jobs.training import drawn
from jobs.training import spec as training_spec
from tests.bench import corpus as measured
from tests.bench import topics

SEED_ROWS, WRONG, HOLDOUT = 300, 0.04, 0.2


class Loop:
    """The loop in a folder.

    Args:
        folder: for everything.
        rows: rows of both nights.
        drawn: rows that are drawn each night.
        steps: of the pretraining.
    """

    def __init__(self, folder: Path, rows: int, drawn: int, steps: int):
        self.folder, self.drawn = folder, drawn
        self.nights = [topics.corpus(rows // 2, seed=night) for night in (1, 2)]
        every = pa.concat_tables(self.nights)
        self.truth = dict(zip(every["text"].to_pylist(), every["topic"].to_pylist(), strict=True))
        self.labelled: set[str] = set()
        self.base = topics.base(folder, self.nights[0]["text"].to_pylist(), steps)
        (folder / "in").mkdir()
        seed = topics.corpus(SEED_ROWS, seed=3)
        pq.write_table(self.answered(seed["text"].to_pylist(), seed["topic"].to_pylist()), folder / "seed.parquet")

    def answered(self, texts: list[str], truth: list[str]) -> pa.Table:
        """Labels as people give them: some are wrong."""
        rng = np.random.default_rng(len(texts))
        names = sorted(set(self.truth.values()))
        wrong = rng.random(len(texts)) < WRONG
        given = [str(rng.choice(names)) if bad else label for bad, label in zip(wrong, truth, strict=True)]
        return pa.table({"text": texts, "label": given})

    def train(self, **more: Any) -> dict[str, Any]:
        """One round."""
        content = {
            "name": "topics",
            "task": "classify",
            "base": {"model": str(self.base)},
            "data": {
                "train": {"path": str(self.folder / "seed.parquet")},
                "review": str(self.folder / "review"),
                "holdout": {"fraction": HOLDOUT},
            },
            "training": {"num_train_epochs": 10, "learning_rate": 3e-3, "per_device_train_batch_size": 32},
            "adapter": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
            "registry": str(self.folder / "registry"),
            "gate": {"metric": "macro_f1", "floor": 0.01},
        }
        started = time.monotonic()
        outcome = rounds.run(training_spec.parse(content | more))
        found = {
            key: getattr(outcome, key) for key in ("version", "decision", "value", "champion_value", "gain", "reason")
        }
        print(json.dumps(found | {"rows": outcome.rows_train, "holdout": outcome.rows_holdout}), flush=True)
        return found | {"seconds": round(time.monotonic() - started, 1), "evidence": outcome.evidence}

    def night(self, number: int) -> dict[str, Any]:
        """Enrich the rows of a night, score what nobody has labelled, label what was drawn."""
        pq.write_table(self.nights[number - 1].select(["id", "text"]), self.folder / "in" / f"{number}.parquet")
        report = self.enrich()
        score = self.score(number)
        file = self.folder / "review" / columns.draw_file("nightly", report.run_id)
        rows = pq.read_table(file)
        texts = rows["text"].to_pylist()
        self.labelled.update(texts)
        answers = self.answered(texts, [self.truth[text] for text in texts])
        pq.write_table(answers.append_column(columns.KEY, rows[columns.KEY]), self.folder / f"answers-{number}.parquet")
        labels.take(str(self.folder / "review"), [str(self.folder / f"answers-{number}.parquet")])
        return {"macro_f1": score, "rows": report.rows_out, "drawn": len(rows), "seconds": report.seconds}

    def enrich(self) -> Report:
        """Enrich what is new, or everything with a new champion."""
        task = {"task": "classify", "column": "text", "model": str(self.base), "into": "found", "dtype": "float32"}
        content = {
            "name": "nightly",
            "source": {"path": str(self.folder / "in")},
            "tasks": [task | {"adapter": f"{self.folder / 'registry'}@champion"}],
            "sink": {"path": str(self.folder / "out")},
            "review": {"rows": self.drawn, "path": str(self.folder / "review")},
        }
        return run.run(jobs_spec.parse(content))

    def score(self, number: int) -> float:
        """Macro F1 of the output on rows of a night that nobody has labelled."""
        rows = ds.dataset(self.folder / "out", format="parquet", ignore_prefixes=["_"]).to_table(
            ["id", "text", "found"]
        )
        kept = [
            row for row in rows.to_pylist() if row["id"].startswith(f"{number}-") and row["text"] not in self.labelled
        ]
        true = [self.truth[row["text"]] for row in kept]
        return float(f1_score(true, [row["found"]["label"] for row in kept], average="macro"))

    def shuffle(self) -> None:
        """Give every labelled row that is not held out the label of another one."""
        rng = np.random.default_rng(0)
        for file in (self.folder / "review" / "labels").rglob("*.parquet"):
            rows = pq.read_table(file)
            keyed = rows.append_column("key", rows[columns.KEY])
            given = np.array(rows["label"].to_pylist(), object)
            learnt = ~np.array(drawn.held_out(keyed, HOLDOUT).to_pylist())
            given[learnt] = rng.permutation(given[learnt])
            pq.write_table(rows.set_column(rows.schema.get_field_index("label"), "label", pa.array(given)), file)


def main() -> None:
    """Go around twice and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--labels", type=int, default=1500, help="rows that are drawn each night")
    parser.add_argument("--folder", type=Path, help="keep everything in this folder")
    parser.add_argument("--quick", action="store_true", help="4,000 rows, 400 labels")
    arguments = parser.parse_args()
    rows, drawn, steps = (4000, 400, 150) if arguments.quick else (arguments.rows, arguments.labels, 1500)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        loop = Loop(folder, rows, drawn, steps)
        found: dict[str, Any] = {"bench": "loop", "first": loop.train()}
        found["night 1"] = loop.night(1)
        found["second"] = loop.train()
        found["night 2"] = loop.night(2)
        found["third"] = loop.train()
        loop.enrich()
        found["both nights, enriched again"] = {f"macro_f1 of night {n}": loop.score(n) for n in (1, 2)}
        loop.shuffle()
        found["shuffled"] = loop.train()
    print(json.dumps(found | {"versions": measured.versions()}))


if __name__ == "__main__":
    main()
