"""The tasks as text for the terminal: the column that each one adds, and its keys in a job file."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from textwrap import fill
from typing import Any

from pydantic.fields import FieldInfo

from jobs.spec import TaskSpec
from jobs.spec.first import TASKS, FirstSpec
from transforms import registry
from transforms.options import Described, as_written, describe, in_words, sentence

WIDTH = 100

# Keys that all tasks with a model have, and other tasks do not.
FOR_MODELS = (
    "model",
    "revision",
    "adapter",
    "adapter_revision",
    "adapter_column",
    "adapters",
    "dtype",
    "min_agreement",
    "engine",
    "device",
    "device_map",
    "max_tokens",
)


def overview() -> str:
    """Every task in a few lines."""
    names = registry.names()
    width = max(map(len, names)) + 2
    shown = []
    for name in names:
        module = registry.get(name)
        keys = ", ".join(option.name for option in describe(module.Options))
        shown += [_hanging(name, _first_line(module), width), _hanging("", f"gives {_gives(module)}", width)]
        shown += [_hanging("", f"keys  {keys}", width), ""]
    keys = ", ".join(option.name for option in _shared(True))
    return "\n".join(
        [*shown, _fill(f"Keys that every task has: {keys}."), "`nightscribe tasks NAME` explains each key of a task."]
    )


def page(name: str) -> str:
    """The description of one task: an example, its output, and an explanation of every key.

    Raises:
        SpecError: there is no such task.
    """
    module = registry.get(name)
    options, has_model = describe(module.Options), module.ARCHITECTURE is not None
    example = [f"task: {name}", *(f"{option.name}: {option.example}" for option in options if option.example)]
    example += ["model: org/name"] * has_model + ["into: new_column"]
    paragraphs = [
        f"{name}\n{_fill(_first_line(module))}",
        "In a job file:\n\n  tasks:\n    - " + "\n      ".join(example),
        _fill(f"Gives {_gives(module)}"),
        "KEYS OF THIS TASK",
        *map(_paragraph, options),
        "KEYS THAT EVERY TASK HAS",
        *map(_paragraph, _shared(has_model)),
        *(map(_paragraph, _of_first()) if name in TASKS else ()),
    ]
    return "\n\n".join(paragraphs)


def _shared(has_model: bool) -> Iterator[Described]:
    """The keys that every task has; `model` is required if the task uses a model."""
    for name, field in TaskSpec.model_fields.items():
        if name in ("task", "first") or (name in FOR_MODELS and not has_model):
            continue
        yield _described(name, field, field.is_required() or name == "model")


def _of_first() -> Iterator[Described]:
    """The key `first` and its own keys."""
    first = TaskSpec.model_fields["first"]
    yield Described("first", "keys with values", None, False, sentence(first.description or ""))
    for name, field in FirstSpec.model_fields.items():
        yield _described(f"first.{name}", field, field.is_required())


def _described(name: str, field: FieldInfo, required: bool) -> Described:
    default = None if required or field.default is None else as_written(field.default)
    return Described(name, in_words(field.annotation), default, required, sentence(field.description or ""))


def _paragraph(option: Described) -> str:
    when = "required" if option.required else "optional" if option.default is None else f"default {option.default}"
    text = _fill(option.explanation, "    ", "    ")
    return f"{option.name}: {option.values} ({when})" + (f"\n{text}" if text else "")


def _hanging(label: str, text: str, width: int) -> str:
    return _fill(text, label.ljust(width), " " * (width + 2))


def _fill(text: str, first: str = "", others: str = "") -> str:
    return fill(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def _first_line(module: Any) -> str:
    return (inspect.getdoc(module) or "no description").splitlines()[0]


def _gives(module: Any) -> str:
    text = (inspect.getdoc(getattr(module, "module", module).output_type) or "a column").splitlines()[0].rstrip(".")
    # The docstring of a task of one's own begins with a capital; a word in capitals stays as it is.
    return (text if text[1:2].isupper() else text[:1].lower() + text[1:]) + "."
