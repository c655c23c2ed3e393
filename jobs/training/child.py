"""The process that trains, or one of several: `python -m jobs.training.child FOLDER`.

It reads request.json, train.parquet and validation.parquet in the folder, and writes progress.jsonl, checkpoints/,
result/ and, last of all, result.json; or error.json with one sentence. Of several processes the first one writes all
this, and the first that fails its error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.training import imports, lifetime, memory, processes
from jobs.training.methods import qlora
from jobs.training.request import (
    ERROR,
    LOSSES,
    RESULT,
    RESULT_JSON,
    TRAIN,
    VALIDATION,
    Request,
    write_first,
    write_json,
)
from transforms.errors import ModelError, NightscribeError, RunError, Unexpected

# The base of an adapter at the version that it was trained on; the weights are compared by their fingerprint.
BASE = "base.json"

# What gloo and NCCL say when the process at the other end is gone.
LOST = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL")


def main(folder: Path) -> int:
    """Train what the folder asks for; returns the exit code."""
    lifetime.end_with_parent()
    try:
        request = Request.read(folder)
        imports.libraries(request)
        learn(folder, request)
    # Any exception, of a library too, becomes one sentence for the process that waits; the log has the rest.
    except Exception as error:
        traceback.print_exc()
        if not _is_of_another(error):
            write_first(folder / ERROR, _complaint(error))
        if processes.world() > 1:
            # The others learn of it when the connection ends, which a usual exit might wait to close.
            sys.stderr.flush()
            os._exit(1)
        return 1
    return 0


def learn(folder: Path, request: Request) -> None:
    """Train, and write the result.

    Raises:
        NightscribeError: the base does not fit the task, the settings are wrong, or the loss was not a number.
    """
    from transformers import set_seed

    from jobs.training import loop
    from jobs.training.methods import with_adapter

    processes.take_gpu(request.arguments)
    train, validation = pq.read_table(folder / TRAIN), pq.read_table(folder / VALIDATION)
    # A new head and a new adapter are drawn at random: the same ones when the training is continued.
    set_seed(request.arguments.get("seed", 42))
    setup = _setup(request, train)
    if not setup.validated:
        train, validation = pa.concat_tables([train, validation]), validation.slice(0, 0)
    network = with_adapter(request, setup)
    trainer = loop.trainer(
        request, setup, network, folder, setup.encode(train), setup.encode(validation) if len(validation) else []
    )
    # Each process drops other values, in layers with dropout.
    set_seed(trainer.args.seed + processes.rank())
    checkpoint = loop.last_checkpoint(folder)
    loop.wait()
    started = time.monotonic()
    with memory.watched(trainer.args):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    seconds = time.monotonic() - started
    _save(folder, request, setup, trainer)
    if setup.mislabelled:
        from jobs.training import held_out

        with memory.watched(trainer.args):
            found = (
                held_out.of_validation(trainer, validation)
                if len(validation)
                else held_out.cross_fitted(request, train, _setup, folder)
            )
        if found is not None and processes.rank() == 0:
            pq.write_table(found, folder / LOSSES)
    if processes.rank() == 0:
        _write_result(folder, request, setup, trainer, checkpoint is not None, seconds)
    loop.wait()


def _write_result(folder: Path, request: Request, setup: Any, trainer: Any, resumed: bool, seconds: float) -> None:
    from jobs.training import loop

    history = trainer.state.log_history
    write_json(
        folder / RESULT_JSON,
        {
            "request": request.digest,
            "labels": setup.labels,
            "curves": [{"step": entry["step"]} | loop.logged(entry) for entry in history],
            "steps": trainer.state.global_step,
            "best_step": trainer.state.best_global_step,
            "resumed": resumed,
            "batch": {
                "rows_at_once": trainer.args.per_device_train_batch_size,
                "accumulated": trainer.args.gradient_accumulation_steps,
                "processes": request.processes,
            },
            "seconds": round(seconds, 2),
        },
    )


def _setup(request: Request, train: pa.Table) -> Any:
    match request.objective, request.task:
        case (("supervised" | "distill"), "classify"):
            from jobs.training import classify

            return classify.build(request, several=pa.types.is_list(train.schema.field("label").type))
        case (("supervised" | "distill"), "ner"):
            from jobs.training import ner

            return ner.build(request)
        case (("supervised" | "sft" | "distill"), "generate"):
            from jobs.training import causal

            return causal.build(request)
        case (("supervised" | "sft" | "distill"), _):
            from jobs.training import seq2seq

            return seq2seq.build(request)
        case (("rloo" | "grpo"), _):
            from jobs.training import policy

            return policy.build(request)
        case (("dpo" | "kto" | "orpo"), _):
            from jobs.training import preference

            return preference.build(request)
    from jobs.training import reward

    return reward.build(request)


def _save(folder: Path, request: Request, setup: Any, trainer: Any) -> None:
    """Write the adapter (or the model), its labels and its base, and move them into place as a whole.

    With FSDP and ZeRO each process has a part of the weights: all send theirs, and the first one writes.
    """
    split = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if split else None
    if processes.rank():
        return
    made, result = folder / f"{RESULT}.tmp", folder / RESULT
    for old in (made, result):
        shutil.rmtree(old, ignore_errors=True)
    network = trainer.accelerator.unwrap_model(trainer.model)
    if request.method == "full":
        network.save_pretrained(made, state_dict=weights)
    else:
        # Policies have a second adapter, the one that they start from.
        network.save_pretrained(made, state_dict=weights, selected_adapters=["default"])
    base = {"model": request.base_name, "commit": request.base_commit, "fingerprint": request.base_fingerprint}
    if request.method == "full":
        setup.tokenizer.save_pretrained(made)
    else:
        (made / "README.md").unlink(missing_ok=True)
        _complete_config(made / "adapter_config.json", request)
        if setup.labels:
            qlora.plain(setup.network.config).save_pretrained(made)
    write_json(made / BASE, base)
    made.rename(result)


def _complete_config(file: Path, request: Request) -> None:
    """Name the base at its version, and sort what PEFT keeps in sets, so that equal adapters have equal bytes."""
    content = json.loads(file.read_text(encoding="utf-8"))
    for key, value in content.items():
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            content[key] = sorted(value)
    content["base_model_name_or_path"] = request.base_name
    if content.get("tokenizer_name_or_path"):
        content["tokenizer_name_or_path"] = request.base_name
    content["revision"] = None if Path(request.base_name).is_dir() else request.base_commit
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _complaint(error: Exception) -> dict[str, str]:
    """The kind of the error, for the exit code of the command, and its sentence."""
    if isinstance(error, memory.OutOfMemory) and error.smaller:
        return {"kind": "memory", "message": str(error)}
    if isinstance(error, memory.OutOfMemory) or memory.is_too_small(error):
        error = RunError(memory.SENTENCE)
    elif not isinstance(error, NightscribeError):
        error = Unexpected.from_(error, "training")
    return {"kind": "user" if isinstance(error, ModelError) else "run", "message": str(error)}


def _is_of_another(error: Exception) -> bool:
    """Whether another process of the training ended, which is all that this one knows."""
    import torch

    if processes.world() == 1:
        return False
    lost = isinstance(error, torch.distributed.DistError)
    return lost or (isinstance(error, RuntimeError) and any(said in str(error) for said in LOST))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
