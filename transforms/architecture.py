"""The class that loads a task's weights, by the name that the task gives."""

from __future__ import annotations

import importlib
from typing import Any


def resolve(architecture: str | type) -> Any:
    """The class behind an ARCHITECTURE.

    Args:
        architecture: the name of a class of transformers, such as `AutoModelForTokenClassification`; `module:Class` for
            any other that has its `from_pretrained`; or a class itself.
    """
    if not isinstance(architecture, str):
        return architecture
    module, _, attribute = architecture.rpartition(":")
    return getattr(importlib.import_module(module or "transformers"), attribute)
