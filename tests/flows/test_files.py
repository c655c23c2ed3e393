"""Which files of a folder are job files, which are training files, and which of them cannot be deployed together."""

from pathlib import Path

import pytest
import yaml

from flows import deployments, files, project
from flows.enrich import enrich
from flows.files import Job, Training
from flows.retrain import retrain
from tests import lake
from transforms.errors import SpecError

TRAINING = {
    "name": "sentiment",
    "task": "classify",
    "base": {"model": "org/base"},
    "data": {"train": {"path": "labels"}},
    "registry": "adapters/sentiment",
    "schedule": {"cron": "0 4 * * 0", "timezone": "Europe/Berlin"},
}


@pytest.fixture
def folder(tmp_path, models, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    write("reviews", lake.job("in", "out", models) | {"name": "reviews"})
    write("sentiment", TRAINING)
    return Path("specs")


def write(name, content):
    Path(f"specs/{name}.yaml").write_text(yaml.safe_dump(content))


def test_job_files_and_training_files_are_told_apart_by_their_keys(folder):
    assert [type(each) for each in files.read_all(folder)] == [Job, Training]


def test_making_a_deployment_leaves_the_flows_as_they_are(folder):
    for each, flow in zip(files.read_all(folder), (enrich, retrain), strict=True):
        made = deployments.deployment(each, "pool", folder)
        assert each.flow is flow
        assert not hasattr(flow.fn, "__prefect_self__")
        assert list(made._parameter_openapi_schema.properties) == list(flow.parameters.properties)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sink": {"path": "out"}}, r"sink is not a key"),
        ({"approval": "slack"}, r"approval is 'slack'; choices: 'none' or 'prefect'"),
        ({"approval_timeout_days": 0}, r"approval_timeout_days is 0; input should be greater than 0"),
    ],
)
def test_a_mistake_in_a_training_file_is_reported_as_one(folder, changes, message):
    write("sentiment", TRAINING | changes)
    with pytest.raises(SpecError, match=message):
        files.read_all(folder)


@pytest.mark.parametrize("content", [{"name": "notes"}, {"sink": {}, "data": {}}])
def test_a_file_that_is_neither_is_refused_in_one_sentence(folder, content):
    write("third", content)
    with pytest.raises(SpecError, match=r"third.yaml has the keys .* which make neither a job file .* nor a training"):
        files.read_all(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"registry": "adapters/other"}, "name 'sentiment' is used in both .*sentiment.yaml and .*third.yaml"),
        ({"name": "reviews", "registry": "adapters/other"}, "name 'reviews' is used in both"),
        ({"name": "third", "registry": "./adapters/sentiment/"}, "registry './adapters/sentiment/' is used in both"),
    ],
)
def test_two_files_with_one_name_or_one_registry_are_refused(folder, changes, message):
    write("third", TRAINING | changes)
    with pytest.raises(SpecError, match=message):
        files.read_all(folder)


def test_the_file_for_prefects_own_command_has_the_trainings_too(folder):
    _, made = yaml.safe_load(project.project(files.read_all(folder)))["deployments"]
    assert (made["name"], made["entrypoint"]) == ("sentiment", "flows.retrain.retrain")
    assert made["parameters"] == {"training": "specs/sentiment.yaml"}
    assert made["schedules"] == [{"slug": "job-file", "cron": "0 4 * * 0", "timezone": "Europe/Berlin"}]
    assert made["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
