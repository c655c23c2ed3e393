"""What is wrong with a dataset is one sentence; its sink lies elsewhere."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import source
from jobs.spec import SourceSpec
from transforms.errors import NightscribeError, SourceError, SpecError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.table({"nr": [1, 2], "text": ["a", "b"]}), folder / "train-0.parquet")
    pq.write_table(pa.table({"nr": [3], "text": ["c"]}), folder / "test-0.parquet")
    return folder


def numbers(sink=None, **keys) -> list[int]:
    planned, shards = source.plan(SourceSpec(**keys), outside=sink and str(sink))
    batches = [batch for shard in shards for batch in source.read(planned, shard, 100)]
    return [number for batch in batches for number in batch.column("nr").to_pylist()]


def refused(kind: type[NightscribeError] = SpecError, **keys) -> str:
    with pytest.raises(kind) as caught:
        numbers(**keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_splits_conditions_and_the_home_folder_work(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert numbers(dataset=str(folder)) == numbers(dataset="~/data") == [1, 2]
    assert numbers(dataset=str(folder), split="test") == [3]
    assert numbers(dataset=str(folder), where="text = 'b'") == [2]


def test_missing_things_are_reported(folder, tmp_path):
    name = str(folder)
    assert "Bad split: dev. Available splits: ['train', 'test']" in refused(dataset=name, split="dev")
    assert "'de' not found. Available: ['default']" in refused(dataset=name, config="de")
    assert "source.columns: 'no' is not in" in refused(dataset=name, columns=["no"])
    assert "source.columns names 'nr' twice" in refused(dataset=name, columns=["nr", "nr"])
    assert "is a file; give it as source.path" in refused(dataset=f"{folder}/train-0.parquet")
    assert "is empty; give org/name or a folder" in refused(dataset="")
    (tmp_path / "empty").mkdir()
    assert "doesn't contain any data files" in refused(dataset=str(tmp_path / "empty"))


def test_damaged_files_are_reported(folder, tmp_path):
    (folder / "train-0.parquet").write_bytes(b"PAR1 and no more")
    assert "cannot be opened: Parquet magic bytes not found" in refused(dataset=str(folder))
    saved = tmp_path / "saved"
    datasets.DatasetDict({"train": datasets.Dataset(pa.table({"nr": [1, 2]}))}).save_to_disk(str(saved))
    assert numbers(dataset=str(saved)) == [1, 2]
    (arrow,) = (saved / "train").glob("*.arrow")
    arrow.unlink()
    assert f"{arrow} no longer exists" in refused(dataset=str(saved))
    (saved / "train" / "state.json").write_text("{")
    assert "cannot be opened: " in refused(dataset=str(saved))


def test_a_file_that_does_not_fit_the_others_is_reported_with_its_shard(folder):
    pq.write_table(pa.table({"other": ["x"]}), folder / "train-1.parquet")
    told = refused(SourceError, dataset=str(folder))
    assert told.startswith(f"dataset {folder}, split 'train', shard 1 could not be read: Couldn't cast")


def test_a_changed_file_is_another_version(folder):
    spec = SourceSpec(dataset=str(folder))
    before = source.plan(spec)[1][0].version
    assert source.plan(spec)[1][0].version == before
    pq.write_table(pa.table({"nr": [1, 2, 3], "text": ["a", "b", "c"]}), folder / "train-0.parquet")
    assert source.plan(spec)[1][0].version != before


def test_a_sink_in_the_dataset_and_a_dataset_in_the_sink_are_refused(folder, tmp_path):
    for sink in (folder, folder / "out", tmp_path):
        assert "lie inside each other" in refused(dataset=str(folder), sink=sink)
    assert numbers(dataset=str(folder), sink=tmp_path / "out") == [1, 2]


def test_lines_of_json_keep_their_rows(tmp_path):
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"nr": i}) + "\n" for i in range(5)))
    assert numbers(dataset=str(tmp_path)) == [0, 1, 2, 3, 4]


def test_labels_of_a_column_with_a_dot_in_its_name_are_read_as_names(tmp_path):
    label = datasets.Features({"nr": datasets.Value("int64"), "user.mood": datasets.ClassLabel(names=["bad", "good"])})
    rows = datasets.Dataset.from_dict({"nr": [1, 2], "user.mood": [1, 0]}, features=label)
    datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "saved"))
    planned, (shard,) = source.plan(SourceSpec(dataset=str(tmp_path / "saved")))
    (batch,) = source.read(planned, shard, 9)
    assert batch["user.mood"].to_pylist() == ["good", "bad"]
