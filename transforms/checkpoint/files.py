"""Checks on files of a model folder: they exist, are not empty, are no Git LFS pointers, and can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transforms.errors import ModelError

# A clone without `git lfs pull` has such a pointer instead of a large file (specification: https://git-lfs.com).
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def require(file: Path, what: str) -> Path:
    """Check that a file exists and has content, and return it.

    Args:
        file: the file.
        what: the expected content, for the error message.

    Raises:
        ModelError: the file cannot be read, is empty, or is a Git LFS pointer.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(len(LFS_POINTER))
    except FileNotFoundError:
        raise ModelError(f"{file} is missing; copy the whole folder again from where the model came from") from None
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}; give Nightscribe the right to read it") from error
    if start == LFS_POINTER:
        raise ModelError(f"{file} is a Git LFS pointer, not {what}; run `git lfs pull` in {file.parent}")
    if not start:
        raise ModelError(f"{file} is empty and should hold {what}; copy it again from where the model came from")
    return file


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ModelError: the file cannot be read, or does not contain a JSON object.
    """
    require(file, "JSON")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file} is not JSON ({error}); copy it again from where the model came from") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds {_kind(content)}, and a JSON object {{...}} is needed; copy it again")
    return content


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", type(None): "null"}.get(type(value), f"the value {value!r}")


def first_line(error: BaseException) -> str:
    """The class and the first line of a library's exception, short enough to be quoted."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}".rstrip(": ")
