"""A training: its adapter serves the nightly job, and kill -9 changes nothing but the time."""

import json
import os
import signal
import threading
import time

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.training import data, train
from tests import lake, tiny
from tests.jobs.training import made
from transforms.errors import ModelError, RunError


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def nightly(tmp_path, table, task):
    """The column that a job with the adapter writes."""
    (tmp_path / "in").mkdir()
    rows = table.append_column("id", pa.array([f"{i:04}" for i in range(len(table))]))
    pq.write_table(rows, tmp_path / "in" / "a.parquet")
    lake.execute(
        {
            "name": "night",
            "source": {"path": str(tmp_path / "in")},
            "tasks": [task | {"into": "found", "dtype": "float32"}],
            "sink": {"path": str(tmp_path / "out")},
        }
    )
    return lake.read(tmp_path / "out")["found"].to_pylist()


def test_a_trained_classifier_serves_the_nightly_job_with_its_own_labels(tmp_path):
    # Large random weights would hide the words, so that what is learnt depends on the processor.
    base = tiny.bert(tmp_path / "base", "mlm", ["a"], initializer_range=0.05)
    fast = made.FAST | {"num_train_epochs": 6, "learning_rate": 1e-2}
    wide = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    rows, result = made.trained(tmp_path, "classify", base, made.labelled(400), training=fast, adapter=wide)
    assert result.labels == ["bad", "good"]
    task = {"task": "classify", "column": "text", "model": str(base), "adapter": str(result.folder)}
    found = [each["label"] for each in nightly(tmp_path, rows.holdout.select(["text"]), task)]
    truth = rows.holdout["label"].to_pylist()
    assert sum(a == b for a, b in zip(found, truth, strict=True)) > 0.85 * len(truth)
    assert [line["step"] for line in result.curves if "loss" in line]
    assert [line["step"] for line in result.curves if "eval_loss" in line]
    assert len(pq.read_table(result.losses)) == len(rows.validation)
    assert result.base["model"] == str(base)


@pytest.mark.usefixtures("in_process")
def test_labels_of_the_base_keep_their_order(tmp_path, models):
    rows = made.labelled(90, ("positive", "negative", "neutral"))
    _, result = made.trained(tmp_path, "classify", models / "sentiment", rows)
    assert result.labels == ["negative", "neutral", "positive"]


def started(spec, rows, folder):
    """A training in a thread of its own, its errors, and the process that trains."""
    errors = []

    def run():
        try:
            train.train(spec, rows, folder)
        except RunError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def wait_for(condition, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def children(folder):
    return [each for each in psutil.Process().children() if str(folder) in " ".join(each.cmdline())]


def test_a_killed_training_goes_on_and_gives_the_same_bytes(tmp_path, models):
    # With save_steps given, the result has the weights of the last step, not those of the best checkpoint; 7 steps end
    # in the middle of an epoch.
    fast = made.FAST | {"num_train_epochs": 3, "per_device_train_batch_size": 4, "save_steps": 7, "logging_steps": 1}
    spec = made.file(tmp_path, "classify", models / "mlm", made.labelled(200), training=fast)
    rows = data.load(spec)
    whole = train.train(spec, rows, tmp_path / "whole")
    folder = tmp_path / "killed"
    thread, errors = started(spec, rows, folder)
    wait_for(lambda: list(folder.glob("checkpoints/checkpoint-*/complete")))
    children(folder)[0].send_signal(signal.SIGKILL)
    thread.join()
    assert "was ended by SIGKILL" in str(errors[0])
    assert not (folder / "result.json").exists()
    again = train.train(spec, rows, folder)
    assert again.resumed
    assert not whole.resumed
    assert contents(again.folder) == contents(whole.folder)
    assert again.curves == whole.curves


@pytest.mark.usefixtures("in_process")
def test_a_finished_training_is_not_repeated_and_another_file_starts_anew(tmp_path, models):
    _, result = made.trained(tmp_path, "classify", models / "mlm", made.labelled(60))
    before = (result.folder / "adapter_model.safetensors").stat().st_mtime_ns
    made.trained(tmp_path, "classify", models / "mlm", made.labelled(60))
    assert (result.folder / "adapter_model.safetensors").stat().st_mtime_ns == before
    changed = made.FAST | {"learning_rate": 5e-3}
    _, other = made.trained(tmp_path, "classify", models / "mlm", made.labelled(60), training=changed)
    assert not other.resumed
    assert (other.folder / "adapter_model.safetensors").stat().st_mtime_ns != before


def test_a_loss_that_is_not_a_number_stops_the_training_with_a_sentence(tmp_path, models):
    fast = made.FAST | {"learning_rate": 1e30, "max_grad_norm": 0, "num_train_epochs": 4}
    with pytest.raises(RunError, match=r"the loss was nan at step \d+ of \d+ .*lower training.learning_rate"):
        made.trained(tmp_path, "classify", models / "mlm", made.labelled(80), training=fast, method="full")


def test_a_training_that_is_asked_to_stop_ends_within_seconds(tmp_path, models):
    spec = made.file(tmp_path, "classify", models / "mlm", made.labelled(), training=made.FAST | {"max_steps": 100_000})
    assert made.seconds_to_stop(spec, tmp_path) < 10
    assert not children(tmp_path / "work")


def test_two_trainings_in_one_folder_are_refused(tmp_path, models):
    spec = made.file(tmp_path, "classify", models / "mlm", made.labelled())
    rows = data.load(spec)
    thread, errors = started(spec, rows, tmp_path / "work")
    wait_for(lambda: children(tmp_path / "work"))
    with pytest.raises(RunError, match="another training runs in"):
        train.train(spec, rows, tmp_path / "work")
    thread.join()
    assert errors == []


def test_settings_that_peft_refuses_are_one_sentence(tmp_path, models):
    with pytest.raises(ModelError, match="adapter: peft refuses these settings: No modules were targeted"):
        made.trained(tmp_path, "classify", models / "mlm", made.labelled(), adapter={"target_modules": ["nothing"]})


def test_the_child_ends_when_its_parent_is_gone(tmp_path, models):
    spec = made.file(tmp_path, "classify", models / "mlm", made.labelled(), training=made.FAST | {"max_steps": 100_000})
    rows = data.load(spec)
    if (parent := os.fork()) == 0:
        train.train(spec, rows, tmp_path / "work")
        os._exit(0)
    (child,) = wait_for(lambda: psutil.Process(parent).children())
    wait_for((tmp_path / "work" / "progress.jsonl").exists)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    child.wait(10)
    assert json.loads((tmp_path / "work" / "request.json").read_text())["task"] == "classify"
