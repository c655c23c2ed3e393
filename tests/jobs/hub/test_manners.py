"""Hubs differ in what the API leaves open; datasets, models and commits work at all of them."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd

from jobs import source
from jobs.hub.commits import Commits
from jobs.models import hub as models_hub
from jobs.spec import SourceSpec
from tests.hub.hub import Hub

# Attributes of the Hub of the tests.
MANNERS: dict[str, dict[str, Any]] = {
    "the public Hub": {"redirects": True, "compresses": True},
    "one whose storage is at its own address": {"stores_here": True},
    "one that keeps large files itself": {"serves_large": True, "page": 2},
    "one without git-lfs": {"lfs": "regular", "hides_gated": True},
    "one that gives no reasons": {"states_codes": False},
}
TEXTS = {"id": [f"r{i}" for i in range(20_000)], "text": [f"text {i}" for i in range(20_000)]}
NUMBERS = {f"n{i}": np.random.default_rng(i).random(20_000) for i in range(10)}


@pytest.mark.parametrize("manner", MANNERS)
def test_datasets_are_read_models_downloaded_and_commits_made(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch, manner: str
):
    for attribute, value in MANNERS[manner].items():
        monkeypatch.setattr(hub, attribute, value)
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    name = f"org/{uuid.uuid4().hex[:12]}"
    rows = list(zip(*TEXTS.values(), strict=True))
    stream = io.BytesIO()
    pq.write_table(pa.table(TEXTS | NUMBERS), stream, row_group_size=5000)
    lines = "".join(f"{key},{text}\n" for key, text in rows)
    for path, content in {"a.parquet": stream.getvalue(), "a.csv": f"id,text\n{lines}".encode()}.items():
        hub.repository("dataset", f"{name}-{path[2:]}", {path: content}, private=True)
        section = SourceSpec(dataset=f"{name}-{path[2:]}", columns=["id", "text"])
        hub.requests.clear()
        planned, shards = source.plan(section)
        batches = [batch for shard in shards for batch in source.read(planned, shard, 4096)]
        assert pa.Table.from_batches(batches).to_pydict() == TEXTS
        if path == "a.parquet":
            assert sum(request.sent for request in hub.requests) < len(content) / 2

    files = {file.name: file.read_bytes() for file in (models / "sentiment").iterdir()}
    hub.repository("model", name, files, private=True)
    folder = Path(models_hub.pin(name, None, "tasks.0.model").folder())
    assert {file.name: file.read_bytes() for file in folder.iterdir()}.items() <= files.items()
    assert (folder / "model.safetensors").exists()

    added = {"README.md": b"# Card\n", "model.safetensors": files["model.safetensors"][::-1]}
    commits = Commits("model", f"{name}-new", "registry")
    assert commits.add("add", lambda seen, again: [CommitOperationAdd(path, text) for path, text in added.items()])
    assert added.items() <= hub.repositories["model", f"{name}-new"].files().items()
