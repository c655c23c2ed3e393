"""Find the class that loads a task's weights, from the name that the task gives."""

from __future__ import annotations

import importlib
from typing import Any

from transforms.errors import ModelError

# Classes that generate text; transforms/generation forms their batches.
WRITERS = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoWriter")


def resolve(architecture: str | type) -> Any:
    """The class that an ARCHITECTURE names.

    Args:
        architecture: the name of a class of transformers, such as `AutoModelForTokenClassification`; `module:Class` for
            any other class with a `from_pretrained`; or the class itself.

    Raises:
        ModelError: there is no such class.
    """
    if not isinstance(architecture, str):
        return architecture
    module, _, attribute = architecture.rpartition(":")
    try:
        return getattr(importlib.import_module(module or "transformers"), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"ARCHITECTURE is {architecture!r}: {error}; give the name of a class of transformers, such as "
            "AutoModelForSequenceClassification, or module:Class"
        ) from error
