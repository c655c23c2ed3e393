"""LoRA adapters over tiny models, with random weights large enough that each gives other outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig

# Auto class -> PEFT's task type. PEFT has none for masked language models.
KINDS = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForMaskedLM": None,
    "AutoModel": "FEATURE_EXTRACTION",
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
}


def lora(
    base: Path,
    folder: Path,
    seed: int,
    head: str = "AutoModelForSequenceClassification",
    labels: Sequence[str] | None = None,
    std: float = 0.3,
    **more: Any,
) -> Path:
    """Save an adapter.

    Args:
        base: the model.
        folder: where.
        seed: of its weights.
        head: name of the auto class that loads the base.
        labels: labels of its own head; None for those of the base.
        std: standard deviation of its weights.
        more: keys of `LoraConfig` other than the rank and the layers of BERT.
    """
    config = AutoConfig.from_pretrained(base)
    if labels is not None:
        config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    auto = getattr(transformers, head)
    network = auto.from_pretrained(base, config=config, ignore_mismatched_sizes=True)
    torch.manual_seed(seed)
    lora = LoraConfig(**{"task_type": KINDS[head], "r": 4, "target_modules": ["query", "value"]} | more)
    adapted = get_peft_model(network, lora)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=std)
    adapted.save_pretrained(folder)
    if labels is not None:
        config.save_pretrained(folder)
    return folder
