"""The files in deploy/accelerate/ are what accelerate and the training take; nothing here needs a GPU."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from jobs.training import launch, processes
from jobs.training.request import Request
from transforms.errors import ModelError

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))
REQUEST = Request(
    task="classify",
    method="lora",
    base="base",
    base_name="base",
    base_commit="1",
    base_fingerprint="1",
    labels=(),
    options={},
    arguments={},
    adapter={},
    train_hash="1",
    processes=2,
)


def layout(file):
    return processes.split({"accelerate_config": str(file)})


def launched(file):
    """The arguments of accelerate's launcher for a training, after its own checks."""
    found, _ = layout(file)
    request = replace(REQUEST, accelerate_config=found.accelerate_config, mixed_precision=found.mixed_precision)
    words = launch.arguments(request, Path("folder"))
    # Whether this machine has bf16 is checked by us, at the machine that trains.
    at = words.index("--mixed_precision")
    taken = []
    with pytest.MonkeyPatch.context() as patch:
        # Here the launcher would start the processes.
        for launcher in ("multi_gpu_launcher", "deepspeed_launcher"):
            patch.setattr(f"accelerate.commands.launch.{launcher}", taken.append)
        launch_command(launch_command_parser().parse_args(words[:at] + words[at + 2 :]))
    (args,) = taken
    assert (args.module, args.training_script, args.training_script_args) == (True, launch.MODULE, ["folder"])
    assert args.num_processes == 2
    return args


def variables(prepare, file):
    """What the launcher adds to the environment of each process."""
    found = prepare(launched(file))
    environment = found[1] if isinstance(found, tuple) else found
    return {key: value for key, value in environment.items() if os.environ.get(key) != value}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_and_the_training_read_every_file(file):
    config = load_config_from_file(str(file))
    assert isinstance(config, ClusterConfig)
    found, fields = layout(file)
    assert found.processes == config.num_processes == 2
    assert found.mixed_precision == config.mixed_precision == "bf16"
    assert fields == {"bf16": True}
    assert config.distributed_type in processes.ON_GPUS
    assert launched(file).num_machines == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="the sentence of a machine without GPUs")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_machine_without_gpus_refuses_every_file(file):
    with pytest.raises(ModelError, match=r"which needs GPUs, and this machine has none; remove it here: training.proc"):
        processes.refuse(*layout(file))


def test_deepspeed_that_is_not_installed_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs DeepSpeed, and it is not installed; run `pip install deepspeed`"):
        processes.refuse(*layout(FOLDER / "zero2.yaml"))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ModelError, match=r"training.processes is 2, and this machine has 1 GPU; lower it to at most 1"):
        processes.refuse(*layout(FOLDER / "ddp.yaml"))


def test_the_ddp_file_starts_a_process_on_each_gpu():
    args = launched(FOLDER / "ddp.yaml")
    assert (args.multi_gpu, args.use_fsdp, args.use_deepspeed) == (True, False, False)
    assert "FSDP_VERSION" not in variables(prepare_multi_gpu_env, FOLDER / "ddp.yaml")


def test_the_fsdp_file_makes_accelerate_s_second_version(monkeypatch):
    found = variables(prepare_multi_gpu_env, FOLDER / "fsdp2.yaml")
    assert found["ACCELERATE_USE_FSDP"] == "true"
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert "FULL_STATE_DICT" in str(plugin.state_dict_type)
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"


@pytest.mark.parametrize(("name", "stage", "device"), [("zero2", 2, "none"), ("zero3-offload", 3, "cpu")])
def test_the_zero_files_make_deepspeed_s_settings(monkeypatch, name, stage, device):
    # DeepSpeed is not installed: accelerate makes its settings without it, and nothing more is tested.
    _, found = prepare_deepspeed_cmd_env(launched(FOLDER / f"{name}.yaml"))
    found = {key: value for key, value in found.items() if os.environ.get(key) != value}
    assert found["ACCELERATE_USE_DEEPSPEED"] == "true"
    for key, value in found.items():
        monkeypatch.setenv(key, value)
    settings = DeepSpeedPlugin().deepspeed_config
    zero = settings["zero_optimization"]
    assert zero["stage"] == stage
    assert (zero["offload_optimizer"]["device"], zero["offload_param"]["device"]) == (device, device)
    # What the training file says is filled in by the trainer.
    assert settings["gradient_accumulation_steps"] == settings["train_micro_batch_size_per_gpu"] == "auto"
    assert zero["stage3_gather_16bit_weights_on_model_save"] is (stage == 3)


def test_the_page_names_every_file_and_says_what_was_not_run():
    page = (FOLDER / "README.md").read_text()
    assert set(re.findall(r"\]\((\S+\.yaml)\)", page)) == {file.name for file in FILES}
    assert "Not run: a step of FSDP2" in page
