"""The retraining flow on a real Prefect server: a round, its artifacts, and errors as one sentence."""

import logging
import re

import pyarrow.parquet as pq
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.testing.utilities import prefect_test_harness

from flows import logs
from flows.retrain import retrain
from tests.jobs.training import made


@pytest.fixture(scope="module", autouse=True)
def server():
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def training(tmp_path, models, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, rows in (("labels", made.labelled(40, seed=1)), ("holdout", made.labelled(60, seed=2))):
        (tmp_path / name).mkdir()
        pq.write_table(rows, tmp_path / name / "a.parquet")
    content = {
        "name": "sentiment",
        "task": "classify",
        "base": {"model": str(models / "mlm")},
        "data": {"train": {"path": str(tmp_path / "labels")}, "holdout": {"path": str(tmp_path / "holdout")}},
        "training": {"num_train_epochs": 1, "per_device_train_batch_size": 8},
        "registry": str(tmp_path / "registry"),
        "gate": {"metric": "accuracy"},
    }
    file = tmp_path / "training.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def artifacts(key):
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))


def test_a_round_promotes_the_first_version_and_shows_the_comparison_and_the_curves(training):
    outcome = retrain(str(training))
    assert (outcome["decision"], outcome["approved"]) == ("promoted", True)
    (comparison,) = artifacts("sentiment-comparison")
    assert "challenger" in comparison.data
    (report,) = artifacts("sentiment-retraining")
    assert "it is the first version, and reaches the floor" in report.data
    assert "data:image/png;base64," in report.data
    assert not any(text in report.data for text in made.labelled(60, seed=2)["text"].to_pylist())
    (progress,) = artifacts("sentiment-training")
    assert progress.type == "progress"
    assert retrain(str(training))["decision"] == "nothing new"


def test_the_log_of_a_run_says_in_how_many_steps_it_trains(training, caplog):
    logging.getLogger(logs.TASKS).addHandler(caplog.handler)
    try:
        retrain(str(training))
    finally:
        logging.getLogger(logs.TASKS).removeHandler(caplog.handler)
    assert any(re.match(r"sentiment: step \d+ of 5", message) for message in caplog.messages), caplog.messages


def test_a_wrong_training_file_fails_with_one_sentence(training):
    state = retrain(str(training), overrides=["training.lerning_rate=1"], return_state=True)
    assert state.is_failed()
    assert "lerning_rate" in state.message
    assert "learning_rate" in state.message
