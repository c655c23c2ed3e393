"""The training loop: the library's trainer with batches by length, checkpoints, progress and a stop at NaN."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from jobs.training import memory, methods, processes
from jobs.training.methods import qlora, virtual
from jobs.training.request import CHECKPOINTS, PROGRESS, Request
from jobs.training.sampler import LengthSampler
from jobs.training.setup import Setup
from jobs.training.shares import shared
from transforms.errors import ModelError, RunError

# Evaluations (and checkpoints) of a training, and evaluations without improvement after which it stops.
EVALUATIONS, PATIENCE = 10, 3
LOGS = 50
LINE_EVERY_S = 0.5

# Written into a checkpoint after all its files, so that a checkpoint that was cut short is not continued.
COMPLETE = "complete"


# What is kept of the trainers' logs, and its name in progress and curves. The loss of a policy is near zero whatever it
# learns, so its reward is shown instead.
LOGGED = {
    "loss": "loss",
    "eval_loss": "eval_loss",
    "reward": "reward",
    "kl": "kl",
    "completions/mean_length": "length",
}


class Watch(TrainerCallback):
    """Writes the progress, marks complete checkpoints, and ends a training whose loss is not a number.

    Args:
        folder: folder of the training.
        method: how it trains, one of `support.METHODS`.
        parts: into how many parts the rows at once were split because memory was too small.
    """

    def __init__(self, folder: Path, method: str, parts: int = 1):
        self.file, self.method = folder / PROGRESS, method
        self.parts = parts
        self.started = time.monotonic()
        self.written = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A line about fewer rows at once."""
        if self.parts > 1:
            size, times = args.per_device_train_batch_size, args.gradient_accumulation_steps
            self.line(state, memory=f"memory was too small: now {size} rows at once, {times} times a step")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A line at most every half second."""
        if time.monotonic() - self.written >= LINE_EVERY_S:
            self.line(state)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """A line with the losses, or with the reward."""
        losses = logged(logs or {})
        for name, value in losses.items():
            if not math.isfinite(value):
                raise RunError(
                    f"the loss was {value} at step {state.global_step} of {state.max_steps} ({name}); lower "
                    f"training.learning_rate ({args.learning_rate:g} now), or set training.max_grad_norm"
                )
        if losses:
            self.line(state, **losses)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Mark the checkpoint as complete, after the files of all processes."""
        wait()
        if processes.rank() == 0:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if self.method in virtual.METHODS:
                virtual.save(more["model"], checkpoint)
            (checkpoint / COMPLETE).touch()

    def line(self, state: Any, **more: float | str) -> None:
        """Append a line to the file; the first process only."""
        self.written = time.monotonic()
        if processes.rank():
            return
        seconds = round(self.written - self.started, 2)
        content = {"step": state.global_step, "steps": state.max_steps, **more, "seconds": seconds}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(content) + "\n")


def logged(entry: Mapping[str, Any]) -> dict[str, float]:
    """What is kept of an entry of the trainer's log."""
    kept = {name: float(entry[key]) for key, name in LOGGED.items() if key in entry}
    return {name: value for name, value in kept.items() if name != "loss"} if "reward" in kept else kept


def trainer(request: Request, setup: Setup, network: Any, folder: Path, train: list[Any], validation: list[Any]) -> Any:
    """The library's trainer of an objective.

    Args:
        request: the training.
        setup: collator, tokenizer and defaults.
        network: the network that is trained, with its adapter.
        folder: folder of the training.
        train: examples.
        validation: examples that decide when to stop; may be empty.

    Raises:
        ModelError: the library refuses a value of the section `training`.
    """
    from datasets import Dataset

    kind, arguments_kind = setup.kind

    def by_length(made: Any) -> LengthSampler | None:
        """Batches of rows of similar length, or of any where the trainer encodes the rows itself."""
        if "train_sampling_strategy" in request.arguments:
            return None
        given, rows = made.args, made.train_dataset
        together = given.train_batch_size * given.gradient_accumulation_steps * made.accelerator.num_processes
        seed = given.seed if given.data_seed is None else given.data_seed
        column = [1] * len(rows) if setup.lengths is None else rows[setup.lengths]
        lengths = [value if isinstance(value, int) else len(value) for value in column]
        return LengthSampler(lengths, together, seed)

    watch: list[TrainerCallback] = [Watch(folder, request.method, request.parts)]
    if request.method in virtual.METHODS:
        kind = virtual.restoring(kind)
    try:
        arguments = arguments_kind(**_arguments(request, setup, folder, len(train) * setup.repeats, bool(validation)))
        if arguments.load_best_model_at_end:
            watch.append(EarlyStoppingCallback(PATIENCE))
        made = shared(kind, by_length)(
            model=network,
            args=arguments,
            train_dataset=Dataset.from_list(train),
            eval_dataset=Dataset.from_list(validation) if validation else None,
            processing_class=setup.tokenizer,
            callbacks=watch,
            # Some trainers make their batches themselves and take no collator.
            **({} if setup.collator is None else {"data_collator": setup.collator}),
            **setup.more,
        )
        if request.method == "qlora":
            qlora.in_float32(made.model)
        return made
    # Values that a class of the library refuses: its fields are typed, and their meaning is checked here only.
    except (ValueError, NotImplementedError) as error:
        said = " ".join(str(error).split())[:300]
        raise ModelError(f"training: {arguments_kind.__name__} refuses these settings: {said}") from error


def last_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint; the first process removes later ones that were cut short."""
    found = sorted((folder / CHECKPOINTS).glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    while found and not (found[-1] / COMPLETE).is_file():
        broken = found.pop()
        if processes.rank() == 0:
            shutil.rmtree(broken)
    return found[-1] if found else None


def wait() -> None:
    """Until all processes of the training are here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def _arguments(request: Request, setup: Setup, folder: Path, rows: int, validated: bool) -> dict[str, Any]:
    """The fields of the arguments class: ours by default, those of the training file over them."""
    given, cpu = request.arguments, not torch.cuda.is_available()
    cpu = given.get("use_cpu", cpu)
    found = {
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 32,
        "num_train_epochs": 3.0,
        "learning_rate": methods.LEARNING_RATES[request.method],
        "use_cpu": cpu,
        "bf16": False,
        "dataloader_pin_memory": not cpu,
        "report_to": "none",
        "logging_nan_inf_filter": False,
        "restore_callback_states_from_checkpoint": True,
        "save_strategy": "steps",
        "save_total_limit": 2,
        "seed": 42,
        **setup.arguments,
        **methods.arguments(request.method),
    }
    size = {**found, **given}
    rows_at_once, accumulated = memory.at_once(
        size["per_device_train_batch_size"], size.get("gradient_accumulation_steps", 1), request.parts
    )
    batch = rows_at_once * accumulated * request.processes
    steps = size.get("max_steps", -1)
    if steps <= 0:
        steps = math.ceil(math.ceil(rows / batch) * size["num_train_epochs"])
    # A checkpoint lies at the end of a logged interval, so that a continued training logs the same losses.
    logged = given.get("logging_steps", max(1, steps // LOGS))
    logged = logged if logged >= 1 else max(1, math.ceil(logged * steps))
    every = math.ceil(max(1, steps / EVALUATIONS) / logged) * int(logged)
    found |= {"save_steps": every, "logging_steps": logged}
    # A network may have weights that its loss does not need: without this the second step of several processes fails.
    checkpointed = size.get("gradient_checkpointing") or size.get("activation_checkpointing")
    found["ddp_find_unused_parameters"] = not checkpointed
    if validated:
        found |= {"eval_strategy": "steps", "eval_steps": given.get("save_steps", every)}
        # The best of the checkpoints, unless the file decides itself when to evaluate or to save.
        found["load_best_model_at_end"] = not {"eval_strategy", "save_strategy", "eval_steps", "save_steps"} & set(
            given
        )
    own = {
        "output_dir": str(folder / CHECKPOINTS),
        "disable_tqdm": True,
        "per_device_train_batch_size": rows_at_once,
        "gradient_accumulation_steps": accumulated,
        "per_device_eval_batch_size": max(1, size["per_device_eval_batch_size"] // request.parts),
    }
    return {**found, **given, **setup.fixed, **own}
