"""Several processes end together, whichever of them is killed, and another number of processes goes on."""

import signal
import subprocess
import sys

import psutil
import pytest

from jobs.training import child, data, processes, train
from jobs.training.request import Request
from tests.jobs.training import made
from tests.jobs.training.test_processes import curves, without_dropout
from tests.jobs.training.test_train import started, wait_for

pytestmark = pytest.mark.skipif(processes.cores() < 2, reason="two processes need two cores")

SUPERVISOR = """
import sys
from jobs.training import data, spec, train
read = spec.read(sys.argv[1])
train.train(read, data.load(read), train.Path(sys.argv[2]))
"""


def of_training(folder, module="jobs.training"):
    """The processes of a training: torchrun, and those that it started."""
    found = []
    for each in psutil.process_iter():
        try:
            words = each.cmdline()
        except psutil.Error:
            continue
        if str(folder) in words and any(word.startswith(module) for word in words):
            found.append(each)
    return found


def complete(folder):
    return list(folder.glob("checkpoints/checkpoint-*/complete"))


def training_file(tmp_path, model, **training):
    fast = {"learning_rate": 1e-3, "save_steps": 10, "logging_steps": 1, "max_steps": 60}
    return made.file(tmp_path, "classify", model, made.labelled(101), training=fast | training)


def test_whichever_process_is_killed_all_end_and_another_number_of_them_goes_on(tmp_path, models):
    model = without_dropout(models / "mlm", tmp_path / "model")
    spec = training_file(tmp_path, model, per_device_train_batch_size=4, processes=2)
    rows, folder = data.load(spec), tmp_path / "work"

    # The process that waits is killed with -9: torchrun and both processes end.
    (tmp_path / "file.yaml").write_text(spec.model_dump_json(exclude_unset=True))
    waiting = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(tmp_path / "file.yaml"), str(folder)])
    wait_for(lambda: complete(folder), 120)
    assert len(of_training(folder)) == 3
    waiting.kill()
    waiting.wait()
    wait_for(lambda: not of_training(folder), 10)
    assert not (folder / "result.json").exists()

    # One of the processes is killed with -9, after the next checkpoint.
    before = len(complete(folder)), max(complete(folder))
    thread, errors = started(spec, rows, folder)
    wait_for(lambda: complete(folder) and max(complete(folder)) != before[1], 120)
    second = next(p for p in of_training(folder, "jobs.training.child") if p.environ()["RANK"] == "1")
    second.send_signal(signal.SIGKILL)
    thread.join(30)
    assert "process 2 of the training was ended by SIGKILL (often too little memory); run again" in str(errors[0])
    assert not of_training(folder)

    # One process goes on, with as many rows in a step, and has the losses of a training that was never interrupted.
    alone = training_file(tmp_path, model, per_device_train_batch_size=8)
    result = train.train(alone, rows, folder)
    assert result.resumed
    assert result.batch == {"rows_at_once": 8, "accumulated": 1, "processes": 1}
    whole = tmp_path / "whole"
    whole.mkdir()
    train._prepare(whole, train.request_of(alone, rows), rows)
    child.learn(whole, Request.read(whole))
    expected, found = curves(whole), curves(folder)
    assert [each[:2] for each in found] == [each[:2] for each in expected]
    assert [each[2] for each in found] == pytest.approx([each[2] for each in expected], rel=1e-4)


def test_two_processes_that_are_asked_to_stop_end_within_seconds(tmp_path, models):
    spec = training_file(tmp_path, models / "mlm", processes=2, max_steps=100_000)
    assert made.seconds_to_stop(spec, tmp_path) < 10
    assert not of_training(tmp_path / "work")
