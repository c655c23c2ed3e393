"""Reward functions of the user: `module:function`, imported, called, and checked; a mistake is one sentence.

A function gets what TRL's trainers give to theirs, by name: `prompts` and `completions`, and each further column of the
rows; and it returns one number for each answer.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from jobs import user_code
from transforms.errors import ModelError, SpecError

KEY = "reward.functions"


def load(reference: str) -> Callable[..., Any]:
    """Import a `module:function`.

    Raises:
        SpecError: it cannot be imported, or cannot be called with prompts and completions.
    """
    name = reference.partition(":")[2]
    module = _module(reference)
    function = getattr(module, name, None)
    if function is None:
        raise SpecError(f"{KEY}: {reference!r} cannot be imported: module {module.__name__!r} has no {name!r}")
    if not callable(function):
        raise SpecError(f"{KEY}: {reference!r} is a {type(function).__name__}, not a function")
    if inspect.iscoroutinefunction(function):
        raise SpecError(f"{KEY}: {reference!r} is an async function; write it as a plain one")
    required = [
        each.name
        for each in _parameters(function).values()
        if each.default is each.empty and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    if "completions" not in required and not _takes_all(function):
        raise SpecError(
            f"{KEY}: {reference!r} does not take completions; write it as def {name}(prompts, completions, **columns)"
        )
    return function


def version(reference: str) -> str:
    """A hash of the source of the module; changes in other modules that it imports are not noticed.

    Raises:
        SpecError: it cannot be imported.
    """
    load(reference)
    file = getattr(_module(reference), "__file__", None)
    return hashlib.sha256(reference.encode() if file is None else Path(file).read_bytes()).hexdigest()


def call(
    reference: str, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Sequence[Any]]
) -> list[float]:
    """One number for each answer.

    Args:
        reference: `module:function`.
        prompts: the prompts, texts or conversations.
        completions: the answers, texts.
        columns: further columns of the rows; a function without `**` gets those that it names.

    Raises:
        ModelError: the function failed, or returned something else than a number for each answer.
    """
    function = load(reference)
    given: dict[str, Any] = {"prompts": list(prompts), "completions": list(completions)}
    given |= {name: list(values) for name, values in columns.items()}
    if not _takes_all(function):
        given = {name: value for name, value in given.items() if name in _parameters(function)}
    try:
        result = function(**given)
    # A function of the user may raise any exception.
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {user_code.told(error)}{user_code.line(error)}"
        raise ModelError(f"{KEY}: {reference!r} failed: {said}; correct the function and run again") from error
    if hasattr(result, "tolist"):
        result = result.tolist()
    if not isinstance(result, list | tuple):
        raise _wrong(reference, f"a {type(result).__name__}")
    if len(result) != len(completions):
        raise _wrong(reference, f"{len(result)} values for {len(completions)} completions")
    for value in result:
        if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
            raise _wrong(reference, f"{value!r} ({type(value).__name__}) in the list")
    return [float(value) for value in result]


def _wrong(reference: str, what: str) -> ModelError:
    return ModelError(
        f"{KEY}: {reference!r} returned {what}; it must return a list with one number for each completion"
    )


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def _takes_all(function: Callable[..., Any]) -> bool:
    return any(each.kind is each.VAR_KEYWORD for each in _parameters(function).values())


def _module(reference: str) -> ModuleType:
    return user_code.module(
        reference, f"{KEY}:", "; the module must be in the folder where the command runs, or be installed"
    )
