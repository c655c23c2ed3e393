"""A sink that is a dataset, with other writers, machines and Hubs, and what it refuses."""

from __future__ import annotations

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import spec
from jobs.plan import planning
from tests.jobs.sink.dataset.published import data, ids, job, new_machine, write
from transforms.errors import SinkError, SpecError

pytestmark = pytest.mark.usefixtures("noop_task")


def test_a_part_that_somebody_changed_is_refused_until_it_is_deleted(tmp_path, name, night):
    write(tmp_path, "a", 1)
    night()
    [path] = data(night.head())
    published = night.head()[path]
    night.commit({path: b"other rows"})
    write(tmp_path, "b", 1)
    with pytest.raises(SinkError, match=rf"blob/main/{path} was changed after run .*nothing was published"):
        night()
    assert night.head()[path] == b"other rows"
    assert len(data(night.head())) == 1
    night.commit({path: None})
    night()
    assert night.head()[path] == published
    assert ids(name) == ["a-0", "b-0"]


def test_a_file_of_another_hand_is_not_overwritten(tmp_path, hub, name, night):
    write(tmp_path, "a", 1)
    night()
    [path] = data(night.head())
    foreign = hub.repository("dataset", name, {path: b"rows of somebody else"})
    with pytest.raises(SinkError, match=rf"blob/main/{path} is there, and this job did not write it"):
        night()
    assert foreign.files() == {path: b"rows of somebody else"}


def test_two_jobs_share_a_repository_as_splits_and_no_third_takes_one_of_them(tmp_path, name, night):
    write(tmp_path, "a", 2)
    write(tmp_path, "b", 1, folder="held-out")
    night()
    night("held-out", job_name="weekly", split="test")
    night("held-out", job_name="other", config="small", split="test", into="other")
    found = datasets.load_dataset(name)
    assert {split: rows.num_rows for split, rows in found.items()} == {"train": 2, "test": 1}
    assert datasets.load_dataset(name, "small")["test"].column_names == ["id", "text", "other"]
    assert datasets.get_dataset_config_names(name) == ["default", "small"]
    with pytest.raises(SpecError, match=r"belongs to job 'nightly' with the source .*sink.take_over_from=nightly"):
        night(job_name="other", path=str(tmp_path / "out"))
    with pytest.raises(SpecError, match=r"has the columns id, text, nothing in the split 'train'.* own sink.config"):
        night("held-out", job_name="weekly", split="test", into="sentiment")


def test_another_machine_does_only_what_is_new(tmp_path, hub, name, night, monkeypatch):
    write(tmp_path, "a", 2)
    write(tmp_path, "b", 2)
    night()
    new_machine(monkeypatch, tmp_path)
    write(tmp_path, "c", 2)
    planned = planning.make(spec.parse(job(tmp_path, name)))
    assert [shard.key for shard in planned.shards_todo] == ["c.parquet"]
    hub.requests.clear()
    report = night()
    assert (report.rows_in, report.shards_done) == (2, 1)
    assert len(hub.seen("^PUT ")) == 1
    assert not hub.seen(r"^GET .*/resolve/.*\.parquet")
    assert len(ids(name)) == 6


def test_another_machine_reads_the_columns_that_stay_from_the_repository(tmp_path, name, night, monkeypatch):
    write(tmp_path, "a", 2)
    night()
    new_machine(monkeypatch, tmp_path)
    report = night(tasks=[{"task": "noop", "column": "text", "into": "more"}])
    assert (report.rows_reused, report.rows_out) == (2, 2)
    assert datasets.load_dataset(name, split="train").column_names == ["id", "text", "nothing", "more"]


def test_machines_that_take_turns_follow_each_other(tmp_path, name, night, monkeypatch):
    write(tmp_path, "a", 2)
    homes = [str(tmp_path / "one"), str(tmp_path / "other")]
    reports = []
    for turn in range(4):
        monkeypatch.setenv("XDG_DATA_HOME", homes[turn % 2])
        write(tmp_path, "a", 2, first=10 * turn)
        write(tmp_path, f"b{turn}", 1)
        reports.append(night())
    assert [report.rows_in for report in reports] == [3, 3, 3, 3]
    assert ids(name) == ["a-30", "a-31", "b0-0", "b1-0", "b2-0", "b3-0"]


def test_a_deleted_repository_is_published_again_from_the_folder(tmp_path, hub, name, night):
    write(tmp_path, "a", 2)
    night()
    del hub.repositories["dataset", name]
    report = night()
    assert report.rows_in == 0
    assert ids(name) == ["a-0", "a-1"]


def test_a_hub_that_keeps_parts_in_git_and_names_them_its_own_way_is_published_to_again(
    tmp_path, hub, name, night, monkeypatch
):
    hub.lfs = "regular"
    monkeypatch.setattr("tests.hub.repositories.Blob.oid", property(lambda blob: blob.sha256[:40]))
    write(tmp_path, "a", 2)
    night()
    write(tmp_path, "b", 1)
    night()
    assert ids(name) == ["a-0", "a-1", "b-0"]
    [path, _] = data(night.head())
    night.commit({path: b"other rows"})
    with pytest.raises(SinkError, match=rf"blob/main/{path} was changed"):
        night()


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        ({}, r"needs a token that may write"),
        ({"token": "read"}, r"the token may not write to it on http://.*; set HF_TOKEN to one that may"),
        ({"token": "read", "exists": True}, r"the token may not write to it"),
        ({"token": "write", "offline": True}, r"HF_HUB_OFFLINE is set; unset it, or write to a folder"),
        ({"token": "write", "ignores": True, "exists": True}, r"although its parent is not the newest"),
    ],
)
def test_what_cannot_be_published_is_refused_before_anything_is_enriched(
    tmp_path, hub, name, run_once, monkeypatch, sink, message
):
    write(tmp_path, "a", 1)
    monkeypatch.delenv("HF_TOKEN")
    if token := sink.get("token"):
        monkeypatch.setenv("HF_TOKEN", hub.token("eve", write=token == "write"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", sink.get("offline", False))
    hub.ignores_parent = sink.get("ignores", False)
    if sink.get("exists"):
        hub.repository("dataset", name, {"a.txt": b"a"})
    executed = []
    with pytest.raises(SpecError, match=message) as caught:
        run_once(job(tmp_path, name), lambda: executed.append(1))
    assert "hf_" not in str(caught.value)
    assert not executed


def test_columns_that_load_dataset_cannot_read_are_refused(tmp_path, hub, name):
    write(tmp_path, "a", 1)
    table = pq.read_table(tmp_path / "in" / "a.parquet", partitioning=None)
    tags = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8()))
    pq.write_table(table.append_column("tags", tags), tmp_path / "in" / "a.parquet")
    with pytest.raises(SpecError, match=r"cannot read 'tags' \(map<string, int8>\); leave such columns out"):
        planning.make(spec.parse(job(tmp_path, name)))


def test_a_hub_that_gives_no_reasons_for_a_404_takes_the_rows_of_two_nights(tmp_path, hub, name, night):
    hub.states_codes = False
    write(tmp_path, "a", 3)
    night()
    write(tmp_path, "b", 2)
    night()
    hub.states_codes = True
    assert len(ids(name)) == 5
