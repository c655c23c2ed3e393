"""What names the models of a column names the smaller one too: the trace of a row, and the runs that used a version."""

import json
import shutil

import pytest

from jobs import spec
from jobs.registry import Registry, used
from jobs.sink import open_sink
from jobs.trace import trace
from jobs.trace.text import text
from tests import cascades
from tests.jobs.registry import versions
from tests.lake import execute


def traced(content):
    return trace(open_sink(spec.parse(content).sink), "id = '300-00003'", 1)


def test_a_row_is_traced_to_both_models_that_may_have_answered_it(made):
    execute(made)
    found, measured = traced(made), cascades.measured(made)
    first = json.loads(found.rows[0].to_json())["columns"][0]["settings"]["first"]
    assert (first["model"]["name"], first["threshold"]) == (made["tasks"][0]["first"]["model"], measured.threshold)
    assert (first["adapter"], first["dtype"], first["engine"], first["device"]) == (None, "float32", "torch", "cpu")
    said = f"or, if it was sure with a confidence of {measured.threshold:.4g} or more, the smaller model"
    assert f"{said} {first['model']['name']} ({first['model']['commit']}), float32, torch, cpu" in text(found)


def test_a_smaller_model_that_answered_nothing_is_not_named(tmp_path, made):
    made["tasks"][0]["first"] |= {"agree": 0.99, "confidence": 0.95}
    execute(made)
    found = traced(made)
    assert found.rows[0].columns[0].settings.first is None
    assert "the smaller model" not in text(found)


@pytest.mark.parametrize("is_planned", [True, False], ids=["plan", "footer"])
def test_the_runs_that_used_a_version_as_a_smaller_model_are_found(tmp_path, made, pairs, monkeypatch, is_planned):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry = Registry(str(tmp_path / "registry"))
    folder = shutil.copytree(pairs["sentiment"], tmp_path / "small")
    version = registry.add(folder, versions.about(kind="model", method="full")).version
    registry.promote(version, "gate", "first")
    made["tasks"][0]["first"]["model"] = f"{registry.url}@champion"
    run_id = execute(made).run_id
    sink = used.open_sink(str(tmp_path / "out"))
    if not is_planned:
        sink.delete(f"_nightscribe/plans/{run_id}.json")
    assert used.runs_with(sink, registry.version(version)) == [used.Use(run_id, 400)]
