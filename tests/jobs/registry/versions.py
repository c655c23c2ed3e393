"""Real adapters and models in a registry, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from jobs.registry import Registry, Version
from jobs.registry.version import Base
from transforms.checkpoint import fingerprint
from transforms.digest import digest

LABELS = ("bad", "good", "mixed")


def about(**more: Any) -> Version:
    """What a registry keeps about a version, with made-up numbers."""
    values: dict[str, Any] = {
        "version": "",
        "task": "classify",
        "method": "lora",
        "kind": "adapter",
        "base": Base("org/base", "c" * 40, "f" * 40),
        "labels": LABELS,
        "training": {"name": "sentiment"},
        "train_hash": "t",
        "holdout_hash": "h",
        "rows_train": 100,
        "rows_holdout": 20,
        "metrics": {"accuracy": 0.9},
        "slices": {"lang=de": {"accuracy": 0.8}},
        "libraries": {"peft": "1"},
        "created": "2026-01-01T00:00:00+00:00",
        "files": {},
    }
    return Version(**(values | more))


def adapter(base: Path, folder: Path, seed: int) -> Path:
    """Save a LoRA with a head of its own, with random weights that are not zero."""
    torch.manual_seed(seed)
    network = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(LABELS), ignore_mismatched_sizes=True
    )
    adapted = get_peft_model(network, LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    adapted.save_pretrained(folder)
    AutoConfig.from_pretrained(base, id2label=dict(enumerate(LABELS))).save_pretrained(folder)
    return folder


def add(registry: Registry, base: Path, folder: Path, seed: int, **more: Any) -> str:
    """Add a version with a real adapter for a base; its name."""
    origin = Base(str(base), digest(base), fingerprint.of(str(base)))
    return registry.add(adapter(base, folder / f"adapter-{seed}", seed), about(base=origin, **more)).version
