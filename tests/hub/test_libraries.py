"""datasets, transformers and peft as they are installed work with the Hub of the tests."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.hub.hub import Hub


def parquet(rows: int) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(rows)], "number": list(range(rows))}), stream)
    return stream.getvalue()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("manner", ["", "redirects", "compresses"])
def test_a_private_data_set_is_loaded_with_a_token(
    hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch, streaming: bool, manner: str
):
    import datasets

    monkeypatch.setattr(hub, manner or "redirects", bool(manner))
    files = {"data/train-0.parquet": parquet(3), "data/test.csv": b"text,number\na,0\n"}
    hub.repository("dataset", name, files, private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    rows = datasets.load_dataset(name, data_files="data/train-0.parquet", split="train", streaming=streaming)
    assert [row["text"] for row in rows] == ["text 0", "text 1", "text 2"]
    rows = datasets.load_dataset(name, data_files="data/test.csv", split="train", streaming=streaming)
    assert list(rows) == [{"text": "a", "number": 0}]


def test_a_data_set_is_pushed_with_its_splits_and_loaded(hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    pushed = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    pushed = pushed.cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    pushed.push_to_hub(name, split="train")
    pushed.select([1]).push_to_hub(name, split="test")
    found = datasets.load_dataset(name)
    assert {split: rows["text"][:] for split, rows in found.items()} == {"train": ["a", "b"], "test": ["b"]}
    assert found["train"].features["label"].names == ["no", "yes"]


def test_a_model_and_an_adapter_are_loaded(hub: Hub, name: str, models: Path, tmp_path: Path):
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    hub.repository("model", name, files_of(models / "sentiment"))
    model = AutoModelForSequenceClassification.from_pretrained(name)
    words = AutoTokenizer.from_pretrained(name)("a good day", return_tensors="pt")
    adapter = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False))
    adapter.eval()
    expected = adapter(**words).logits
    adapter.save_pretrained(tmp_path)
    hub.repository("model", f"{name}-adapter", files_of(tmp_path))
    loaded = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(name), f"{name}-adapter")
    loaded.eval()
    assert torch.equal(loaded(**words).logits, expected)
