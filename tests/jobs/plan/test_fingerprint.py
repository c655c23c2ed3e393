"""A fingerprint changes with what a job asks for, part by part, and not with the machine that plans it."""

import json
from dataclasses import replace

import pytest
import torch

from jobs import spec
from jobs.models import pool
from jobs.plan import Plan, planning
from jobs.plan.fingerprint import Fingerprint
from tests import lake
from transforms import device
from transforms.errors import ModelError, RunError, SpecError


def plan_of(tmp_path, models, tasks=None, **source):
    content = lake.job({"path": str(tmp_path / "in")} | source, tmp_path / "out", models)
    content["tasks"] = tasks or [content["tasks"][0] | {"dtype": "auto"}]
    return planning.make(spec.parse(content))


def task(models, **more):
    return {"task": "classify", "column": "text", "model": str(models / "sentiment"), "into": "sentiment"} | more


@pytest.fixture
def files(tmp_path):
    return lake.make_lake(tmp_path / "in", files=1, n=4)


def test_dtype_auto_gives_the_same_fingerprint_on_a_cpu_that_prefers_bfloat16(tmp_path, models, files, monkeypatch):
    plans = []
    for speedup in (0.6, 3.0):
        monkeypatch.setattr(device, "has_bfloat16", lambda: True)
        monkeypatch.setattr(device, "bfloat16_speedup", lambda shape, speedup=speedup: speedup)
        plans.append(plan_of(tmp_path, models))
    assert [plan.tasks[0].dtype for plan in plans] == ["float32", "bfloat16"]
    assert plans[0].fingerprint == plans[1].fingerprint


@pytest.mark.parametrize("change", [{"dtype": "float32"}, {"top_k": 2}, {"model": "topics"}, {"long_text": "window"}])
def test_a_changed_task_changes_its_own_part_only(tmp_path, models, files, change):
    change = {key: str(models / value) if key == "model" else value for key, value in change.items()}
    other = task(models, into="other", dtype="int8")
    before = plan_of(tmp_path, models, [task(models), other]).fingerprint
    after = plan_of(tmp_path, models, [task(models, **change), other]).fingerprint
    assert dict(before.tasks)["sentiment"] != dict(after.tasks)["sentiment"]
    assert dict(before.tasks)["other"] == dict(after.tasks)["other"]
    assert after.reusable(before) == {"other": "other"}


def test_a_task_that_reads_the_column_of_another_changes_with_it(tmp_path, models, files):
    reader = {"task": "classify", "column": "first.label", "model": str(models / "spam"), "into": "second"}
    one = plan_of(tmp_path, models, [task(models, into="first"), reader]).fingerprint
    two = plan_of(tmp_path, models, [task(models, into="first", model=str(models / "spam")), reader]).fingerprint
    assert dict(one.tasks)["second"] != dict(two.tasks)["second"]


def test_another_selection_of_rows_leaves_nothing_to_reuse(tmp_path, models, files):
    before = plan_of(tmp_path, models).fingerprint
    after = plan_of(tmp_path, models, where="stars > 1").fingerprint
    assert before.rows != after.rows
    assert after.reusable(before) == {}
    assert not after.accepts(before, keep_models=True)
    assert after.difference(before) == "other rows are read (where, prepare, types)"


def test_a_fingerprint_is_the_same_after_a_round_trip_through_json():
    fingerprint = Fingerprint("c", "r", (("b", "1"), ("a", "2")))
    assert Fingerprint.from_json(fingerprint.to_json()) == fingerprint
    assert Fingerprint.from_json("c-w") != fingerprint


def test_a_plan_file_holds_every_default_and_survives_a_round_trip(tmp_path, models, files):
    plan = plan_of(tmp_path, models)
    text = plan.to_json()
    assert Plan.from_json(text).to_json() == text
    assert '"stride": 64' in text
    assert '"max_fraction": 0.01' in text


def test_a_plan_of_another_format_is_refused(tmp_path, models, files):
    text = plan_of(tmp_path, models).to_json().replace('"format": 7', '"format": 1')
    with pytest.raises(RunError, match=r"the plan has format 1, and this version of nightscribe reads format 7"):
        Plan.from_json(text)


def test_a_damaged_plan_is_refused_in_one_sentence(tmp_path, models, files):
    text = plan_of(tmp_path, models).to_json()
    whole = json.loads(text)
    missing = [json.dumps({name: value for name, value in whole.items() if name != key}) for key in whole]
    other = [json.dumps(whole | {key: [1]}) for key in ("spec", "source", "tasks", "schema", "fingerprint", "shards")]
    for content in ("", "[]", "null", "{}", text[: len(text) // 2], *missing, *other):
        with pytest.raises(RunError, match=r"^the plan is damaged; plan again$"):
            Plan.from_json(content)


def test_a_device_map_changes_no_fingerprint_and_reaches_the_loader(tmp_path, models, files):
    one = plan_of(tmp_path, models, [task(models)])
    spread = plan_of(tmp_path, models, [task(models, device_map="auto")])
    assert one.fingerprint == spread.fingerprint
    assert Plan.from_json(spread.to_json()).tasks[0].reference().device_map == "auto"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"device": "cuda:1"}, r"device_map is 'auto', which uses all GPUs, and device is 'cuda:1'; leave out one"),
        ({"engine": "onnx"}, r"device_map is 'auto', and engine onnx computes on one device; use engine: auto"),
        ({"dtype": "int8"}, r"device_map is 'auto', and int8 computes on a CPU; use dtype: auto, bfloat16"),
    ],
)
def test_keys_that_contradict_a_device_map_are_refused(tmp_path, models, files, more, sentence):
    with pytest.raises(SpecError, match=rf"tasks\.0\.{sentence}"):
        plan_of(tmp_path, models, [task(models, device_map="auto", **more)])


def test_a_worker_without_the_device_of_the_plan_refuses_it(tmp_path, models, files):
    plan = plan_of(tmp_path, models)
    assert plan.tasks[0].device == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ModelError, match=r"device is 'cuda:99', and torch sees .* choose"):
        pool.load(replace(plan.tasks[0], device="cuda:99"))
