"""How many processes train, in which precision, started how; and whether this machine has what that needs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from jobs.training import lifetime
from transforms.errors import ModelError

if TYPE_CHECKING:
    from jobs.training.request import Request

PRECISIONS = ("no", "fp16", "bf16")

# What training takes beside the fields of the library's arguments class.
OWN = ("processes", "mixed_precision", "accelerate_config")

# Ways of accelerate that only exist on GPUs; on a CPU it would train with copies of the whole model, without a word.
ON_GPUS = ("MULTI_GPU", "FSDP", "DEEPSPEED")
WAYS = ("NO", "MULTI_CPU", *ON_GPUS)

# What a launcher sets for each of its processes; a training that was started from one must not take part in it.
OF_A_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Layout:
    """How a training is spread.

    Attributes:
        processes: number of processes, on one machine.
        mixed_precision: no, fp16 or bf16; None: as the fields fp16 and bf16 say.
        accelerate_config: a file of `accelerate config`, such as deploy/accelerate/fsdp2.yaml; None for DDP.
    """

    processes: int = 1
    mixed_precision: str | None = None
    accelerate_config: str | None = None


def split(training: Mapping[str, Any]) -> tuple[Layout, dict[str, Any]]:
    """Our keys of the section `training`, and the library's fields, in which the precision is set.

    Raises:
        ValueError: a value that is wrong on any machine, or two that contradict each other.
    """
    fields = {key: value for key, value in training.items() if key not in OWN}
    given = training.get("processes")
    # YAML's `no` is a boolean.
    precision = "no" if (said := training.get("mixed_precision")) is False else said
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 1):
        raise ValueError(f"training.processes is {given!r}; it is a whole number from 1 on, the processes that train")
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"training.mixed_precision is {precision!r}; choices: {', '.join(PRECISIONS)}")
    if precision is not None and (twice := [key for key in ("fp16", "bf16") if key in fields]):
        raise ValueError(
            f"training.mixed_precision ({precision}) and training.{twice[0]} say the same thing twice; remove "
            f"training.{twice[0]}"
        )
    config = _config(training.get("accelerate_config"))
    if config is not None:
        given, precision = _agreed(config, given, precision, fields)
    if precision in ("fp16", "bf16"):
        fields[precision] = True
    path = None if config is None else str(Path(training["accelerate_config"]).absolute())
    return Layout(given or 1, precision, path), fields


def learnt(training: Mapping[str, Any]) -> dict[str, Any]:
    """What the section `training` says about what is learnt: the rows of a step, and not who computes them.

    Args:
        training: the section, also of a file on another machine.
    """
    if training.get("accelerate_config") is not None:
        # How many processes there are is in a file that may not be here.
        return dict(training)
    fields = {key: value for key, value in training.items() if key not in OWN}
    if (precision := training.get("mixed_precision")) in PRECISIONS[1:]:
        fields[precision] = True
    rows = fields.pop("per_device_train_batch_size", None)
    batches = fields.pop("gradient_accumulation_steps", 1) * (training.get("processes") or 1)
    return fields | {"step": [rows, batches] if rows is None else rows * batches}


def refuse(layout: Layout, fields: Mapping[str, Any]) -> None:
    """Look at the machine; torch is imported only if the file asks for anything but one process in float32.

    Raises:
        ModelError: the machine does not have the processors, or their instructions.
    """
    config = _config(layout.accelerate_config)
    if layout.processes == 1 and config is None and not fields.get("fp16") and not fields.get("bf16"):
        return
    import torch

    found = gpus(fields)
    way = (config or {}).get("distributed_type", "MULTI_GPU" if found else "MULTI_CPU")
    if way in ON_GPUS and not found:
        raise ModelError(
            f"training.accelerate_config is {layout.accelerate_config!r} ({way}), which needs GPUs, and this machine "
            "has none; remove it here: training.processes alone trains in several processes on a CPU"
        )
    if way == "DEEPSPEED":
        _need_deepspeed(layout)
    have, what = (found, "GPU") if found else (cores(), "CPU core")
    if layout.processes > have:
        raise ModelError(
            f"training.processes is {layout.processes}, and this machine has {have} {what}{'s' * (have != 1)}; lower "
            f"it to at most {have}"
        )
    if fields.get("fp16") and not found:
        raise ModelError(
            "training.mixed_precision is fp16, which needs a GPU, and this training runs on a CPU; choose bf16 or no"
        )
    if fields.get("bf16") and found and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ModelError(
            f"training.mixed_precision is bf16, which this GPU ({torch.cuda.get_device_name()}) does not compute; "
            "choose fp16 or no"
        )


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rank() -> int:
    """Number of this process among those that train; the first one writes the files."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """How many processes train together, this one among them."""
    return int(os.environ.get("WORLD_SIZE", 1))


def take_gpu(fields: Mapping[str, Any]) -> None:
    """Make the GPU of this process the current one before a network is loaded; accelerate does so later.

    Args:
        fields: of the library's arguments class.
    """
    if world() > 1 and gpus(fields):
        import torch

        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def command(request: Request) -> tuple[str, dict[str, str]]:
    """The module that trains, or that starts several processes, and its environment.

    Args:
        request: the training.
    """
    found = {key: value for key, value in os.environ.items() if key not in OF_A_LAUNCHER}
    # The order of Python's sets is part of what a training does with names of modules.
    found |= {"PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "true"}
    found[lifetime.PARENT] = str(os.getpid())
    # Reward functions are found where this process finds them, after what the environment names.
    paths = [*found.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
    found["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    if request.processes == 1 and request.accelerate_config is None:
        # One process is one GPU: the library would copy the network onto all of them.
        found["CUDA_VISIBLE_DEVICES"] = found.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        return "jobs.training.child", found
    # torchrun would give each process one thread.
    found.setdefault("OMP_NUM_THREADS", str(max(1, cores() // request.processes)))
    if not gpus(request.arguments):
        found["ACCELERATE_USE_CPU"] = "1"
    return "jobs.training.launch", found


def gpus(fields: Mapping[str, Any]) -> int:
    """The GPUs that a training may use; torch is imported.

    Args:
        fields: of the library's arguments class.
    """
    import torch

    return 0 if fields.get("use_cpu") else torch.cuda.device_count()


def _config(path: str | None) -> dict[str, Any] | None:
    """The content of a file for `accelerate launch`.

    Raises:
        ValueError: there is none, it does not parse, or it is for other machines than one with CPUs or GPUs.
    """
    if path is None:
        return None
    key = f"training.accelerate_config is {path!r}"
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = json.loads(text) if str(path).endswith(".json") else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{key}, which cannot be read: {said}; examples: deploy/accelerate/") from error
    way = content.get("distributed_type") if isinstance(content, dict) else None
    # YAML's NO is a boolean.
    way = "NO" if way is False else way
    if way not in WAYS:
        raise ValueError(f"{key}, whose distributed_type is {way!r}; choices: {', '.join(WAYS)}")
    machines, number = content.get("num_machines", 1), content.get("num_processes", 1)
    if machines != 1:
        raise ValueError(f"{key}, whose num_machines is {machines!r}; a training runs on one machine")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{key}, whose num_processes is {number!r}; it is a whole number from 1 on")
    return {**content, "distributed_type": way, "num_processes": number}


def _agreed(
    config: dict[str, Any], processes: int | None, precision: str | None, fields: dict[str, Any]
) -> tuple[int, str | None]:
    """Processes and precision, from the training file or from accelerate's."""
    if processes not in (None, config["num_processes"]):
        raise ValueError(
            f"training.processes is {processes}, and num_processes in training.accelerate_config is "
            f"{config['num_processes']}; remove one of them"
        )
    own = config.get("mixed_precision")
    own = "no" if own is False else own
    if own is None or "fp16" in fields or "bf16" in fields:
        return config["num_processes"], precision
    if own not in PRECISIONS:
        raise ValueError(f"mixed_precision in training.accelerate_config is {own!r}; choices: {', '.join(PRECISIONS)}")
    if precision not in (None, own):
        raise ValueError(
            f"training.mixed_precision is {precision}, and mixed_precision in training.accelerate_config is {own}; "
            "remove one of them"
        )
    return config["num_processes"], own


def _need_deepspeed(layout: Layout) -> None:
    from importlib.util import find_spec

    if find_spec("deepspeed") is None:
        raise ModelError(
            f"training.accelerate_config is {layout.accelerate_config!r}, which needs DeepSpeed, and it is not "
            "installed; run `pip install deepspeed`, or use deploy/accelerate/fsdp2.yaml"
        )
