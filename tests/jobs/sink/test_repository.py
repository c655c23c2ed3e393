"""A dataset of the Hub as a sink: one commit a run, rows of other hands are kept, a new machine goes on."""

from __future__ import annotations

import os
import uuid

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from jobs.hub.dataset import DatasetRepository
from jobs.plan import planning
from jobs.plan.text import text
from jobs.sink import publish
from jobs.store import Store, names
from tests.hub.hub import Hub
from transforms.errors import SinkError, SpecError

pytestmark = pytest.mark.usefixtures("noop_task")


@pytest.fixture
def name(hub: Hub, monkeypatch) -> str:
    """A dataset that does not exist, and a token that may create it."""
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    monkeypatch.setattr(publish, "PAUSE_S", 0.01)
    return f"org/{uuid.uuid4().hex}"


def job(root, name, **sink):
    tasks = [{"task": "noop", "column": "text", "into": "nothing"}]
    source = {"path": str(root / "in")}
    return {"name": "nightly", "source": source, "tasks": tasks, "sink": {"dataset": name} | sink}


def write(root, file, rows, folder="in", first=0):
    target = root / folder / f"{file}.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    ids = [f"{file}-{i}" for i in range(first, first + rows)]
    pq.write_table(pa.table({"id": ids, "text": [f"text {i}" for i in ids]}), target)


def new_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / uuid.uuid4().hex))


def ids(name, **how):
    rows = datasets.load_dataset(name, **({"split": "train"} | how))
    return sorted(row["id"] for row in rows)


def test_a_run_publishes_its_rows_and_load_dataset_reads_them(tmp_path, hub, name, run_once):
    write(tmp_path, "lang=de/a", 3)
    write(tmp_path, "lang=en/b", 2)
    report = run_once(job(tmp_path, name))
    repository = hub.repositories["dataset", name]
    assert report.commit == f"{hub.endpoint}/datasets/{name}/commit/{repository.head}"
    assert repository.private
    found = datasets.load_dataset(name)
    assert list(found) == ["train"]
    assert found["train"].column_names == ["id", "text", "lang", "nothing"]
    assert sorted(zip(found["train"]["id"], found["train"]["lang"], strict=True))[0] == ("lang=de/a-0", "de")
    assert len(list(datasets.load_dataset(name, "default", split="train", streaming=True))) == 5


def test_a_night_without_news_makes_no_commit(tmp_path, hub, name, run_once):
    write(tmp_path, "a", 3)
    first = run_once(job(tmp_path, name))
    hub.requests.clear()
    second = run_once(job(tmp_path, name))
    assert (second.commit, second.uploaded_bytes) == (first.commit, 0)
    assert len(hub.repositories["dataset", name].history("main")) == 2
