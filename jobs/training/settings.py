"""Which class of a library the sections `training` and `adapter` of a training file set, and the keys they may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.training import arguments, processes
from jobs.training.methods import qlora

SEQ2SEQ = "transformers.training_args_seq2seq.Seq2SeqTrainingArguments"
TRAINER = "transformers.training_args.TrainingArguments"
SFT = "trl.trainer.sft_config.SFTConfig"

# The class whose fields `training` sets: by task where the truth of each row is learnt, else by objective.
BY_TASK = {"classify": TRAINER, "ner": TRAINER, "summarize": SEQ2SEQ, "translate": SEQ2SEQ, "generate": SFT}
BY_OBJECTIVE = {
    "dpo": "trl.trainer.dpo_config.DPOConfig",
    "kto": "trl.trainer.kto_config.KTOConfig",
    "orpo": "trl.experimental.orpo.orpo_config.ORPOConfig",
    "reward": "trl.trainer.reward_config.RewardConfig",
    "rloo": "trl.trainer.rloo_config.RLOOConfig",
    "grpo": "trl.trainer.grpo_config.GRPOConfig",
}

COUNTS = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")

# The class whose fields `adapter` sets, by method; `full` has no adapter.
ADAPTERS = {
    "lora": "peft.tuners.lora.config.LoraConfig",
    "qlora": "peft.tuners.lora.config.LoraConfig",
    "prefix": "peft.tuners.prefix_tuning.config.PrefixTuningConfig",
    "prompt": "peft.tuners.prompt_tuning.config.PromptTuningConfig",
    "p-tuning": "peft.tuners.p_tuning.config.PromptEncoderConfig",
    "ia3": "peft.tuners.ia3.config.IA3Config",
}

FOLDER = "Nightscribe chooses the folder and continues from its last checkpoint"
VERSIONS = "versions are kept in the registry"
RESERVED = {
    "output_dir": FOLDER,
    "resume_from_checkpoint": FOLDER,
    "push_to_hub": VERSIONS,
    "hub_token": VERSIONS,
    "hub_model_id": VERSIONS,
    "do_train": "it always trains",
    "do_eval": "the validation rows are always evaluated",
    "do_predict": "predictions are made after the training",
    "disable_tqdm": "Nightscribe shows the progress itself",
    "save_only_model": "a training could not be continued",
    "remove_unused_columns": "it depends on the task",
    "label_names": "it depends on the task",
    "auto_find_batch_size": "when memory is too small, Nightscribe halves the rows at once, with as many in each step",
    "model_init_kwargs": "the base is loaded by Nightscribe",
    "dataset_text_field": "data.prompt and data.completion name the columns",
}
RESERVED_ADAPTER = {
    "task_type": "it follows from the task",
    "peft_type": "it follows from the method",
    "base_model_name_or_path": "base.model names it",
    "revision": "base.revision names it",
    "inference_mode": "the adapter is being trained",
    "auto_mapping": "PEFT writes it",
    "peft_version": "PEFT writes it",
}
SIZE = "it is the base's"
SIZES = {
    "token_dim": SIZE,
    "num_layers": SIZE,
    "num_attention_heads": SIZE,
    "num_transformer_submodules": SIZE,
    "tokenizer_name_or_path": "the tokenizer is the base's",
}


def arguments_class(task: str, objective: str) -> str:
    """The dotted name of the library's arguments class."""
    return BY_OBJECTIVE.get(objective, BY_TASK[task])


def training(values: Mapping[str, Any], task: str, objective: str) -> dict[str, Any]:
    """The section `training` without our own keys, with the types of the library's fields.

    Raises:
        ValueError: a field does not exist, cannot be set, or its value has a wrong type.
    """
    fields = processes.split(values)[1]
    found = arguments.check(fields, arguments_class(task, objective), RESERVED, "training")
    # The library divides by them.
    if wrong := [name for name in COUNTS if found.get(name, 1) < 1]:
        raise ValueError(f"training.{wrong[0]} is {found[wrong[0]]}; give 1 or more")
    if found.get("num_train_epochs", 1) <= 0 and found.get("max_steps", -1) <= 0:
        raise ValueError(f"training.num_train_epochs is {found['num_train_epochs']}, with which nothing is trained")
    return found


def adapter(values: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The section `adapter` with the types of peft's fields.

    Raises:
        ValueError: as `training`; or the method has no adapter.
    """
    if method not in ADAPTERS:
        if values:
            raise ValueError(f"adapter applies to a method with an adapter, not to {method}; remove it, or set method")
        return {}
    more = qlora.KEYS if method == "qlora" else {}
    found = arguments.check(values, ADAPTERS[method], RESERVED_ADAPTER | SIZES, "adapter", more)
    if method == "qlora":
        qlora.check(found)
    tokens = found.get("num_virtual_tokens", 1)
    if tokens < 1:
        raise ValueError(f"adapter.num_virtual_tokens is {tokens}; give 1 or more")
    return found
