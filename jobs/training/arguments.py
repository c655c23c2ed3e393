"""Names and types of the fields of a library's configuration class, read from its source text.

Importing transformers' TrainingArguments takes five seconds because it imports torch, and a mistake in a training file
is to be reported at once. So the class is parsed, not imported.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pydantic

from jobs.spec.complaint import suggest

# Types that YAML can express; other annotations accept any value, and the library checks it.
PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "dict": dict, "list": list, "None": None, "Any": Any}

# module -> class, and the classes that it inherits fields from.
CLASSES = {
    "transformers.training_args.TrainingArguments": (),
    "transformers.training_args_seq2seq.Seq2SeqTrainingArguments": ("transformers.training_args.TrainingArguments",),
    "trl.trainer.base_config._BaseConfig": ("transformers.training_args.TrainingArguments",),
    "trl.trainer.sft_config.SFTConfig": ("trl.trainer.base_config._BaseConfig",),
    "trl.trainer.dpo_config.DPOConfig": ("trl.trainer.base_config._BaseConfig",),
    "trl.trainer.kto_config.KTOConfig": ("trl.trainer.base_config._BaseConfig",),
    "trl.trainer.reward_config.RewardConfig": ("trl.trainer.base_config._BaseConfig",),
    "trl.trainer.rloo_config.RLOOConfig": ("trl.trainer.base_config._BaseConfig",),
    "trl.trainer.grpo_config.GRPOConfig": ("trl.trainer.base_config._BaseConfig",),
    "trl.experimental.orpo.orpo_config.ORPOConfig": ("trl.trainer.base_config._BaseConfig",),
    "peft.config.PeftConfig": (),
    "peft.config.PromptLearningConfig": ("peft.config.PeftConfig",),
    "peft.tuners.lora.config.LoraConfig": ("peft.config.PeftConfig",),
    "peft.tuners.ia3.config.IA3Config": ("peft.config.PeftConfig",),
    "peft.tuners.prefix_tuning.config.PrefixTuningConfig": ("peft.config.PromptLearningConfig",),
    "peft.tuners.prompt_tuning.config.PromptTuningConfig": ("peft.config.PromptLearningConfig",),
    "peft.tuners.p_tuning.config.PromptEncoderConfig": ("peft.config.PromptLearningConfig",),
}


@cache
def fields(name: str) -> Mapping[str, Any]:
    """Field -> type of a configuration class and of its bases.

    Args:
        name: one of CLASSES.
    """
    module, _, kind = name.rpartition(".")
    package, *rest = module.split(".")
    found_package = importlib.util.find_spec(package)
    if found_package is None or found_package.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed; install nightscribe again")
    tree = ast.parse(Path(found_package.origin).parent.joinpath(*rest).with_suffix(".py").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for base in CLASSES[name]:
        found |= fields(base)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == kind:
            found |= {
                item.target.id: _type(item.annotation)
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            }
    return {name: type_ for name, type_ in found.items() if not name.startswith("_")}


def check(
    values: Mapping[str, Any],
    name: str,
    reserved: Mapping[str, str],
    section: str,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The values with the types of the class's fields, such as 1e-4 as a number although YAML reads it as text.

    Args:
        values: field -> value.
        name: one of CLASSES.
        reserved: field -> why it cannot be set.
        section: name of the section in the training file, for messages.
        more: further fields with their types.

    Raises:
        ValueError: a field does not exist, cannot be set, or its value has a wrong type.
    """
    known = {**fields(name), **(more or {})}
    kind = name.rpartition(".")[2]
    checked = {}
    for key, value in values.items():
        if key not in known:
            close = suggest(key, sorted(set(known) - set(reserved)), "fields").split("; fields: ")[0]
            raise ValueError(f"{section}.{key} is not a field of {kind}{close}")
        if key in reserved:
            raise ValueError(f"{section}.{key} cannot be set here: {reserved[key]}")
        try:
            checked[key] = pydantic.TypeAdapter(known[key]).validate_python(value)
        except pydantic.ValidationError as error:
            expected = error.errors()[0]["msg"].split(", unable to ")[0]
            raise ValueError(f"{section}.{key} is {value!r}; {expected[0].lower()}{expected[1:]}") from error
    return checked


def _type(node: ast.expr) -> Any:
    """The type that an annotation names; Any if it is not one of PLAIN or a union of them."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            sides = [_type(left), _type(right)]
            return Any if Any in sides else _union(sides)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return Any if (found := _type(inner)) is Any else _union([found, None])
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            found = [_type(part) for part in parts]
            return Any if Any in found else _union(found)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=_):
            return Any
        case ast.Subscript(value=inner):
            return _type(inner)
        case ast.Name(id=name) if name in PLAIN:
            return PLAIN[name]
        case ast.Constant(value=None):
            return None
    return Any


def _union(parts: list[Any]) -> Any:
    found = parts[0]
    for part in parts[1:]:
        found = found | part if found is not None else part | None
    return found
