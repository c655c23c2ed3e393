"""Jobs whose rows go to a dataset of the Hub, and what is there afterwards."""

from __future__ import annotations

import uuid

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

LEDGER = "_nightscribe/default/train/ledger.jsonl"


def job(root, name, folder="in", job_name="nightly", into="nothing", tasks=(), **sink):
    own = {"task": "noop", "column": "text", "into": into}
    content = {"name": job_name, "source": {"path": str(root / folder)}, "tasks": [own, *tasks]}
    return content | {"sink": {"dataset": name} | sink}


def write(root, file, rows, folder="in", first=0):
    target = root / folder / f"{file}.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    ids = [f"{target.stem}-{i}" for i in range(first, first + rows)]
    pq.write_table(pa.table({"id": ids, "text": [f"text {i}" for i in ids]}), target)


def ids(name, split="train", config=None):
    return sorted(datasets.load_dataset(name, config, split=split)["id"])


def data(files):
    return sorted(path for path in files if path.startswith("data/"))


def new_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / uuid.uuid4().hex))
