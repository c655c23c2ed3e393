"""A run reports what it asked of the Hub, and no file that it writes has the token."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import spec
from jobs.hub import session
from jobs.plan import planning
from jobs.plan.text import lines
from jobs.report import history, page
from jobs.spec import content as settings
from jobs.store import Store
from tests import lake
from tests.hub.local import Hub
from transforms.errors import SpecError


@pytest.mark.parametrize("workers", [1, 2])
def test_the_requests_of_all_processes_are_reported(
    hub: Hub, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    name, token = f"org/{uuid.uuid4().hex[:12]}", hub.token("ada")
    monkeypatch.setenv("HF_TOKEN", token)
    folder = models / "sentiment"
    hub.repository("model", name, {file.name: file.read_bytes() for file in folder.iterdir()}, private=True)
    source = lake.make_lake(tmp_path / "in", files=2, n=10)
    content = lake.job(source, tmp_path / "out", models, runner={"workers": workers})
    content["tasks"][0]["model"] = name
    session.taken()
    hub.requests.clear()
    report = lake.execute(content)
    assert report.hub_requests == len(hub.requests) > 5
    size = (folder / "model.safetensors").stat().st_size
    assert size < report.hub_bytes < 2 * size
    shown = dict(page.summary(history.read(Store(str(tmp_path / "out")), "latest")))
    assert shown["Hub"].startswith(f"{report.hub_requests} requests, ")
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or token.encode() not in file.read_bytes(), file


def test_a_token_in_a_job_file_is_refused_without_being_shown(models: Path, tmp_path: Path):
    token = f"hf_{'Ab1' * 11}x"
    content = lake.job(tmp_path, tmp_path / "out", models, description=f"uses {token}")
    with pytest.raises(SpecError, match="description holds a token of the Hub") as caught:
        spec.parse(content)
    assert token not in str(caught.value)


def test_a_token_in_an_override_or_of_another_form_is_refused_too(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    token = f"hf_{'Ab1' * 11}x"
    file = tmp_path / "job.yaml"
    file.write_text("name: x\n")
    with pytest.raises(SpecError, match=r"source\.token holds a token of the Hub") as caught:
        settings.load(file, [f"source.token={token}"], "job file", [], "source.limit=1000")
    assert token not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "AKCp8-own-form")
    with pytest.raises(SpecError, match="description holds a token of the Hub"):
        spec.parse(lake.job(tmp_path, tmp_path / "out", models, description="AKCp8-own-form"))


def test_the_plan_says_about_how_many_requests_a_run_needs(hub: Hub, models: Path, tmp_path: Path):
    name, folder = f"org/{uuid.uuid4().hex[:12]}", models / "sentiment"
    rows = lake.rows(40_000)
    wide = rows.append_column("unused", pa.array([uuid.uuid4().bytes * 8 for _ in range(len(rows))]))
    stream = io.BytesIO()
    pq.write_table(wide, stream, row_group_size=10_000)
    hub.repository("dataset", name, {f"data/train-{i}.parquet": stream.getvalue() for i in range(3)})
    hub.repository("model", name, {file.name: file.read_bytes() for file in folder.iterdir()})
    content = lake.job(tmp_path, tmp_path / "out", models)
    content["source"] = {"dataset": name, "columns": ["id", "text"], "limit": 60}
    content["tasks"][0]["model"] = name
    planned = planning.make(spec.parse(content))
    said = dict(lines(planned))["Hub"]
    hub.requests.clear()
    lake.execute(content)
    # Two more ask where the branches are.
    answered = [each for each in hub.requests if each.status != 302 or each.method == "HEAD"]
    assert said == f"about {len(answered) - 2} requests"
