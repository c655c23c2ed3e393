"""How a version in a repository of the Hub is loaded: by a job file, and by transformers and peft in Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from jobs.models.name import Name, parse
from jobs.registry import content
from jobs.registry.version import Version

# Task -> the class of transformers that loads its weights.
CLASSES: Mapping[str, str] = {
    "classify": "AutoModelForSequenceClassification",
    "generate": "AutoModelForCausalLM",
    "ner": "AutoModelForTokenClassification",
    "summarize": "AutoModelForSeq2SeqLM",
    "translate": "AutoModelForSeq2SeqLM",
}


def base_on_hub(version: Version) -> Name | None:
    """The base on the Hub; None if it is a folder of this machine or a version of a registry."""
    return None if Path(version.base.model).expanduser().is_dir() else parse(version.base.model)


def in_a_job(repository: str, version: Version) -> str:
    """The keys of a task, in YAML.

    Args:
        repository: org/name on the Hub.
        version: a version that it has.
    """
    champion = f"hf://{repository}@champion"
    if version.kind == "model":
        return f"model: {champion}"
    pinned = {"revision": version.base.commit} if base_on_hub(version) else {}
    keys = {"task": version.task, "model": version.base.model, **pinned, "adapter": champion}
    return yaml.safe_dump(keys, sort_keys=False, allow_unicode=True).rstrip()


def in_python(repository: str, version: Version) -> str | None:
    """Statements that leave `model` and `tokenizer`; None for a task whose class is not known here.

    Args:
        repository: org/name on the Hub.
        version: a version that it has.
    """
    if (architecture := CLASSES.get(version.task)) is None:
        return None
    place = f'"{repository}", subfolder="{content.place(version)}"'
    if version.kind == "model":
        return "\n".join(
            [
                f"from transformers import AutoTokenizer, {architecture}",
                "",
                f"model = {architecture}.from_pretrained({place})",
                f"tokenizer = AutoTokenizer.from_pretrained({place})",
            ]
        )
    base = _base(version)
    # The labels of the version, where they are not those of the base; its head comes with the adapter.
    has_config = "config.json" in version.files
    names = sorted(["AutoTokenizer", architecture, *(["AutoConfig"] if has_config else [])])
    more = ", config=config, ignore_mismatched_sizes=True" if has_config else ""
    return "\n".join(
        [
            "from peft import PeftModel",
            f"from transformers import {', '.join(names)}",
            "",
            *([f"config = AutoConfig.from_pretrained({place})"] if has_config else []),
            f"base = {architecture}.from_pretrained({base}{more})",
            f"model = PeftModel.from_pretrained(base, {place})",
            f"tokenizer = AutoTokenizer.from_pretrained({base})",
        ]
    )


def _base(version: Version) -> str:
    """The arguments of from_pretrained for the base."""
    if (base := base_on_hub(version)) is None:
        return '"the/folder/of/the/base"'
    inside = f', subfolder="{base.subfolder}"' if base.subfolder else ""
    return f'"{base.repository}", revision="{version.base.commit}"{inside}'
