"""Code of the user, `module:function`: imported, and its errors in one sentence with the line that raised them."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

from transforms.errors import SpecError

HERE = Path(__file__).parent


def module(reference: str, key: str, hint: str = "") -> ModuleType:
    """The module of a `module:function`.

    Args:
        reference: as the file has it.
        key: where, for the error.
        hint: what else the error says.

    Raises:
        SpecError: it cannot be imported.
    """
    try:
        return importlib.import_module(reference.partition(":")[0])
    except (Exception, SystemExit) as error:
        # Importing runs the module, which may raise anything.
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise SpecError(f"{key} {reference!r} cannot be imported: {kind}{told(error)}{line(error)}{hint}") from error


def told(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or ["no message"])[0]


def line(error: BaseException) -> str:
    """Where in the user's code an error was raised, in brackets; empty if unknown."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    own = [f for f in frames if HERE not in Path(f.filename).parents and "importlib" not in f.filename]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
