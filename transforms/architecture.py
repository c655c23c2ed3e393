"""The class that loads a task's weights, by the name that the task gives."""

from __future__ import annotations

import importlib
from typing import Any


def resolve(name: str) -> Any:
    """The class behind an ARCHITECTURE.

    Args:
        name: a class of transformers, such as `AutoModelForTokenClassification`, or `module:Class` for any other that
            has its `from_pretrained`.
    """
    module, _, attribute = name.rpartition(":")
    return getattr(importlib.import_module(module or "transformers"), attribute)
