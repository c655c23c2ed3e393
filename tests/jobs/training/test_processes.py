"""Several processes learn what one learns; what a machine has not is refused in one sentence."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from jobs.registry import Registry
from jobs.retraining import challengers
from jobs.training import child, data, processes, train
from jobs.training.request import LOSSES, RESULT_JSON, Request
from tests.jobs.training import made
from transforms.errors import ModelError, RunError, SpecError

TWO = pytest.mark.skipif(processes.cores() < 2, reason="two processes need two cores")


def without_dropout(source, folder):
    """A copy of a model whose loss does not depend on random numbers."""
    config = json.loads((source / "config.json").read_text())
    config |= {key: 0.0 for key in config if "dropout" in key or key.endswith("_pdrop")}
    folder.mkdir(parents=True)
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def prepared(folder, task, model, rows, validation=0.1, **training):
    """A folder as the process that trains finds it."""
    training = {"learning_rate": 2e-3, "logging_steps": 1, "num_train_epochs": 2} | training
    source = {"train": {"path": str(folder / "rows.parquet")}, "validation": validation}
    spec = made.file(folder, task, model, rows, training=training, data=source)
    loaded = data.load(spec)
    work = folder / "work"
    work.mkdir()
    train._prepare(work, train.request_of(spec, loaded), loaded)
    return work


def held_out(work):
    """What the network says of rows whose labels it has not learnt."""
    rows = pq.read_table(work / LOSSES).sort_by("key")
    return rows["text"].to_pylist(), rows["loss"].to_pylist()


def curves(work):
    entries = json.loads((work / RESULT_JSON).read_text())["curves"]
    return [(entry["step"], key, entry[key]) for entry in entries for key in ("loss", "eval_loss") if key in entry]


def several_labels(n):
    rows = made.labelled(n)
    labels = [[name] if i % 3 else [name, "long"] for i, name in enumerate(rows["label"].to_pylist())]
    return pa.table({"text": rows["text"], "label": labels})


@TWO
def test_two_processes_have_the_loss_curve_of_one_for_every_task(tmp_path, models, writers, causal_model):
    tasks = {
        # 8 rows a step: the last step of an epoch has few rows, for some tasks a single one.
        "classify": (models / "mlm", made.labelled(90)),
        "several": (models / "mlm", several_labels(50)),
        "ner": (models / "mlm", made.entities(50)),
        "summarize": (writers("t5"), made.pairs(50)),
        "generate": (causal_model("gpt2"), made.pairs(50, ("prompt", "completion"))),
    }
    one, two = [], []
    for name, (source, rows) in tasks.items():
        model = without_dropout(source, tmp_path / "models" / name)
        task = "classify" if name == "several" else name
        # Without validation rows two more trainings look for mislabelled rows.
        validation = 0 if name == "several" else 0.1
        (tmp_path / name).mkdir()
        one.append(prepared(tmp_path / name / "one", task, model, rows, validation, per_device_train_batch_size=8))
        many = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "processes": 2}
        two.append(prepared(tmp_path / name / "two", task, model, rows, validation, **many))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    words = [*launch, "--nproc-per-node=2", "-m", "tests.jobs.training.learn", *map(str, two)]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | {"ACCELERATE_USE_CPU": "1"})
        for work in one:
            child.learn(work, Request.read(work))
        assert running.wait(300) == 0, (tmp_path / "log").read_text()
    for name, alone, shared in zip(tasks, one, two, strict=True):
        assert Request.read(alone).digest == Request.read(shared).digest, name
        expected, found = curves(alone), curves(shared)
        assert len(expected) >= 10, name
        assert [each[:2] for each in found] == [each[:2] for each in expected], name
        assert [each[2] for each in found] == pytest.approx([each[2] for each in expected], rel=3e-5), name
        a, b = (load_file(work / "result" / "adapter_model.safetensors") for work in (alone, shared))
        assert all(torch.allclose(a[key], b[key], atol=2e-5) for key in a), name
    for alone, shared in ((one[0], two[0]), (one[1], two[1])):
        (texts, losses), (again, found) = held_out(alone), held_out(shared)
        assert texts == again
        assert len(texts) > 5
        assert found == pytest.approx(losses, rel=1e-4)
    # One process writes the progress: no step is there twice.
    lines = [json.loads(line) for line in (two[0] / "progress.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == sorted(set(steps))


def test_bfloat16_is_computed_where_the_file_says_so(tmp_path, models):
    found = []
    for precision in ("no", "bf16"):
        training = {"mixed_precision": precision, "max_steps": 6}
        work = prepared(tmp_path / precision, "classify", models / "mlm", made.labelled(50), **training)
        child.learn(work, Request.read(work))
        found.append([loss for _, key, loss in curves(work) if key == "loss"])
    assert found[0] == pytest.approx(found[1], rel=0.1)
    # The same losses would mean that nothing was computed in another precision.
    assert found[0] != pytest.approx(found[1], rel=1e-5)


@TWO
def test_an_error_in_two_processes_is_one_sentence(tmp_path, models):
    training = made.FAST | {"learning_rate": 1e30, "max_grad_norm": 0, "num_train_epochs": 4, "processes": 2}
    with pytest.raises(RunError, match=r"^the loss was nan at step \d+ of \d+ .*lower training.learning_rate"):
        made.trained(tmp_path, "classify", models / "mlm", made.labelled(80), training=training, method="full")


def refusal(tmp_path, models, **training):
    """The sentence about a training file, at plan time."""
    try:
        spec = made.file(tmp_path / "x", "classify", models / "mlm", made.labelled(40), training=training)
        train.request_of(spec, data.load(spec))
    except (ModelError, SpecError) as error:
        return str(error)
    raise AssertionError(f"{training} is not refused")


def config(tmp_path, **content):
    file = tmp_path / "accelerate.yaml"
    file.write_text(json.dumps({"num_processes": 2} | content))
    return str(file)


@pytest.mark.parametrize(
    ("training", "sentence"),
    [
        ({"processes": 4096}, r"training.processes is 4096, and this machine has \d+ CPU cores?; lower it"),
        ({"processes": 0}, "training.processes is 0; it is a whole number from 1 on"),
        ({"processes": "all"}, "training.processes is 'all'; it is a whole number"),
        ({"mixed_precision": "fp16"}, "mixed_precision is fp16, which needs a GPU.*choose bf16 or no"),
        ({"fp16": True}, "fp16, which needs a GPU"),
        ({"mixed_precision": "fp8"}, "mixed_precision is 'fp8'; choices: no, fp16, bf16"),
        ({"mixed_precision": "bf16", "bf16": True}, "say the same thing twice; remove training.bf16"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size cannot be set here: when memory is too small"),
        ({"accelerate_config": "nowhere.yaml"}, "accelerate_config is 'nowhere.yaml', which cannot be read"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="the sentences of a machine without GPUs")
def test_what_this_machine_has_not_is_one_sentence(tmp_path, models, training, sentence):
    assert re.search(sentence, refusal(tmp_path, models, **training))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the sentences of a machine without GPUs")
def test_a_file_of_accelerate_that_does_not_fit_is_one_sentence(tmp_path, models):
    def said(training=None, **content):
        return refusal(tmp_path, models, accelerate_config=config(tmp_path, **content), **(training or {}))

    for way in processes.ON_GPUS:
        assert f"({way}), which needs GPUs, and this machine has none" in said(distributed_type=way)
    assert "distributed_type is 'MEGATRON_LM'; choices: NO, MULTI_CPU" in said(distributed_type="MEGATRON_LM")
    assert "distributed_type is None" in said()
    assert "num_machines is 2; a training runs on one machine" in said(distributed_type="MULTI_CPU", num_machines=2)
    assert "num_processes is 'two'" in said(distributed_type="MULTI_CPU", num_processes="two")
    assert "training.processes is 4096" in said(distributed_type="MULTI_CPU", num_processes=4096)
    twice = said({"processes": 1}, distributed_type="MULTI_CPU")
    assert "training.processes is 1, and num_processes in training.accelerate_config is 2; remove one" in twice
    other = said({"mixed_precision": "no"}, distributed_type="MULTI_CPU", mixed_precision="bf16")
    assert "mixed_precision is no, and mixed_precision in training.accelerate_config is bf16" in other
    (tmp_path / "accelerate.yaml").write_text("distributed_type: [")
    assert "which cannot be read: while parsing" in refusal(
        tmp_path, models, accelerate_config=str(tmp_path / "accelerate.yaml")
    )


def test_our_keys_become_fields_of_the_library(tmp_path):
    layout, fields = processes.split({"processes": 2, "mixed_precision": "bf16", "learning_rate": 1e-4})
    assert (layout.processes, layout.mixed_precision) == (2, "bf16")
    assert fields == {"learning_rate": 1e-4, "bf16": True}
    # YAML reads an unquoted no as false.
    assert processes.split({"mixed_precision": False})[1] == {}
    file = config(tmp_path, distributed_type="MULTI_CPU", mixed_precision="bf16")
    layout, fields = processes.split({"accelerate_config": file})
    assert (layout.processes, layout.mixed_precision, fields["bf16"]) == (2, "bf16", True)


def test_processes_share_the_cores_and_one_process_takes_one_gpu(tmp_path, models, monkeypatch):
    spec = made.file(tmp_path, "classify", models / "mlm", made.labelled(40))
    request = train.request_of(spec, data.load(spec))
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setattr(processes, "cores", lambda: 12)
    module, environment = processes.command(request)
    assert module == "jobs.training.child"
    assert (environment["CUDA_VISIBLE_DEVICES"], "RANK" in environment) == ("2", False)
    module, environment = processes.command(replace(request, processes=4))
    assert module == "jobs.training.launch"
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["OMP_NUM_THREADS"]) == ("2,3", "3")


def test_the_digest_counts_the_rows_of_a_step_and_not_who_computes_them(tmp_path, models):
    def digest(**training):
        spec = made.file(tmp_path, "classify", models / "mlm", made.labelled(40), training=training)
        return train.request_of(spec, data.load(spec)).digest

    same = digest(per_device_train_batch_size=8)
    assert digest(per_device_train_batch_size=4, gradient_accumulation_steps=2) == same
    assert digest(per_device_train_batch_size=4) != same
    assert digest() == digest(gradient_accumulation_steps=1) != digest(gradient_accumulation_steps=2)
    if processes.cores() > 1:
        assert digest(per_device_train_batch_size=4, processes=2) == same
        assert digest(per_device_train_batch_size=8, processes=2) != same


def test_another_number_of_processes_goes_on_in_the_same_folder(tmp_path, models):
    def folder(**training):
        spec = made.file(tmp_path, "classify", models / "mlm", made.labelled(40), training=training)
        return challengers.work_folder(Registry(spec.registry), spec, data.load(spec)).name

    same = folder(per_device_train_batch_size=8, bf16=True)
    assert folder(per_device_train_batch_size=4, processes=2, mixed_precision="bf16") == same
    assert folder(per_device_train_batch_size=8, processes=2, mixed_precision="bf16") != same
