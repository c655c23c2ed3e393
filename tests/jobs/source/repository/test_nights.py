"""Datasets of the Hub night by night: requests, changes, failures, and what is here already."""

from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from jobs import run
from jobs.hub import files, ranges, tree
from jobs.spec import parse
from tests import lake
from tests.jobs.source.repository.reading import job, parquet, refused, rows, table
from transforms.errors import SourceError


def test_small_files_are_read_with_one_request_each_and_planned_again_with_one_in_all(hub, dataset):
    repository = dataset({f"data/{i}.parquet": parquet({"nr": [i]}) for i in range(30)})
    hub.requests.clear()
    assert len(rows(repository)) == 30
    assert len(hub.seen("/resolve/")) == 30
    assert len(hub.seen("/api/datasets/")) == 2
    hub.requests.clear()
    assert len(rows(repository)) == 30
    assert hub.seen() == [f"GET /api/datasets/{repository.name}"]


def test_offline_a_dataset_that_was_read_before_is_read_again(hub, dataset, monkeypatch):
    repository = dataset({"a.csv": b"nr\n1\n"})
    assert rows(repository) == [{"nr": 1}]
    other = dataset({"a.csv": b"nr\n1\n"})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    tree._listing.cache_clear()
    hub.requests.clear()
    assert rows(repository) == [{"nr": 1}]
    assert "it is not in the cache of this machine, and HF_HUB_OFFLINE is set" in refused(other)
    assert hub.requests == []


@pytest.mark.usefixtures("noop_task")
def test_a_new_commit_redoes_exactly_the_files_that_it_changes(hub, dataset, tmp_path):
    repository = dataset({f"data/train-{i}.parquet": parquet(table(10 * i)) for i in range(4)})
    first = run.run(parse(job(repository, tmp_path)))
    assert first.shards_done == 4
    hub.requests.clear()
    assert run.run(parse(job(repository, tmp_path))).shards_done == 0
    assert hub.seen() == [f"GET /api/datasets/{repository.name}"]
    changed = {"data/train-1.parquet": parquet(table(100)), "data/train-4.parquet": parquet(table(40))}
    repository.commit(changed | {"README.md": b"# About"})
    hub.requests.clear()
    assert run.run(parse(job(repository, tmp_path))).shards_done == 2
    asked = {line.split("/resolve/")[1].split("/", 1)[1] for line in hub.seen("/resolve/")}
    assert asked == {*changed, "README.md"}
    assert lake.read(tmp_path / "out")["text"].to_pylist() == [
        f"text {i}" for i in sorted([0, 1, 2, 100, 101, 102, 20, 21, 22, 30, 31, 32, 40, 41, 42], key=lambda i: f"r{i}")
    ]


@pytest.mark.usefixtures("noop_task")
def test_a_hub_that_fails_in_the_middle_of_a_run_loses_nothing(hub, dataset, tmp_path, monkeypatch):
    # Large enough that the rows are read while the job runs, and not by the plan.
    monkeypatch.setattr(files, "SMALL_BYTES", 100)
    repository = dataset({f"train-{i}.parquet": parquet(table(10 * i)) for i in range(3)})
    plan = run.prepare(parse(job(repository, tmp_path)))
    hub.faults.status(404, "sig=read|/resolve/.*train-2", times=None)
    with pytest.raises(SourceError, match="cannot be read"), run.holding(plan) as held:
        run.execute(held)
    hub.faults.clear()
    assert run.run(parse(job(repository, tmp_path))).rows_out == 9
    assert lake.read(tmp_path / "out").num_rows == 9


@pytest.mark.usefixtures("noop_task")
def test_a_file_that_is_replaced_between_plan_and_run_is_refused(hub, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SMALL_BYTES", 100)
    repository = dataset({"train.parquet": parquet(table(0))})
    plan = run.prepare(parse(job(repository, tmp_path)))
    ranges._direct.clear()
    hub.faults.changes("/resolve/", parquet(table(7)))
    with (
        pytest.raises(SourceError, match=r"train\.parquet has changed since the run was planned"),
        run.holding(plan) as held,
    ):
        run.execute(held)


def test_two_columns_of_a_wide_dataset_cost_little_more_than_their_bytes(hub, dataset):
    from tests.jobs.hub.test_files import WIDE

    content = parquet(WIDE, row_group_size=10_000)
    repository = dataset({f"train-{i}.parquet": content for i in range(3)})
    metadata = pq.read_metadata(io.BytesIO(content))
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    wanted = sum(group.column(i).total_compressed_size for group in groups for i in (3, 40))
    hub.requests.clear()
    assert len(rows(repository, columns=["c3", "c40"])) == 90_000
    assert sum(request.sent for request in hub.requests) <= 1.15 * 3 * wanted
