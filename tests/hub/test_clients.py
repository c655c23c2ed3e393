"""The clients as they are installed work with the Hub of the tests."""

from __future__ import annotations

import io
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.hub.hub import Hub


def parquet(rows: int) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(rows)], "number": list(range(rows))}), stream)
    return stream.getvalue()


@pytest.fixture
def name() -> str:
    return f"org/{uuid.uuid4().hex}"


def test_a_private_data_set_streams_with_a_token(hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch):
    import datasets

    hub.repository("dataset", name, {"data/train-0.parquet": parquet(3)}, private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    rows = list(datasets.load_dataset(name, split="train", streaming=True))
    assert [row["text"] for row in rows] == ["text 0", "text 1", "text 2"]


def test_a_data_set_is_pushed_and_loaded(hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    datasets.Dataset.from_dict({"text": ["a", "b"]}).push_to_hub(name)
    assert datasets.load_dataset(name, split="train")["text"][:] == ["a", "b"]


def test_a_commit_with_a_stale_parent_fails(hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    repository = hub.repository("model", name)
    api, head = HfApi(), repository.head
    for content in (b"first", b"second"):
        add = CommitOperationAdd("file.txt", content)
        if content == b"first":
            api.create_commit(name, [add], commit_message="add", parent_commit=head)
        else:
            with pytest.raises(HfHubHTTPError, match="412"):
                api.create_commit(name, [add], commit_message="add", parent_commit=head)
    assert repository.files() == {"file.txt": b"first"}


def test_a_snapshot_is_downloaded_and_listed(hub: Hub, name: str):
    files = {"config.json": b"{}", "weights/model.safetensors": b"w" * 1000}
    hub.repository("model", name, files)
    folder = snapshot_download(name)
    with open(f"{folder}/weights/model.safetensors", "rb") as stream:
        assert stream.read() == files["weights/model.safetensors"]
    assert sorted(HfFileSystem().find(name)) == sorted(f"{name}/{path}" for path in files)


def test_gated_and_private_repositories_are_refused(hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch):
    hub.repository("model", f"{name}-gated", {"config.json": b"{}"}, gated=True)
    hub.repository("model", f"{name}-private", {"config.json": b"{}"}, private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token("bob", organizations=()))
    with pytest.raises(GatedRepoError):
        hf_hub_download(f"{name}-gated", "config.json")
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info(f"{name}-private")
