"""With HF_HUB_OFFLINE=1 a whole run works from what is on the machine, or says what is missing."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import lake
from tests.hub.local import Hub


def test_a_run_that_was_made_once_is_made_again_without_the_network(
    hub: Hub, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = f"org/{uuid.uuid4().hex[:12]}"
    stream = io.BytesIO()
    pq.write_table(lake.rows(40), stream)
    hub.repository("dataset", name, {f"data/train-{i}.parquet": stream.getvalue() for i in range(2)})
    hub.repository("model", name, {file.name: file.read_bytes() for file in (models / "sentiment").iterdir()})
    content = lake.job(tmp_path, tmp_path / "online", models)
    content["source"] = {"dataset": name, "columns": ["id", "text"]}
    content["tasks"][0]["model"] = name
    lake.execute(content)
    hub.requests.clear()

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = lake.write_job(tmp_path, content | {"sink": {"path": str(tmp_path / "offline")}, "runner": {"workers": 2}})
    done = lake.command("run", file)
    assert done.returncode == 0, done.stderr
    assert lake.read(tmp_path / "offline").num_rows == 80
    assert hub.requests == []
